"""Do maps change when they should not, and do methods agree? Comparisons between maps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from tumorxai.explain.explainer import Explainer

NOISE = 0.1  # largest change of a pixel, in standard deviations of the data

Floats = NDArray[np.float64]


def rank_correlation(first: Tensor, second: Tensor) -> Floats:
    """Spearman's rank correlation of two maps, for each image.

    Args:
        first: (B, H, W).
        second: (B, H, W).

    Returns:
        (B,) in [-1, 1]; NaN where one of the maps is flat.
    """
    a, b = (rankdata(maps.flatten(1).cpu().numpy(), axis=1) for maps in (first, second))
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.asarray(np.where(norm > 0, (a * b).sum(axis=1) / np.where(norm > 0, norm, 1), np.nan))


def distance(changed: Tensor, maps: Tensor) -> Floats:
    """Length of the difference of two maps, relative to that of the second; NaN where that is zero everywhere; (B,)."""
    length = maps.flatten(1).norm(dim=1)
    gone = (changed - maps).flatten(1).norm(dim=1)
    return np.asarray(
        torch.where(length > 0, gone / length.clamp(min=1e-12), torch.nan).cpu().numpy(), dtype=np.float64
    )


def max_sensitivity(
    explainer: Explainer, images: Tensor, targets: Tensor, method: str, maps: Tensor, samples: int, seed: int = 0
) -> Floats:
    """Largest relative change of a map under small noise (Yeh et al., arXiv 1901.09392, definition 4), by sampling.

    Args:
        explainer: of the classifier.
        images: normalised, (B, C, S, S).
        targets: class of each image (B,), which the noise does not change.
        method: a key of ``explain.methods.NAMES``.
        maps: what it gives for ``images``.
        samples: draws of the noise, uniform within NOISE.
        seed: of the noise.

    Returns:
        (B,), 0 or more, lower is better; NaN where the map is flat.
    """
    generator = torch.Generator().manual_seed(seed)
    worst = np.zeros(len(images))
    for _ in range(samples):
        noise = (2 * torch.rand(images.shape, generator=generator) - 1) * NOISE
        worst = np.maximum(worst, distance(explainer.maps(images + noise.to(images.device), targets, method), maps))
    return worst


def other_image(maps: Tensor) -> Floats:
    """Relative distance of each map to the next image's, the yardstick of :func:`max_sensitivity`; (B,)."""
    return distance(maps.roll(1, dims=0), maps)


def agreement(maps: Mapping[str, Tensor]) -> dict[str, dict[str, float | None]]:
    """Mean rank correlation between the maps of each two methods; None where flat maps leave nothing to compare.

    Args:
        maps: by method, (B, H, W) each.
    """
    table: dict[str, dict[str, float | None]] = {name: {} for name in maps}
    for first in maps:
        for second in maps:
            if second in table and first in table[second]:
                table[first][second] = table[second][first]
                continue
            found = rank_correlation(maps[first], maps[second])
            found = found[~np.isnan(found)]
            table[first][second] = float(found.mean()) if len(found) else None
    return table
