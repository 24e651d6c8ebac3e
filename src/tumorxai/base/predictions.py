"""What a classifier says of every image: the table that is kept, and from which every figure can be recomputed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.base.dataset import Dataset
from tumorxai.errors import UserError
from tumorxai.files import write_csv, write_json

SIDES = ("train", "validation", "test")
PART = "part"  # a column of pooled predictions: the fold of a cross-validation that an image was tested in
IMAGE = ["image_id", "source", "path", "group", "cluster", "fold", "side", "sequence", "group_label", "label"]
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
    write_json(path.with_suffix(".json"), {"labelled": labelled, "chosen": chosen})


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
        truth = np.array([classes.index(name) for name in table["label"]], dtype=np.int64)
        probabilities = table[[f"p_{name}" for name in classes]].to_numpy(dtype=np.float64)
        return cls(table[IMAGE], classes, truth, probabilities)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class, (n,)."""
        found: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return found

    @property
    def clusters(self) -> NDArray[np.int64]:
        """Cluster of each image for the bootstrap, (n,)."""
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


def read_table(source: Path | IO[str]) -> pd.DataFrame:
    """Read a kept table with at least the columns IMAGE.

    Raises:
        UserError: the file is missing or is no such table.
    """
    try:
        table = pd.read_csv(source, keep_default_na=False, dtype=TEXT)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"{source}: got {error}; expected a table of predictions; run `dvc repro`") from None
    if missing := [name for name in IMAGE if name not in table]:
        raise UserError(f"{source}: got no column {', '.join(missing)}; expected all of {', '.join(IMAGE)}")
    return table
