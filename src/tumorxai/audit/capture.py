"""How many copies there are beyond those that two searches found: capture and recapture.

Two independent searches of one set are two catches of one population. The share of the first search's finds that the
second one makes again says how good the second one is, and the other way round (Chapman 1951, Univ. Calif. Publ. Stat.
1:131-160; Seber 1982, The Estimation of Animal Abundance, section 3.1).

It assumes that a copy which one search misses is as likely as any other to be found by the other one. That can only be
hoped for: a copy that is hard for both, badly darkened, say, makes both look better than they are. So the estimate is a
lower one rather than a higher one.
"""

from __future__ import annotations

from typing import Any

from scipy.stats import hypergeom

LEVEL = 0.95
MOST = 10**9  # larger upper bounds are none


def chapman(first: int, second: int, both: int) -> dict[str, Any]:
    """Estimate the size of a population from two catches of it.

    The point is Chapman's, (first + 1)(second + 1) / (both + 1) - 1. The interval is exact: the sizes under which a
    recapture as small, or as large, as this one has at least (1 - LEVEL) / 2 of hypergeometric probability. It also
    holds where one search found all that the other one did, and Chapman's variance would be 0.

    Args:
        first: found by the first search.
        second: found by the second one.
        both: found by both, at most the smaller of the two.

    Returns:
        ``total``, ``missed`` (by both) and their bounds, ``_low`` and ``_high``, rounded to whole ones; all null where
        one search found nothing, and the upper bounds null where nothing was found twice.

    Raises:
        ValueError: more was found twice than once.
    """
    if not 0 <= both <= min(first, second):
        raise ValueError(f"got {both} found by both of {first} and {second}")
    keys = ("total", "total_low", "total_high", "missed", "missed_low", "missed_high")
    if not first or not second:
        return dict.fromkeys(keys)
    seen, tail = first + second - both, (1 - LEVEL) / 2
    total = (first + 1) * (second + 1) / (both + 1) - 1

    def many(size: int) -> bool:  # is so large a recapture still likely enough from that many?
        return bool(hypergeom.sf(both - 1, size, first, second) >= tail)

    def few(size: int) -> bool:
        return bool(hypergeom.cdf(both, size, first, second) >= tail)

    low = _first(seen, few)
    high = None if not both else _first(low, lambda size: not many(size)) - 1
    # The point may lie a fraction outside of whole-number bounds, and less than what was seen exists under no size.
    point = max(seen, round(total))
    low, high = min(low, point), None if high is None or high >= MOST else max(high, point)
    bounds = (point, low, high)
    return dict(zip(keys, bounds + tuple(None if size is None else size - seen for size in bounds), strict=True))


def _first(start: int, true: Any) -> int:
    """The least whole number from ``start`` at which ``true`` holds, which then holds for all larger ones."""
    step = 1
    while not true(start + step - 1) and step < MOST:
        step *= 2
    low, high = start + step // 2 - (step > 1), start + step - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if true(middle) else (middle + 1, high)
    return low
