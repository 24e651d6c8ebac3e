"""Tests of two classifiers on the same images; copies and patients stay together in all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tumorxai.base import jackknife
from tumorxai.base.jackknife import Draw, Floats

ALPHA = 0.05
POWER = 0.8


def difference(first: Floats, second: Floats, drawn: Draw, tests: int = 1) -> dict[str, Any]:
    """A share of one classifier less that of another on the same images, with its interval and its p-value.

    Both say the same: the p-value is below 5% just where the interval leaves 0 out. They are Student's interval and
    test of the difference between -1 and 1 on the scale of :func:`tumorxai.base.jackknife.limits`, with the jackknife's
    error of the paired difference; where that is unknown, Wilson's, a cluster counting as an image. Where the answers
    never differ, as many clusters as there are agree: the difference may be as large as the share of clusters that
    could still differ.

    Args:
        first: a score in [0, 1] of the sample and without each cluster, shape (1 + R,).
        second: the same for the other classifier.
        drawn: the draw of both.
        tests: how many such tests are made and read together. Interval and p-value are adjusted after Bonferroni.

    Returns:
        ``{"value", "low", "high", "p", "detectable"}``: first minus second with its interval; the two-sided p-value of
        no difference; and the smallest true difference that a pair of such classifiers would show on this many images,
        null where their answers never differ, so that nothing tells how much they vary.
    """
    change, level = first - second, 1 - ALPHA / tests
    found: dict[str, Any] = {"value": None, "low": None, "high": None, "p": None, "detectable": None}
    if np.isnan(change[0]):
        return found
    value, effective, error = float(change[0]), max(drawn.effective(), 1.0), drawn.error(change)
    if not change[~np.isnan(change)].any():
        _, most = jackknife.wilson(0.0, effective, float(stats.norm.ppf(1 - ALPHA / tests / 2)))
        return found | {"value": value, "low": -most, "high": most, "p": 1.0}
    spread, freedom = (1 - value**2) / 4, max(1.0, min(drawn.freedom(change), effective - 1))
    known = spread > jackknife.CERTAIN and np.isfinite(error)
    if known:
        p = 2 * stats.t.sf(abs(value) * 4 * spread / error, freedom) if error else float(value == 0)
    else:
        p = 2 * stats.norm.sf(abs(value) * effective**0.5)
    low, high = jackknife.limits(value, error, freedom, 0.0 if known else effective, -1.0, 1.0, level)
    least = detectable(error, effective, tests) if known else None
    return {"value": value, "low": low, "high": high, "p": min(1.0, tests * float(p)), "detectable": least}


def detectable(error: float, effective: float, tests: int = 1) -> float | None:
    """Smallest true difference that a two-sided test at 5% finds with a probability of 80%.

    Args:
        error: standard error of the difference. Of two classifiers that err independently of each other it is the
            square root of 2 times that of one score; paired tests of classifiers that err alike have a smaller one.
        effective: effective number of clusters.
        tests: how many are read together.

    Returns:
        Null where the error is 0 or unknown: then nothing tells it.

    Source: Cohen 1988, Statistical power analysis, section 2.1, in units of the standard error.
    """
    if not 0 < error < np.inf:
        return None
    freedom = max(effective - 1, 1.0)
    return float((stats.t.ppf(1 - ALPHA / tests / 2, freedom) + stats.t.ppf(POWER, freedom)) * error)


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
