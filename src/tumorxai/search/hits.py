"""Cases that go into an index, and those that were found, in their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FILTERS = ("label", "source", "sequence", "side")  # keys of the payload that can be asked for
TIE = 1e-6  # similarities closer than this are equal: float32 sums of equal vectors differ by less

Where = Mapping[str, str | Sequence[str]]  # by key of FILTERS the value, or one of the values, that a case must have
Wanted = Mapping[str, list[str]]  # the same, all spelt as lists


class Cases(NamedTuple):
    """What an index is filled with.

    Attributes:
        vectors: embeddings (n, d).
        payloads: what is known about each.
        ids: image_id of each (n,).
        fingerprint: of the encoder that made the embeddings.
    """

    vectors: NDArray[np.float32]
    payloads: list[dict[str, Any]]
    ids: NDArray[np.int64]
    fingerprint: str


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
