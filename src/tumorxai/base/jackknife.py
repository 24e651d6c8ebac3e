"""The jackknife over clusters, which every interval of the project comes from.

Whole clusters (duplicate groups, patients) are left out, each in turn, because images of one cluster are not
independent. What a statistic then changes by gives its standard error, which is rather too large than too small (Efron
and Stein 1981, Ann. Statist. 9), and tells how many clusters carry it. ``benchmarks/interval_coverage.py`` measures
what these intervals hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tumorxai.base.counts import ratio

GROUPS = 1000  # most that are left out in turn: of more clusters, as many groups of them
LEVEL = 0.95
CERTAIN = 1e-12  # p (1 - p) below which a share counts as 0 or 1: what rounding leaves of sums of images

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """The sample and what is left of it without each cluster; every statistic is taken of all of them at once.

    Attributes:
        index: place of each image's cluster, 0 to G - 1, shape (n,).
        weights: how often each cluster counts, shape (1 + R, G); row 0 is the sample itself, all ones.
    """

    index: NDArray[np.int64]
    weights: Floats

    def totals(self, values: ArrayLike) -> Floats:
        """Sums of the images' values, shape (n, ...), in the sample and without each cluster: (1 + R, ...)."""
        own = np.asarray(values, dtype=np.float64)
        clusters = np.zeros((self.weights.shape[1], *own.shape[1:]))
        np.add.at(clusters, self.index, own)
        return np.tensordot(self.weights, clusters, axes=1)

    def means(self, values: ArrayLike) -> Floats:
        """Means of the images' values, shape (n,), in the sample and without each cluster: (1 + R,)."""
        return ratio(self.totals(values), self.totals(np.ones(len(self.index))))

    def effective(self, of: ArrayLike | None = None) -> float:
        """As how many clusters of equal size the images count: (sum of n_g)^2 / sum of n_g^2 (Kish 1965, section 8.2).

        Args:
            of: how much each image counts (n,), for instance whether it is of a class; all alike by default.
        """
        sizes = np.bincount(self.index, weights=None if of is None else np.asarray(of, dtype=np.float64))
        return float(sizes.sum() ** 2 / max((sizes.astype(np.float64) ** 2).sum(), 1.0)) if sizes.any() else 0.0

    def changes(self, values: Floats, of: ArrayLike | None = None) -> Floats | None:
        """By how much a statistic changes without each cluster, where it then has a value.

        Args:
            values: of the sample and without each cluster (1 + R,).
            of: the images that tell the statistic, see :meth:`effective`.

        Returns:
            None where fewer than two clusters tell it.
        """
        known = values[1:][~np.isnan(values[1:])]
        told = len(np.unique(self.index if of is None else self.index[np.asarray(of) > 0]))
        return None if min(told, len(known)) < 2 else known - values[0]

    def error(self, values: Floats, of: ArrayLike | None = None) -> float:
        """Standard error of a statistic, infinite where fewer than two clusters tell it; see :meth:`changes`."""
        changes = self.changes(values, of)
        return float("inf") if changes is None else float(((changes**2).sum() * (1 - 1 / len(changes))) ** 0.5)

    def freedom(self, values: Floats, of: ArrayLike | None = None) -> float:
        """Degrees of freedom of the standard error, at least 1; see :meth:`changes`.

        They are Satterthwaite's (1946, Biometrics Bull. 2), those of the chi-squared whose variance is that of the sum
        of the clusters' squares, which their fourth powers tell. Where few clusters carry the errors they are few.
        """
        changes = self.changes(values, of)
        if changes is None:
            return 1.0
        told = min(len(changes), len(np.unique(self.index if of is None else self.index[np.asarray(of) > 0])))
        squares = changes**2
        total = float(squares.sum() ** 2)
        excess = float((squares**2).sum()) / total - 1 / told if total else 0.0
        return max(1.0, min(told - 1.0, 2 / excess if excess > 0 else np.inf))

    def entry(
        self,
        values: Floats,
        low: float = 0.0,
        high: float = 1.0,
        of: ArrayLike | None = None,
        level: float = LEVEL,
        unseen: float = 0.0,
        least: float | None = None,
        cautious: bool = False,
    ) -> dict[str, Any]:
        """A statistic with its interval, which always holds it.

        Within bounds it is Student's on a scale on which a rare loss has no skewed error, see :func:`limits`; beyond
        what the same share of as many independent images as there are clusters would have, Wilson's (1927, J. Am. Stat.
        Assoc. 22), it never goes. That holds for areas under the ROC curve too (Birnbaum and Klose 1957, Ann. Math.
        Statist. 28). Without bounds it is Student's of the statistic.

        Args:
            values: of the sample and without each cluster, shape (1 + R,).
            low: the least that the statistic can be; minus infinity for none.
            high: the most; infinity for none.
            of: the images that tell the statistic, see :meth:`effective`; all by default.
            level: how often the interval is to hold the truth.
            unseen: variance to add, which the clusters cannot show.
            least: as how many independent images the sample counts at the least; as effective clusters by default.
            cautious: whether there are no more degrees of freedom than effective clusters less one.

        Returns:
            ``{"value", "low", "high"}``; all three null where the sample itself has no value, the bounds where one
            cluster tells a statistic that has no bounds.
        """
        if np.isnan(values[0]):
            return {"value": None, "low": None, "high": None}
        value, error = float(values[0]), float(np.hypot(self.error(values, of), unseen**0.5))
        effective, freedom = max(self.effective(of), 1.0), self.freedom(values, of)
        if cautious:
            freedom = max(1.0, min(freedom, effective - 1))
        bounds = limits(value, error, freedom, effective if least is None else least, low, high, level)
        return {"value": value, "low": bounds[0], "high": bounds[1]}


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
    value: float, error: float, freedom: float, images: float, low: float, high: float, level: float
) -> tuple[float | None, float | None]:
    """Both ends of the interval of :meth:`Draw.entry`.

    Within bounds, of the share p of the range, it is Student's of (2p - 1) / sqrt(p (1 - p)), whose error does not
    depend on p where the variance goes with (p (1 - p))^3, near a bound with the cube of the distance, as of an inverse
    Gaussian loss. The scale was chosen by simulation, among those of Wilson, of logits and of reciprocals.

    Args:
        value: of the statistic.
        error: its standard error, infinite if unknown.
        freedom: degrees of freedom of the error.
        images: as how many independent images the sample counts at the least; 0 if that is unknown and the error known.
        low: the least that the statistic can be.
        high: the most.
        level: of the interval.
    """
    tail = (1 + level) / 2
    reach = float(stats.t.ppf(tail, freedom))
    if np.isfinite(low) and np.isfinite(high):
        share = (value - low) / (high - low)
        first, last = wilson(share, images, float(stats.norm.ppf(tail))) if images else (0.0, 1.0)
        spread = share * (1 - share)
        if spread > CERTAIN and np.isfinite(error):
            middle, half = (2 * share - 1) / spread**0.5, reach * error / (high - low) / (2 * spread**1.5)
            ends = [(1 + end / (end**2 + 4) ** 0.5) / 2 for end in (middle - half, middle + half)]
            first, last = max(first, ends[0]), min(last, ends[1])
        return min(low + (high - low) * first, value), max(low + (high - low) * last, value)
    if not np.isfinite(error):
        return None, None
    return max(low, value - reach * error), min(high, value + reach * error)


def draw(clusters: NDArray[np.int64], seed: int) -> Draw:
    """Leave each of the G clusters of n images out in turn, or each of GROUPS groups of them if there are more.

    Args:
        clusters: cluster of each image (n,), any integers, n at least 1.
        seed: of the grouping (the delete-a-group jackknife, Kott 2001, J. Off. Stat. 17).
    """
    members, index = np.unique(clusters, return_inverse=True)
    count = len(members)
    rows = min(count, GROUPS)
    group = np.random.default_rng(seed).permutation(count) % rows if count > rows else np.arange(count)
    return Draw(index, np.vstack([np.ones(count), (group != np.arange(rows)[:, None]).astype(np.float64)]))
