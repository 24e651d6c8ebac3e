"""How many test images have a slice of their own series among the images that were learnt from."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

REACH = 3  # numbers of a source's order within which slices of one fold count as of one series


def near(whose: NDArray[Any], numbers: NDArray[np.int64], reach: int = REACH) -> tuple[NDArray[np.int64], ...]:
    """Pairs of images whose slices lie close in the order of their source, of one patient or one fold; itself apart.

    Two patients of one fold that follow each other are taken for one; their series tell them apart.

    Args:
        whose: patient, or the fold that stands in for it, of N images; empty where unknown.
        numbers: of their slices, -1 without one; copies share one.
        reach: largest difference of two numbers.

    Returns:
        One image and the other, each of shape (P,), every pair both ways round.
    """
    known = np.flatnonzero((numbers >= 0) & (whose != ""))
    order = known[np.lexsort((numbers[known], whose[known]))]
    left, right = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for step in range(1, len(order)):
        a, b = order[:-step], order[step:]
        close = (whose[a] == whose[b]) & (numbers[b] - numbers[a] <= reach)
        if not close.any():  # further steps lie further apart
            break
        left += [a[close], b[close]]
        right += [b[close], a[close]]
    return np.concatenate(left), np.concatenate(right)


def crossing(
    table: pd.DataFrame, side: NDArray[Any], before: Collection[str] = ("train",), after: str = "test"
) -> dict[str, Any]:
    """Images of one side that have a slice of their series on others.

    Args:
        table: N images with ``patient``, ``series`` and ``slice`` of ``patients.csv``.
        side: side of each, shape (N,).
        before: sides that are learnt from.
        after: side that is scored.

    Returns:
        ``known``: images of ``after`` whose place in a series is known, and ``crossing`` those of them with a slice of
        it at most REACH numbers away on ``before``; ``likely`` and ``likely_crossing``: the same of those that only
        look like others, and have one of these there. ``share`` and ``likely_share`` are null without such images.
    """
    whose, numbers = table["patient"].to_numpy(dtype=object), table["slice"].to_numpy(dtype=np.int64)
    series = table["series"].to_numpy(dtype=object)
    learnt, scored = np.isin(side, list(before)), side == after
    one, other = near(whose, numbers)
    seen = np.zeros(len(table), dtype=bool)
    seen[one[learnt[other] & (series[one] == series[other])]] = True
    placed = scored & (numbers >= 0) & (whose != "")
    alike = scored & ~placed & (series != "")
    found: dict[str, Any] = {}
    for name, own, there in (("", placed, seen), ("likely_", alike, np.isin(series, np.unique(series[learnt])))):
        images, crosses = int(own.sum()), int((own & there).sum())
        found |= {
            name.rstrip("_") or "known": images,
            f"{name}crossing": crosses,
            f"{name}share": round(crosses / images, 6) if images else None,
        }
    return found
