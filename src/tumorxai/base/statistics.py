"""Intervals of means, and tests of two classifiers on the same images; copies and patients stay together in all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tumorxai.base import bootstrap
from tumorxai.base.bootstrap import Floats

ALPHA = 0.05
POWER = 0.8


def mean_interval(values: ArrayLike, clusters: NDArray[np.int64], seed: int) -> dict[str, Any]:
    """Mean of some images' values with its interval.

    Args:
        values: one value for each image, array-like of shape (n,), n at least 1.
        clusters: cluster of each image (n,).
        seed: of the bootstrap.

    Returns:
        ``{"value", "low", "high"}``.
    """
    return bootstrap.entry(bootstrap.draw(clusters, seed).means(values))


def difference(first: Floats, second: Floats) -> dict[str, Any]:
    """Paired bootstrap: difference of one score between two classifiers on the same resamples of the same images.

    Args:
        first: a score of the sample and of its resamples, shape (1 + RESAMPLES,).
        second: the same for the other classifier, drawn with the same seed and clusters.

    Returns:
        ``{"value", "low", "high", "p", "detectable"}``: first minus second with its interval; the two-sided p-value of
        no difference, from how often the resamples cross 0 (Davison and Hinkley 1997, section 4.4.1, the "+ 1" of Eq.
        4.11); and the smallest difference that a pair of such classifiers would show on this many images.
    """
    change = first - second
    known = change[1:][~np.isnan(change[1:])]
    tail = min((known <= 0).sum(), (known >= 0).sum())
    p = min(1.0, 2 * (float(tail) + 1) / (len(known) + 1))
    return bootstrap.entry(change) | {"p": p, "detectable": detectable(float(known.std()))}


def detectable(error: float) -> float:
    """Smallest true difference that a two-sided test at 5% finds with a probability of 80%.

    Args:
        error: standard error of the difference. Of two classifiers that err independently of each other it is the
            square root of 2 times that of one score; paired tests of classifiers that err alike have a smaller one.

    Source: Cohen 1988, Statistical power analysis, section 2.1, in units of the standard error.
    """
    return float((stats.norm.ppf(1 - ALPHA / 2) + stats.norm.ppf(POWER)) * error)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_], clusters: NDArray[np.int64]) -> float:
    """Exact McNemar test of two classifiers on the same images, for images that come in clusters.

    Each cluster's surplus of right answers of one classifier over the other may, if neither is better, as well have the
    other sign. The distribution of the sum over all 2^G signs is exact. With one image in each cluster it is the
    binomial one of the exact McNemar test (McNemar 1947, Psychometrika 12).

    Args:
        first: which images the first classifier has right (n,).
        second: the same for the second.
        clusters: cluster of each image (n,).

    Returns:
        The two-sided p-value.
    """
    _, index = np.unique(clusters, return_inverse=True)
    surplus = np.bincount(index, weights=first.astype(np.float64) - second).round().astype(np.int64)
    sizes = np.abs(surplus[surplus != 0])
    reach = int(sizes.sum())
    chance = np.zeros(2 * reach + 1)  # of each sum from -reach to reach
    chance[reach] = 1.0
    for size in sizes:
        chance = 0.5 * (np.roll(chance, size) + np.roll(chance, -size))  # never reaches the ends before the last
    extreme = np.abs(np.arange(-reach, reach + 1)) >= abs(int(surplus.sum()))
    return min(1.0, float(chance[extreme].sum()))


def delong(positive: NDArray[np.bool_], first: Floats, second: Floats, clusters: NDArray[np.int64]) -> dict[str, float]:
    """DeLong's test of two correlated areas under the ROC curve, for images that come in clusters.

    Source: Obuchowski 1997 (Biometrics 53), section 3; with one image in each cluster it is DeLong, DeLong and
    Clarke-Pearson 1988 (Biometrics 44), Eq. 5.

    Args:
        positive: which images are positive (n,); both kinds occur in at least two clusters.
        first: the first classifier's values, higher for positives (n,).
        second: the second's.
        clusters: cluster of each image (n,).

    Returns:
        ``{"first", "second", "difference", "error", "p"}``: both areas, first minus second, its standard error and the
        two-sided p-value, 1 where the classifiers rank alike.
    """
    _, index = np.unique(clusters, return_inverse=True)
    total = index.max() + 1
    m, n = int(positive.sum()), int((~positive).sum())
    areas, above, below = [], [], []
    for values in (first, second):
        # Sun and Xu 2014 (IEEE Signal Process. Lett. 21), Eqs. 9 and 10: the components from ranks
        ranks = stats.rankdata(values)
        v10 = (ranks[positive] - stats.rankdata(values[positive])) / n
        v01 = 1 - (ranks[~positive] - stats.rankdata(values[~positive])) / m
        areas.append(float(v10.mean()))
        above.append(np.bincount(index[positive], weights=v10 - areas[-1], minlength=total))
        below.append(np.bincount(index[~positive], weights=v01 - areas[-1], minlength=total))
    x, y = above[0] - above[1], below[0] - below[1]  # linear in the classifier, so the difference has them as well
    with_positive, with_negative = len(np.unique(index[positive])), len(np.unique(index[~positive]))
    s10 = with_positive / ((with_positive - 1) * m) * (x @ x)
    s01 = with_negative / ((with_negative - 1) * n) * (y @ y)
    s11 = total / (total - 1) * (x @ y)
    error = float(np.sqrt(max(0.0, s10 / m + s01 / n + 2 * s11 / (m * n))))
    change = areas[0] - areas[1]
    p = float(2 * stats.norm.sf(abs(change) / error)) if error > 0 else 1.0
    return {"first": areas[0], "second": areas[1], "difference": change, "error": error, "p": p}


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for being many (Holm 1979, Scand. J. Statist. 6): the chance of one false finding is kept.

    Args:
        p: of m tests.

    Returns:
        The m adjusted p-values, in the given order.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(np.minimum(1.0, values[order] * np.arange(len(values), 0, -1)))
    adjusted = np.empty_like(steps)
    adjusted[order] = steps
    return [float(value) for value in adjusted]
