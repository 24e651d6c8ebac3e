"""The cluster bootstrap, which every interval of the project comes from.

Whole clusters (duplicate groups, patients) are drawn with replacement, because images of one cluster are not
independent (Field and Welsh 2007, J. R. Statist. Soc. B 69, section 3.1: the randomised cluster bootstrap). The
resamples give the standard error alone. Their percentiles are no interval: with a dozen clusters they hold the truth
too seldom, they have no width where all images are right, and of a biased statistic they may not even hold the
estimate. ``benchmarks/interval_coverage.py`` measures what these intervals hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 2000
LEVEL = 0.95
CERTAIN = 1e-9  # p (1 - p) below which a share counts as 0 or 1: what rounding leaves of sums of images

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

    def effective(self, of: ArrayLike | None = None) -> float:
        """As how many clusters of equal size the images count: (sum of n_g)^2 / sum of n_g^2 (Kish 1965, section 8.2).

        Args:
            of: how much each image counts (n,), for instance whether it is of a class; all alike by default.
        """
        sizes = np.bincount(self.index, weights=None if of is None else np.asarray(of, dtype=np.float64))
        return float(sizes.sum() ** 2 / max((sizes.astype(np.float64) ** 2).sum(), 1.0)) if sizes.any() else 0.0

    def error(self, values: Floats, of: ArrayLike | None = None) -> float:
        """Standard error of a statistic, infinite where fewer than two clusters tell it.

        The resamples' deviation, times the root of G / (G - 1): that of resamples of G clusters is too small by that.

        Args:
            values: of the sample and of its resamples (1 + RESAMPLES,); resamples without a value (NaN) are left out.
            of: the images that tell the statistic, see :meth:`effective`.
        """
        told = len(np.unique(self.index if of is None else self.index[np.asarray(of) > 0]))
        known = values[1:][~np.isnan(values[1:])]
        if told < 2 or not len(known):
            return float("inf")
        return float(known.std() * (told / (told - 1)) ** 0.5)

    def entry(
        self,
        values: Floats,
        low: float = 0.0,
        high: float = 1.0,
        of: ArrayLike | None = None,
        level: float = LEVEL,
        unseen: float = 0.0,
    ) -> dict[str, Any]:
        """A statistic with its interval, which always holds it.

        Within bounds it is Wilson's (1927, J. Am. Stat. Assoc. 22), for as many independent images as have the same
        standard error (Kish's design effect; Korn and Graubard 1998, Survey Methodology 24, with its quantiles of
        Student's t, here by the effective number of clusters). Where all images are right, or none, each cluster counts
        as one image. Without an upper bound it is Student's of the logarithm, without any Student's.

        Args:
            values: of the sample and of its resamples, shape (1 + RESAMPLES,).
            low: the least that the statistic can be; minus infinity for none.
            high: the most; infinity for none.
            of: the images that tell the statistic, see :meth:`effective`; all by default.
            level: how often the interval is to hold the truth.
            unseen: variance to add, which the resamples cannot show.

        Returns:
            ``{"value", "low", "high"}``; all three null where the sample itself has no value, the bounds where one
            cluster tells a statistic that has no bounds.
        """
        if np.isnan(values[0]):
            return {"value": None, "low": None, "high": None}
        value, error = float(values[0]), float(np.hypot(self.error(values, of), unseen**0.5))
        effective = self.effective(of)
        bounds = limits(value, error, effective, low, high, level)
        return {"value": value, "low": bounds[0], "high": bounds[1]}


def quantile(effective: float, level: float = LEVEL) -> float:
    """How many standard errors an interval reaches to each side, with so many clusters."""
    return float(stats.t.ppf((1 + level) / 2, max(effective - 1, 1.0)))


def wilson(share: float, images: float, reach: float) -> tuple[float, float]:
    """Wilson's interval of a share in [0, 1] among so many independent images (1927, J. Am. Stat. Assoc. 22).

    Args:
        share: that was seen.
        images: above 0; infinitely many give the share itself.
        reach: quantile, in standard errors.
    """
    part = reach**2 / images
    middle, half = share + part / 2, reach * (share * (1 - share) / images + part / images / 4) ** 0.5
    # rounding must not leave the share outside
    return min(share, max(0.0, (middle - half) / (1 + part))), max(share, min(1.0, (middle + half) / (1 + part)))


def limits(
    value: float, error: float, effective: float, low: float, high: float, level: float
) -> tuple[float | None, float | None]:
    """Both ends of the interval of :meth:`Draw.entry`.

    Args:
        value: of the statistic.
        error: its standard error, infinite if unknown.
        effective: effective number of clusters.
        low: the least that the statistic can be.
        high: the most.
        level: of the interval.
    """
    reach = quantile(effective, level)
    if np.isfinite(low) and np.isfinite(high):
        share = (value - low) / (high - low)
        spread = share * (1 - share)
        images, scaled = max(effective, 1.0), error / (high - low)
        if spread > CERTAIN and np.isfinite(error):
            ends = wilson(share, spread / scaled**2 if scaled else np.inf, reach)
        else:  # no standard error: a cluster counts as an image
            ends = wilson(share, images, float(stats.norm.ppf((1 + level) / 2)))
        first, last = (low + (high - low) * end for end in ends)
        return min(first, value), max(last, value)
    if not np.isfinite(error):
        return None, None
    if low == 0 and value > 0:  # skewed to the right, and never below 0
        factor = float(np.exp(min(reach * error / value, 700.0)))  # e^709 overflows
        return value / factor, value * factor
    return max(low, value - reach * error), value + reach * error


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
