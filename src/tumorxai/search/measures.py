"""Scores of ranked answers, and what the order of chance would score.

All take ``relevant``, which answers are right, shape (n, k or more), by rank; and ``available``, how many right ones
could have been found, shape (n,). All give a value in [0, 1] for each of the n queries, 0 where nothing could be found.
Source: Manning, Raghavan, Schütze, Introduction to Information Retrieval (2008), sections 8.3 and 8.4, cut off at k.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def precision(relevant: Bools, available: Ints, k: int) -> Floats:
    """Share of the first k answers that are right."""
    return np.asarray(relevant[:, :k].sum(axis=1) / k, dtype=np.float64)


def recall(relevant: Bools, available: Ints, k: int) -> Floats:
    """Share of all right cases that are among the first k answers; at most k / available."""
    return np.asarray(relevant[:, :k].sum(axis=1) / available.clip(min=1), dtype=np.float64)


def average_precision(relevant: Bools, available: Ints, k: int) -> Floats:
    """Precision at the rank of each right answer, averaged over min(k, available); its mean over queries is mAP@k."""
    right = relevant[:, :k]
    at_rank = right.cumsum(axis=1) / np.arange(1, k + 1)
    return np.asarray((at_rank * right).sum(axis=1) / np.minimum(available, k).clip(min=1), dtype=np.float64)


def _discounts(k: int) -> Floats:
    return np.asarray(1 / np.log2(np.arange(2, k + 2)), dtype=np.float64)


def _ideal(available: Ints, k: int) -> Floats:
    """Discounted gain of the best order: all right cases first."""
    reached = np.concatenate([[1.0], _discounts(k).cumsum()])  # the first entry only keeps 0 / 0 away
    return np.asarray(reached[np.minimum(available, k)], dtype=np.float64)


def ndcg(relevant: Bools, available: Ints, k: int) -> Floats:
    """Discounted cumulative gain, over that of the best order (Järvelin and Kekäläinen 2002, binary gains)."""
    return np.asarray((relevant[:, :k] * _discounts(k)).sum(axis=1) / _ideal(available, k), dtype=np.float64)


MEASURES = {"precision": precision, "recall": recall, "map": average_precision, "ndcg": ndcg}


def chance(available: Ints, candidates: Ints, k: int) -> dict[str, Floats]:
    """Expected score of each measure if the candidates came in random order.

    Args:
        available: right cases among the candidates (n,).
        candidates: cases that could be found (n,), each at least k.
        k: where the answers are cut off.
    """
    share = available / candidates
    # two ranks are both right with the probability R (R - 1) / (N (N - 1))
    pair = share * (available - 1).clip(min=0) / (candidates - 1).clip(min=1)
    ranks = np.arange(1, k + 1)
    expected = ((share[:, None] + (ranks - 1) * pair[:, None]) / ranks).sum(axis=1)
    return {
        "precision": share,
        "recall": np.where(available > 0, k / candidates, 0.0),
        "map": expected / np.minimum(available, k).clip(min=1),
        "ndcg": share * _discounts(k).sum() / _ideal(available, k),
    }
