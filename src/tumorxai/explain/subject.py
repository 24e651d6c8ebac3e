"""One classifier, the test images that it is explained on, and its maps of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tumorxai.base.dataset import Dataset
from tumorxai.errors import UserError
from tumorxai.explain.explainer import Explainer
from tumorxai.files import REPRO, read_array

Ids = NDArray[np.int64]


def lesions(data: Path, dataset: Dataset) -> tuple[Ids, NDArray[np.bool_]]:
    """The test images whose mask survived packing with pixels inside and outside.

    Args:
        data: folder of ``masks.npy``.
        dataset: the images.

    Returns:
        Their ids (n,), ascending, and their masks (n, S, S).
    """
    ids = dataset.indices("test")
    rows = dataset.table["mask"].to_numpy()[ids]
    ids, rows = ids[rows >= 0], rows[rows >= 0]
    if not len(ids):
        return ids, np.zeros((0, *dataset.images.shape[2:]), dtype=bool)
    masks = _masks(data / "masks.npy", dataset, rows).astype(bool)
    area = masks.mean(axis=(1, 2))
    usable = (area > 0) & (area < 1)
    return ids[usable], masks[usable]


def _masks(path: Path, dataset: Dataset, rows: Ids) -> NDArray[np.uint8]:
    size = dataset.images.shape[2]
    masks: NDArray[np.uint8] = read_array(path, np.uint8, (None, size, size))
    if rows.max() >= len(masks):
        raise UserError(
            f"{path}: got {len(masks)} masks; expected those of catalogue.csv, {rows.max() + 1} or more; {REPRO}"
        )
    return masks[rows]


def choose(truth: Ids, predicted: Ids, count: int, seed: int) -> Ids:
    """Cases for a sheet: in turn from each class, right and wrong answers alternating as far as there are any.

    Args:
        truth: class indices (n,).
        predicted: class indices (n,).
        count: how many cases.
        seed: of the order within a class.

    Returns:
        At most ``count`` positions in ``truth``, class by class, right answers first.
    """
    order = np.random.default_rng(seed).permutation(len(truth))
    turn = np.empty(len(truth), dtype=np.int64)  # a case's place in the queue of its class and outcome
    for label in np.unique(truth):
        for right in (True, False):
            own = order[(truth[order] == label) & ((predicted == truth)[order] == right)]
            turn[own] = 2 * np.arange(len(own)) + (not right)
    chosen = np.lexsort((order.argsort(), truth, turn))[:count]
    return chosen[np.lexsort((predicted[chosen] != truth[chosen], truth[chosen]))]


def draw(ids: Ids, count: int, seed: int) -> Ids:
    """At most ``count`` of the ids at random, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(ids)[:count])


@dataclass(frozen=True)
class Subject:
    """A classifier under explanation.

    Attributes:
        explainer: of the classifier.
        ids: of the images (n,), ascending.
        images: normalised, (n, C, S, S).
        targets: predicted classes, which are explained, right or wrong (n,).
        probabilities: of those (n,).
        maps: by method or floor, (n, S, S).
        skipped: why methods were left out.
        outlines: by image id, the lesion's mask (S, S), for all test images that have one.
        drawn: ids of the images that are ``scored`` against lesions, ``perturbed`` and ``shown``, each ascending or in
            the order of showing.
        by_class: ids of the images on each class's own sheet.
    """

    explainer: Explainer
    ids: Ids
    images: Tensor
    targets: Tensor
    probabilities: NDArray[np.float64]
    maps: dict[str, Tensor]
    skipped: dict[str, str]
    outlines: dict[int, NDArray[np.bool_]]
    drawn: dict[str, Ids]
    by_class: dict[str, Ids]

    def places(self, ids: Ids) -> Ids:
        """Where some of the images stand among all."""
        return np.searchsorted(self.ids, ids)

    def maps_of(self, ids: Ids) -> dict[str, Tensor]:
        """Maps of some of the images."""
        chosen = torch.from_numpy(self.places(ids)).to(self.images.device)
        return {name: maps[chosen] for name, maps in self.maps.items()}

    def masks_of(self, ids: Ids) -> NDArray[np.bool_]:
        """Lesion masks (n, S, S) of images that have one."""
        return np.stack([self.outlines[int(image)] for image in ids]) if len(ids) else np.zeros((0, 1, 1), dtype=bool)
