"""Do heat-maps lie on the lesion? One value for each image; a classifier may look elsewhere with good reason."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Maps = NDArray[np.float32]
FIXED = 0.5  # of the map's maximum
THRESHOLDS = np.linspace(0.05, 0.95, 19).round(2)


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


def iou(maps: Maps, masks: NDArray[np.bool_], threshold: float) -> NDArray[np.float64]:
    """Intersection over union of the mask and of what lies at or above a threshold; a flat map covers the whole image.

    Args:
        maps: (B, H, W) in [0, 1].
        masks: (B, H, W), each with at least one pixel.
        threshold: in (0, 1].

    Returns:
        Shape (B,), in [0, 1].
    """
    covered = (maps >= threshold) | (maps.max(axis=(1, 2), keepdims=True) == 0)
    both = (covered & masks).sum(axis=(1, 2))
    return np.asarray(both / (covered | masks).sum(axis=(1, 2)))


def best_threshold(maps: Maps, masks: NDArray[np.bool_]) -> float:
    """The one threshold for all images at which the mean IoU is highest (as in Choe et al., 2001.07437, section 3.2).

    It is chosen with the masks in view, for methods and floors alike: a bound, not a promise.
    """
    return float(THRESHOLDS[np.argmax([iou(maps, masks, threshold).mean() for threshold in THRESHOLDS])])


def scores(maps: Maps, masks: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    """Every score of every image, by name; higher is better in all of them.

    Args:
        maps: (B, H, W) in [0, 1].
        masks: (B, H, W), each with pixels inside and outside.
    """
    return {
        "energy": energy(maps, masks),
        "pointing": pointing(maps, masks),
        "iou_fixed": iou(maps, masks, FIXED),
        "iou_best": iou(maps, masks, best_threshold(maps, masks)),
        "pixel_auroc": pixel_auroc(maps, masks),
    }
