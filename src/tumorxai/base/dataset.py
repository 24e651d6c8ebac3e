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
from tumorxai.files import REPRO, read_array, read_csv, reading

FOLD = ":fold"  # behind a source's name: a published fold that stands in for its patients
SIDES = ("train", "unlabelled", "validation", "test", "dropped")
LABELLED = ("train", "validation", "test")
STATUS = ("keep", "drop")

# Everything is text unless it stands here: an empty fold or patient must stay empty, not become NaN.
NUMBERS: dict[str, Any] = {
    **dict.fromkeys(("image_id", "group", "width", "height", "bytes", "mask"), np.int64),
    "label_rank": np.float64,
}

# Columns that what comes later stands on, by the name of the file.
COLUMNS = {
    "catalogue.csv": ("source", "path", "native_label", "label", "sequence", "patient", "pixels_sha256"),
    "groups.csv": ("group", "label", "status"),
    "patients.csv": ("patient", "series", "known"),
    "split.csv": ("group", "label", "side", "label_rank"),
}


def read_table(path: Path) -> pd.DataFrame:
    """One of the pipeline's tables with a column ``image_id``, which becomes the index.

    Raises:
        UserError: the file is missing, is no such table, lacks a column of COLUMNS, or its ids are not 0 to N - 1 in
            order.
    """
    text = read_csv(path, "image_id", *COLUMNS.get(path.name, ()), dtype=str, keep_default_na=False)
    with reading(path, "a table of an earlier stage"):
        if text.isna().any(axis=None):
            raise ValueError("a line of fewer values than there are columns")
        numbers = {name: _numbers(text[name], kind) for name, kind in NUMBERS.items() if name in text}
    if not np.array_equal(numbers["image_id"], np.arange(len(text))):
        raise UserError(f"{path}: got other ids; expected image_id 0 to {len(text) - 1} in order; {REPRO}")
    return text.assign(**numbers).set_index("image_id")


def _numbers(column: pd.Series[Any], kind: Any) -> pd.Series[Any]:
    found = pd.to_numeric(column)
    numbers: pd.Series[Any] = found.astype(kind)
    if kind is np.int64 and not (numbers == found).all():
        raise ValueError(f"a {column.name} that is no whole number")
    return numbers


def read_pairs(path: Path, count: int, *columns: str) -> pd.DataFrame:
    """The table of copies: ``image_a``, ``image_b`` and how they were found, one row a pair.

    Args:
        path: of ``pairs.csv``.
        count: number of images.
        columns: that it must have besides.

    Raises:
        UserError: the file is missing, is no such table, or names images that there are not.
    """
    remedy = "run `dvc repro dedupe`"
    pairs = read_csv(path, "image_a", "image_b", *columns, remedy=remedy)
    with reading(path, "the table of copies", remedy):
        ends = {name: _numbers(pairs[name], np.int64) for name in ("image_a", "image_b")}
        if not all(((end >= 0) & (end < count)).all() for end in ends.values()):
            raise ValueError(f"an image that is none of 0 to {count - 1}")
    return pairs.assign(**ends)


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
    handful of folds would leave no clusters to tell an interval.

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
        classes: sorted names of the classes on the training, validation and test sides.
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
        images = read_array(root / "pack.npy", np.uint8, (None, None, None, None))
        sizes = [len(table), len(groups), len(split), len(images)]
        if len(set(sizes)) > 1:
            raise UserError(
                f"{root}: got {sizes} images in catalogue.csv, groups.csv, split.csv, pack.npy; expected one number; "
                f"{REPRO}"
            )
        if images.shape[1] not in (1, 3) or images.shape[2] != images.shape[3]:
            raise UserError(
                f"{root / 'pack.npy'}: got images of shape {images.shape[1:]}; expected squares, grey or in colour; "
                f"{REPRO}"
            )
        if not (table["label"] != "").all() or not groups["status"].isin(STATUS).all() or (groups["group"] < 0).any():
            raise UserError(
                f"{root}: got an image without a label, or a status or group that no stage writes; expected the "
                f"catalogue and the groups of one run; {REPRO}"
            )
        same = (groups["group"] == split["group"]) & (groups["label"] == split["label"]) & split["side"].isin(SIDES)
        train, rank = split["side"] == "train", split["label_rank"]
        ranked = (rank.ge(0) & rank.lt(1)).where(train, rank.isna())
        if not (same & ranked).all() or ((groups["status"] == "drop") & (split["side"] != "dropped")).any():
            raise UserError(
                f"{root}: got a split.csv that does not fit groups.csv; expected one drawn for it; `dvc repro split`"
            )
        drawn = [name for name in ("side", "label_rank", "subject", "series", "known") if name in split]
        table = table.assign(**groups[["group", "label", "status"]], **split[drawn])
        return cls(images, table, tuple(sorted(set(table["label"][table["side"].isin(LABELLED)]))))

    def indices(self, side: str | tuple[str, ...]) -> NDArray[np.int64]:
        """Ids of the images on one side, or on several, ascending."""
        wanted = (side,) if isinstance(side, str) else side
        if not set(wanted) <= set(SIDES):
            raise ValueError(f"got side {side!r}; expected names out of {SIDES}")
        return np.flatnonzero(self.table["side"].isin(wanted)).astype(np.int64)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class of every image, an index into ``classes``, shape (N,).

        -1 for dropped images, and for unlabelled ones of a class that no labelled image has.
        """
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
        """Cluster of some images for a jackknife over clusters, of the shape of ``ids``, see :func:`clusters`."""
        return clusters(self.table)[ids]
