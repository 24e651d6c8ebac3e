"""The cluster bootstrap, which every interval of the project comes from.

Whole clusters (duplicate groups, patients) are drawn with replacement, because images of one cluster are not
independent (Field and Welsh 2007, J. R. Statist. Soc. B 69, section 3.1: the randomised cluster bootstrap).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
LEVEL = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """The sample and its resamples; every statistic is taken of all of them at once.

    Attributes:
        index: place of each image's cluster, 0 to G - 1, shape (n,).
        weights: how often each cluster was drawn, shape (1 + RESAMPLES, G); row 0 is the sample itself, all ones.
    """

    index: NDArray[np.int64]
    weights: Floats

    def totals(self, values: ArrayLike) -> Floats:
        """Sums of the images' values, shape (n, ...), in the sample and in each resample: (1 + RESAMPLES, ...)."""
        own = np.asarray(values, dtype=np.float64)
        clusters = np.zeros((self.weights.shape[1], *own.shape[1:]))
        np.add.at(clusters, self.index, own)
        return np.tensordot(self.weights, clusters, axes=1)

    def means(self, values: ArrayLike) -> Floats:
        """Means of the images' values, shape (n,), in the sample and in each resample: (1 + RESAMPLES,)."""
        return self.totals(values) / self.totals(np.ones(len(self.index)))


def draw(clusters: NDArray[np.int64], seed: int) -> Draw:
    """Draw the G clusters of n images with replacement, RESAMPLES times.

    Args:
        clusters: cluster of each image (n,), any integers, n at least 1.
        seed: equal seeds and clusters give equal, hence paired, draws.
    """
    members, index = np.unique(clusters, return_inverse=True)
    count = len(members)
    chosen = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count)) + count * np.arange(RESAMPLES)[:, None]
    drawn = np.bincount(chosen.ravel(), minlength=RESAMPLES * count).reshape(RESAMPLES, count)
    return Draw(index, np.vstack([np.ones(count), drawn]))


def entry(values: Floats) -> dict[str, Any]:
    """A statistic with its 95% percentile interval.

    Args:
        values: of the sample and of its resamples, shape (1 + RESAMPLES,); resamples without a value (NaN) are left
            out.

    Returns:
        ``{"value", "low", "high"}``; all three null where the sample itself has no value.
    """
    if np.isnan(values[0]):
        return {"value": None, "low": None, "high": None}
    low, high = np.nanquantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}
