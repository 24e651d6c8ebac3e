"""Intervals by a cluster bootstrap.

Whole clusters (duplicate groups, patients) are drawn with replacement, because images of one cluster are not
independent (Field and Welsh 2007, J. R. Statist. Soc. B 69, section 3.1: the randomised cluster bootstrap).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
LEVEL = 0.95


def resample(clusters: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the G clusters of n images with replacement, RESAMPLES times.

    Args:
        clusters: cluster of each image (n,), any integers.
        seed: equal seeds and clusters give equal, hence paired, draws.

    Returns:
        Place of each image's cluster, 0 to G - 1, (n,); how often each cluster was drawn, (RESAMPLES, G).
    """
    members, index = np.unique(clusters, return_inverse=True)
    chances = np.full(len(members), 1 / len(members))
    return index, np.random.default_rng(seed).multinomial(len(members), chances, size=RESAMPLES)


def entry(value: Any, sample: NDArray[np.float64]) -> dict[str, float]:
    """A value with the 95% percentile interval of its resamples; resamples without a value (NaN) are left out."""
    low, high = np.nanquantile(sample, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": float(value), "low": float(low), "high": float(high)}


def mean_interval(values: ArrayLike, clusters: NDArray[np.int64], seed: int) -> dict[str, float]:
    """Mean of some images' values with its interval.

    Args:
        values: one value for each image, array-like of shape (n,), n at least 1.
        clusters: cluster of each image (n,).
        seed: of the bootstrap.

    Returns:
        ``{"value", "low", "high"}``.
    """
    own = np.asarray(values, dtype=np.float64)
    index, weights = resample(clusters, seed)
    return entry(own.mean(), (weights @ np.bincount(index, weights=own)) / (weights @ np.bincount(index)))
