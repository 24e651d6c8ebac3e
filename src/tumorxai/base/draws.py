"""Draws of some of the labels, and what is kept of protocols that are repeated over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.base.dataset import Dataset
from tumorxai.base.predictions import images
from tumorxai.files import sha256, write_csv, write_json

Ints = NDArray[np.int64]


def label_ranks(labels: NDArray[Any], unit: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Rank in [0, 1) such that ``rank < f`` selects max(1, floor(f n + 1/2)) of each class's n images, nested.

    Ranks go round the units: a second image of a patient or a copy comes after a first image of every other unit.
    """
    ranks = np.zeros(len(labels))
    shuffled = rng.permutation(len(labels))
    for label in np.unique(labels):
        own = shuffled[labels[shuffled] == label]
        turn = pd.Series(unit[own]).groupby(unit[own]).cumcount().to_numpy()
        own = own[np.argsort(turn, kind="stable")]
        # floor(f n + 1/2) > i  <=>  f >= (i + 1/2) / n; the tiny step turns >= into >
        ranks[own] = (np.arange(len(own)) + 0.5) / len(own) - 1e-9
        ranks[own[0]] = 0.0
    return ranks


def labelled(dataset: Dataset, fraction: float, draw: int, seed: int) -> Ints:
    """Ids of the training images that draw number ``draw`` of a fraction of the labels may use.

    Draw 0 is the split's own. Each draw's subsets are stratified and nested, and take images of one cluster last.
    """
    if draw == 0:
        return dataset.labelled(fraction)
    train = dataset.indices("train")
    ranks = label_ranks(dataset.labels[train], dataset.clusters(train), np.random.default_rng([seed, draw]))
    return train[ranks < fraction]


def keep(dataset: Dataset, said: Mapping[str, Sequence[tuple[Ints, Ints]]], path: Path) -> None:
    """Write the classes that each draw says of the test images.

    Args:
        dataset: the images.
        said: for each setting (a fraction of labels, a number of shots) the draws: ids of the labelled images, and the
            class of every image of the pack (N,).
        path: CSV to write: the columns IMAGE and ``SETTING/DRAW``. The numbers of labelled images, and of the
            different ones among them (clusters), go beside it.
    """
    test = dataset.indices("test")
    names = np.array(dataset.classes, dtype=object)
    columns = {
        f"{setting}/{number}": names[predicted[test]]
        for setting, draws in said.items()
        for number, (_, predicted) in enumerate(draws)
    }
    write_csv(path, pd.concat([images(dataset, test), pd.DataFrame(columns)], axis=1))
    counts = {setting: [len(ids) for ids, _ in draws] for setting, draws in said.items()}
    different = {
        setting: [len(np.unique(dataset.clusters(ids))) for ids, _ in draws] for setting, draws in said.items()
    }
    write_json(path.with_suffix(".json"), {"labelled": counts, "different": different, "sha256": sha256(path)})
