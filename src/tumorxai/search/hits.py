"""Cases that were found, and their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

TIE = 1e-6  # similarities closer than this are equal: float32 sums of equal vectors differ by less

Where = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Hit:
    """A case that was found.

    Attributes:
        image_id: of the case.
        similarity: cosine, in [-1, 1].
        payload: what is known about it.
    """

    image_id: int
    similarity: float
    payload: Mapping[str, Any]


def undecided(hits: list[Hit], count: int, limit: int) -> bool:
    """Whether a case beyond ``limit`` may be as similar as the last one wanted."""
    similarity = sorted((hit.similarity for hit in hits), reverse=True)
    return len(hits) == limit and similarity[count - 1] - similarity[-1] < TIE


def ranked(hits: Iterable[Hit]) -> list[Hit]:
    """Hits by falling similarity; those that follow each other within :data:`TIE` by image_id."""
    falling = sorted(hits, key=lambda hit: -hit.similarity)
    steps = [above.similarity - below.similarity >= TIE for above, below in pairwise(falling)]
    ranks = accumulate(steps, initial=0)  # one more than there are steps
    return [hit for _, hit in sorted(zip(ranks, falling, strict=False), key=lambda pair: (pair[0], pair[1].image_id))]
