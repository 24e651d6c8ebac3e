"""Do heat-maps lie on the lesion? Scores beside the floors that a map without any insight reaches."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from tumorxai.evaluate.statistics import mean_interval

Maps = NDArray[np.float32]
SIGMA = 0.25  # of the centre floor's Gaussian, as a share of the image's side


def energy(maps: Maps, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of a map's sum that lies inside the mask (Wang et al., Score-CAM, arXiv 1910.01279, section 4.2).

    A map of zeros prefers no place: it counts as uniform, that is, gets the share of the mask's area.

    Args:
        maps: (B, H, W), not negative.
        masks: (B, H, W), each with at least one pixel.

    Returns:
        Shape (B,), in [0, 1].
    """
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    inside = np.where(masks, maps, 0).sum(axis=(1, 2), dtype=np.float64)
    area = masks.mean(axis=(1, 2))
    return np.asarray(np.where(total > 0, inside / np.where(total > 0, total, 1), area))


def pointing(maps: Maps, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Pointing game: does the map's maximum lie inside the mask? (Zhang et al., arXiv 1608.00507, section 4.1).

    No tolerance is granted around the mask, unlike the paper's 15 pixels. Tied maxima share the hit.

    Args:
        maps: (B, H, W).
        masks: (B, H, W).

    Returns:
        Shape (B,), in [0, 1].
    """
    top = maps == maps.max(axis=(1, 2), keepdims=True)
    return np.asarray((top & masks).sum(axis=(1, 2)) / top.sum(axis=(1, 2)))


def pixel_auroc(maps: Maps, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Area under the ROC curve of a map as a score of "this pixel is lesion", by the rank-sum; ties count half.

    Args:
        maps: (B, H, W).
        masks: (B, H, W), each with pixels inside and outside.

    Returns:
        Shape (B,), in [0, 1]; 0.5 is chance.
    """
    ranks = rankdata(maps.reshape(len(maps), -1), axis=1)
    inside = masks.reshape(len(masks), -1)
    positive = inside.sum(axis=1).astype(np.float64)
    negative = inside.shape[1] - positive
    above = np.where(inside, ranks, 0).sum(axis=1) - positive * (positive + 1) / 2
    return np.asarray(above / (positive * negative))


SCORES = {"energy": energy, "pointing": pointing, "pixel_auroc": pixel_auroc}


def floors(count: int, size: int, grid: tuple[int, int], seed: int) -> dict[str, Maps]:
    """Maps that know nothing of the image.

    Args:
        count: number of maps, B.
        size: side of a map, pixels.
        grid: cells of the random map: a heat-map is as coarse as the layer that it comes from.
        seed: of the random maps.

    Returns:
        Maps (B, size, size): ``uniform``, ``random`` (noise on the grid, enlarged as a heat-map is) and ``centre`` (a
        Gaussian, for lesions tend to the middle).
    """
    generator = np.random.default_rng(seed)
    noise = generator.random((count, *grid), dtype=np.float32)
    axis = (np.arange(size) + 0.5) / size - 0.5
    bell = np.exp(-(axis**2) / (2 * SIGMA**2)).astype(np.float32)
    return {
        "uniform": np.ones((count, size, size), dtype=np.float32),
        "random": np.stack([cv2.resize(cells, (size, size)) for cells in noise]),
        "centre": np.broadcast_to(np.outer(bell, bell), (count, size, size)),
    }


def summarise(
    maps: Maps, masks: NDArray[np.bool_], grid: tuple[int, int], clusters: NDArray[np.int64], seed: int
) -> dict[str, Any]:
    """Every score of the maps and of the floors, with 95% intervals over resampled clusters.

    Args:
        maps: (B, S, S).
        masks: (B, S, S), each with pixels inside and outside.
        grid: cells of the layer that the maps come from.
        clusters: cluster of each image (B,), see :func:`tumorxai.evaluate.statistics.mean_interval`.
        seed: of the random floor and of the bootstrap.

    Returns:
        Score name to ``{"map", "uniform", "random", "centre"}``, each ``{"value", "low", "high"}``.
    """
    sources = {"map": maps, **floors(len(maps), maps.shape[-1], grid, seed)}
    return {
        name: {source: mean_interval(score(drawn, masks), clusters, seed) for source, drawn in sources.items()}
        for name, score in SCORES.items()
    }
