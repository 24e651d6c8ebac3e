"""What every later stage reads: the packed pixels with the catalogue, the duplicate groups and the split, in step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tumorxai.errors import UserError
from tumorxai.files import read_array

FOLD = ":fold"  # behind a source's name: a published fold that stands in for its patients
SIDES = ("train", "unlabelled", "validation", "test", "dropped")

# Everything is text unless it stands here: an empty fold or patient must stay empty, not become NaN.
NUMBERS: dict[str, Any] = {
    **dict.fromkeys(("image_id", "group", "width", "height", "bytes", "mask"), np.int64),
    "label_rank": np.float64,
}


def read_table(path: Path) -> pd.DataFrame:
    """One of the pipeline's tables with a column ``image_id``, which becomes the index.

    Raises:
        UserError: the file is missing, is no such table, or its ids are not 0 to N - 1 in order.
    """
    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False)
        numbers = {name: pd.to_numeric(text[name]).astype(kind) for name, kind in NUMBERS.items() if name in text}
    except FileNotFoundError:
        raise UserError(f"got no {path}; expected a table from an earlier stage; run `dvc repro`") from None
    except (ValueError, UnicodeDecodeError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path}: got {error}; expected a table of comma-separated values; run `dvc repro`") from None
    if "image_id" not in numbers or not np.array_equal(numbers["image_id"], np.arange(len(text))):
        raise UserError(f"{path}: got other ids; expected image_id 0 to {len(text) - 1} in order; run `dvc repro`")
    return text.assign(**numbers).set_index("image_id")


def linked(table: pd.DataFrame, columns: tuple[str, ...]) -> NDArray[np.int64]:
    """Connected components of images that share a value in any of ``columns``; an empty text links nothing.

    Returns:
        Array of shape (N,): the number of each image's component, 0 to K - 1 in order of appearance.
    """
    rows, keys, offset = [], [], len(table)
    for column in columns:
        codes, values = pd.factorize(table[column].mask(table[column] == ""))  # missing values get the code -1
        known = np.flatnonzero(codes >= 0)
        rows.append(known)
        keys.append(codes[known] + offset)
        offset += len(values)
    row, key = np.concatenate(rows), np.concatenate(keys)
    graph = coo_array((np.ones(len(row), dtype=np.int8), (row, key)), shape=(offset, offset))
    component: NDArray[np.int32] = connected_components(graph, directed=False)[1][: len(table)]
    return pd.factorize(component)[0].astype(np.int64)


def is_fold(names: pd.Series[str]) -> pd.Series[bool]:
    """Which of some patients are folds that stand in for their patients."""
    return names.str.contains(rf"{FOLD}[^:]*$")


def clusters(table: pd.DataFrame) -> NDArray[np.int64]:
    """Cluster of each of N images: a duplicate group, patient or series, and what they chain, shape (N,).

    Patients are those that sources name and those that were found. Folds that stand in for them join nothing here: a
    handful of folds would leave no clusters to resample.

    Args:
        table: N rows with ``group``; where they are known also ``patient``, ``subject`` and ``series``.
    """
    if "subject" in table:
        table = table.assign(subject=table["subject"].mask(is_fold(table["subject"]), ""))
    return linked(table, tuple(name for name in ("group", "patient", "subject", "series") if name in table))


@dataclass(frozen=True)
class Dataset:
    """The images of one run and what is known about each.

    Attributes:
        images: uint8 array of shape (N, C, S, S), memory-mapped, grey (C = 1) or RGB (C = 3), 0 to 255.
        table: N rows, indexed by ``image_id`` (= position in ``images``): the catalogue's columns, with ``label`` as
            resolved by deduplication, joined with ``group``, ``status``, ``side`` and ``label_rank`` (NaN off the
            training side), and where the split has them ``subject``, the patient or the fold that stands in,
            ``series`` and ``known``.
        classes: sorted names of the classes among the images that are not dropped.
    """

    images: NDArray[np.uint8]
    table: pd.DataFrame
    classes: tuple[str, ...]

    @classmethod
    def load(cls, root: Path | str = Path("data")) -> Dataset:
        """Read ``pack.npy``, ``catalogue.csv``, ``groups.csv`` and ``split.csv`` under ``root``.

        Raises:
            UserError: a file is missing or the files do not belong together.
        """
        root = Path(root)
        table = read_table(root / "catalogue.csv")
        groups, split = read_table(root / "groups.csv"), read_table(root / "split.csv")
        try:
            images = read_array(root / "pack.npy")
        except FileNotFoundError:
            raise UserError(f"got no {root / 'pack.npy'}; expected the packed images; run `dvc repro`") from None
        sizes = [len(table), len(groups), len(split), len(images)]
        if len(set(sizes)) > 1:
            raise UserError(
                f"{root}: got {sizes} images in catalogue.csv, groups.csv, split.csv, pack.npy; expected one number; "
                "run `dvc repro`"
            )
        if images.dtype != np.uint8 or images.ndim != 4:
            raise UserError(
                f"{root / 'pack.npy'}: got {images.dtype} {images.shape}; expected uint8 (N, C, S, S); run `dvc repro`"
            )
        same = (groups["group"] == split["group"]) & (groups["label"] == split["label"]) & split["side"].isin(SIDES)
        if not same.all() or ((groups["status"] == "drop") & (split["side"] != "dropped")).any():
            raise UserError(
                f"{root}: got a split.csv that does not fit groups.csv; expected one drawn for it; `dvc repro split`"
            )
        drawn = [name for name in ("side", "label_rank", "subject", "series", "known") if name in split]
        table = table.assign(**groups[["group", "label", "status"]], **split[drawn])
        return cls(images, table, tuple(sorted(set(table["label"][table["side"] != "dropped"]))))

    def indices(self, side: str | tuple[str, ...]) -> NDArray[np.int64]:
        """Ids of the images on one side, or on several, ascending."""
        wanted = (side,) if isinstance(side, str) else side
        if not set(wanted) <= set(SIDES):
            raise ValueError(f"got side {side!r}; expected names out of {SIDES}")
        return np.flatnonzero(self.table["side"].isin(wanted)).astype(np.int64)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class of every image, an index into ``classes``, shape (N,); -1 for dropped images."""
        codes = pd.Categorical(self.table["label"], categories=list(self.classes)).codes.astype(np.int64)
        codes[self.table["side"].to_numpy() == "dropped"] = -1
        return codes

    def labelled(self, fraction: float) -> NDArray[np.int64]:
        """Ids of the training images whose labels a run on ``fraction`` of the labels, in (0, 1], may use."""
        return np.flatnonzero((self.table["side"] == "train") & (self.table["label_rank"] < fraction)).astype(np.int64)

    def pretraining(self, transductive: bool = False) -> NDArray[np.int64]:
        """Ids of the images that self-supervised training may look at: the training and the unlabelled side.

        Args:
            transductive: also take the validation and the test images (never their labels).
        """
        return self.indices(("train", "unlabelled", "validation", "test") if transductive else ("train", "unlabelled"))

    def clusters(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cluster of some images for a cluster bootstrap, of the shape of ``ids``, see :func:`clusters`."""
        return clusters(self.table)[ids]
