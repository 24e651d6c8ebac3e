"""What a classifier says of every image: the table that is kept, and from which every figure can be recomputed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.base.dataset import Dataset
from tumorxai.errors import DamagedError
from tumorxai.files import REPRO, read_csv, read_json, reading, sha256, write_csv, write_json

SIDES = ("train", "validation", "test")
PART = "part"  # a column of pooled predictions: the fold of a cross-validation that an image was tested in
IMAGE = ["image_id", "source", "path", "group", "cluster", "fold", "side", "sequence", "group_label", "label"]
CLOSE = 1e-6  # how far a sum of probabilities, which are kept as decimals, may be from 1
TEXT: dict[str, Any] = dict.fromkeys(("source", "path", "fold", "side", "sequence", "group_label", "label"), str)


def visible(dataset: Dataset) -> NDArray[np.int64]:
    """Class of every image that training and choices may look at, (N,): -1 on the test side and for dropped images."""
    labels = dataset.labels.copy()
    labels[dataset.indices("test")] = -1
    return labels


def images(dataset: Dataset, ids: NDArray[np.int64]) -> pd.DataFrame:
    """What is kept of some images beside the predictions: the columns IMAGE."""
    return dataset.table.iloc[ids].reset_index().assign(cluster=dataset.clusters(ids))[IMAGE]


def keep(
    dataset: Dataset, probabilities: NDArray[np.float64], chosen: dict[str, Any], labelled: int, path: Path
) -> None:
    """Write the predictions, and beside them as JSON what was chosen on the validation side.

    Args:
        dataset: the images.
        probabilities: of each class, for all images of the pack (N, K).
        chosen: names and values.
        labelled: number of images whose labels the classifier was trained on.
        path: CSV to write: the columns IMAGE, ``predicted`` and ``p_CLASS`` for each class; a row for each on SIDES.
    """
    ids = dataset.indices(SIDES)
    names = np.array(dataset.classes, dtype=object)
    columns = {f"p_{name}": probabilities[ids, k] for k, name in enumerate(dataset.classes)}
    said = pd.DataFrame({"predicted": names[probabilities[ids].argmax(axis=1)], **columns})
    write_csv(path, pd.concat([images(dataset, ids), said], axis=1))
    write_json(path.with_suffix(".json"), {"labelled": labelled, "chosen": chosen, "sha256": sha256(path)})


@dataclass(frozen=True)
class Predictions:
    """Class probabilities of some images.

    Attributes:
        table: the columns IMAGE, n rows.
        classes: names of the K classes.
        truth: class indices (n,).
        probabilities: of each class (n, K).
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @classmethod
    def read(cls, source: Path | IO[str]) -> Predictions:
        """Read what :func:`keep` wrote.

        Raises:
            UserError: the file is missing or is no such table.
        """
        table = read_table(source)
        classes = tuple(name.removeprefix("p_") for name in map(str, table) if name.startswith("p_"))
        with reading(_name(source), "a table of predictions"):
            truth = _codes(table["label"], classes)
            probabilities = table[[f"p_{name}" for name in classes]].to_numpy(dtype=np.float64)
            if not ((probabilities >= 0) & (probabilities <= 1)).all():  # which NaN is not either
                raise ValueError("probabilities that are not in [0, 1]")
            if len(table) and np.abs(probabilities.sum(axis=1) - 1).max() > CLOSE:
                raise ValueError("probabilities that do not sum to 1")
            said = _codes(table["predicted"], classes)
            if (probabilities[np.arange(len(said)), said] < probabilities.max(axis=1, initial=0) - CLOSE).any():
                raise ValueError("a predicted class that is not the most probable one")
        return cls(table[IMAGE], classes, truth, probabilities)

    def of(self, dataset: Dataset, path: Path) -> Predictions:
        """These, if they are of all images of a data set that are not dropped.

        Args:
            dataset: the images.
            path: where they come from, for messages.

        Raises:
            UserError: they are of others.
        """
        own = images(dataset, dataset.indices(SIDES))
        if self.classes != dataset.classes or not alike(self.table, own):
            raise DamagedError(f"{path}: got predictions of other images or classes; expected those of data/; {REPRO}")
        return self

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class, (n,)."""
        found: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return found

    @property
    def clusters(self) -> NDArray[np.int64]:
        """Cluster of each image for the intervals, (n,)."""
        return self.table["cluster"].to_numpy(dtype=np.int64)

    @property
    def parts(self) -> NDArray[np.int64] | None:
        """Fold that each image was tested in, (n,); None: one classifier has answered for all."""
        return self.table[PART].to_numpy(dtype=np.int64) if PART in self.table else None

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Predictions:
        """Those of some images, by a mask or by their places."""
        return Predictions(self.table.iloc[chosen], self.classes, self.truth[chosen], self.probabilities[chosen])

    def on(self, side: str) -> Predictions:
        """Those of the images of one side."""
        return self.where((self.table["side"] == side).to_numpy())

    def merged(self, names: Sequence[str]) -> Predictions:
        """Over coarser classes, whose probabilities are sums; ``names`` gives the coarser name of each class."""
        coarse = sorted(set(names))
        index = np.array([coarse.index(name) for name in names])
        return Predictions(
            self.table, tuple(coarse), index[self.truth], self.probabilities @ np.eye(len(coarse))[index]
        )


def alike(table: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether two tables are of the same images, in the same order, with the same known of them."""
    return bool(table[IMAGE].astype(str).reset_index(drop=True).equals(other[IMAGE].astype(str).reset_index(drop=True)))


def _codes(names: Iterable[str], classes: Sequence[str]) -> NDArray[np.int64]:
    places = {name: place for place, name in enumerate(classes)}
    if unknown := sorted({str(name) for name in names} - places.keys()):
        raise ValueError(f"the class {unknown[0]!r}, which has no probabilities")
    return np.array([places[name] for name in names], dtype=np.int64)


def _name(source: Path | IO[str]) -> Path:
    return source if isinstance(source, Path) else Path("predictions")


def read_table(source: Path | IO[str]) -> pd.DataFrame:
    """Read a kept table with at least the columns IMAGE.

    Args:
        source: a file, whose card stands beside it and holds its checksum; or its content, from elsewhere.

    Raises:
        UserError: the file is missing, is no such table, or not the one that its card is of.
    """
    place = _name(source)
    if isinstance(source, Path):
        table = read_csv(source, *IMAGE, keep_default_na=False, dtype=TEXT)
        if read_json(source.with_suffix(".json"), "labelled", "sha256")["sha256"] != sha256(source):
            raise DamagedError(
                f"{source}: got other bytes than its card states; expected those that were written; {REPRO}"
            )
    else:
        with reading(place, "a table of predictions"):
            table = pd.read_csv(source, keep_default_na=False, dtype=TEXT)
    with reading(place, "a table of predictions"):
        if missing := [name for name in IMAGE if name not in table]:
            raise ValueError(f"no column {', '.join(missing)}")
        if not all(pd.api.types.is_integer_dtype(table[name]) for name in ("image_id", "group", "cluster")):
            raise ValueError("an image_id, group or cluster that is no number")
        ids = table["image_id"].to_numpy()
        if (ids < 0).any() or (np.diff(ids) <= 0).any():
            raise ValueError("an image_id twice or out of order")
        if not table["side"].isin(SIDES).all():
            raise ValueError(f"a side that is none of {', '.join(SIDES)}")
    return table
