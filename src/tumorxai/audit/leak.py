"""What a leak is made of: the pixel neighbour's accuracy with the copies, without them, and with as much else missing.

A grouped split differs from a random one in two ways: no copy of a test image is trained on, and fewer different images
are. Random minus grouped mixes both. Taking the copies of test images out of a random split's training side, and beside
it as many other groups, tells them apart.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from tumorxai.base.pixels import BLOCK, nearest
from tumorxai.config import Split
from tumorxai.errors import UserError
from tumorxai.split import units
from tumorxai.split.split import draw

DEPTH = 64  # neighbours of each image that are kept in order
PROTOCOLS: tuple[str, ...] = get_args(Split.model_fields["protocol"].annotation)
PARTS = {
    "random": "random",
    "copies_removed": "random, copies of test images removed from training",
    "others_removed": "random, as many other groups removed",
    "grouped": "grouped, copies and named patients on one side",
    "patients": "patients, found patients and series as well",
}

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


class Neighbours:
    """Images in the order of their distance, so that one of a side is found without computing distances again."""

    def __init__(self, features: Floats) -> None:
        """Order the nearest DEPTH of N images for each.

        Args:
            features: see :func:`tumorxai.base.pixels.pixels`, shape (N, D).
        """
        self.features = features
        norms, count = (features**2).sum(axis=1), len(features)
        self.order = np.empty((count, min(DEPTH, count - 1)), dtype=np.int32)
        for start in tqdm(range(0, count, BLOCK), "pixel neighbours", disable=None, leave=False):
            distance = norms - 2.0 * features[start : start + BLOCK] @ features.T
            distance[np.arange(len(distance)), start + np.arange(len(distance))] = np.inf
            near = np.argpartition(distance, self.order.shape[1] - 1, axis=1)[:, : self.order.shape[1]]
            near.sort(axis=1)  # the first on a tie
            ranks = np.argsort(np.take_along_axis(distance, near, axis=1), axis=1, kind="stable")
            self.order[start : start + BLOCK] = np.take_along_axis(near, ranks, axis=1)

    def nearest(self, train: Ids, test: Ids) -> Ids:
        """The training image nearest to each test image, shape of ``test``."""
        member = np.zeros(len(self.features), dtype=bool)
        member[train] = True
        hits = member[self.order[test]]
        found: Ids = self.order[test, hits.argmax(axis=1)].astype(np.int64)
        far = ~hits.any(axis=1)
        found[far] = nearest(self.features, train, test[far])
        return found


def take_apart(
    table: pd.DataFrame, labels: Ids, neighbours: Neighbours, split: Split, seeds: int, seed: int
) -> dict[str, Any] | None:
    """Accuracy of the pixel neighbour in every one of PARTS, over several draws of the split.

    Args:
        table: N images, catalogue and groups; see :func:`tumorxai.split.split.draw`.
        labels: class of each image, shape (N,).
        neighbours: of the N images.
        split: sizes of the sides; its protocol is replaced.
        seeds: draws of each split.
        seed: of the first; the others follow.

    Returns:
        ``seeds`` and ``parts``: for each of PARTS that can be drawn ``accuracy`` (the mean), ``sd`` over the seeds
        (null for one seed), and the mean numbers of ``train_groups``, ``test_groups``, ``train_images``; null where no
        random split can be drawn.
    """
    group, runs = table["group"].to_numpy(), dict[str, list[tuple[float, ...]]]()
    names: list[str] = [name for name in ("random", "grouped", "patients") if name in PROTOCOLS]
    drawn = {name: Split.model_validate(split.model_dump() | {"protocol": name}) for name in names}
    found = {name: units.find(table, table, settings) for name, settings in drawn.items() if name != "random"}
    for own in tqdm(range(seed, seed + seeds), "seeds of the split", disable=None, leave=False):
        sides = {}
        for name, settings in drawn.items():
            try:
                sides[name] = draw(table, table, settings, own, found.get(name))["side"].to_numpy()
            except UserError:  # too few units of a class, say
                continue
        for name, (train, test) in _pools(sides, group, np.random.default_rng(own)).items():
            if len(train) and len(test):
                right = labels[neighbours.nearest(train, test)] == labels[test]
                counts = (len(np.unique(group[ids])) for ids in (train, test))
                runs.setdefault(name, []).append((float(right.mean()), *counts, len(train)))
    if "random" not in runs:
        return None
    return {"seeds": seeds, "parts": {name: _entry(np.array(runs[name])) for name in PARTS if name in runs}}


def _pools(sides: dict[str, NDArray[Any]], group: NDArray[Any], rng: np.random.Generator) -> dict[str, tuple[Ids, Ids]]:
    """Training and test images of each of PARTS that there is."""
    pools = {name: (np.flatnonzero(side == "train"), np.flatnonzero(side == "test")) for name, side in sides.items()}
    if "random" in pools:
        train, test = pools["random"]
        copied, own = np.isin(group[train], group[test]), group[train]
        others = np.unique(own[~copied])
        gone = rng.permutation(others)[: len(np.unique(own[copied]))]
        pools["copies_removed"] = train[~copied], test
        pools["others_removed"] = train[~np.isin(own, gone)], test
    return pools


def _entry(runs: NDArray[np.float64]) -> dict[str, Any]:
    """Means of one part's runs, rows of accuracy, groups in training and test, and training images."""
    accuracy, train, test, images = runs.mean(axis=0)
    sd = round(float(runs[:, 0].std(ddof=1)), 6) if len(runs) > 1 else None
    groups = {"train_groups": round(train, 1), "test_groups": round(test, 1), "train_images": round(images, 1)}
    return {"accuracy": round(accuracy, 6), "sd": sd, "draws": len(runs), **groups}
