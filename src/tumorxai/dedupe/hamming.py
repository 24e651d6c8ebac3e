"""All pairs of 64-bit hashes within a Hamming distance: exact, and far from quadratic.

Two hashes that differ in at most r bits agree in at least k of r + k blocks of bits, wherever the differing bits fall.
So for each choice of k blocks the hashes are sorted by these, and only hashes equal there are compared (as in Manku,
Jain, Das Sarma, "Detecting Near-Duplicates for Web Crawling", WWW 2007, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import log2
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Index = NDArray[np.int64]

BITS = 64


class Pairs(NamedTuple):
    """Positions in the two arrays, and the distance in bits; each of shape (P,)."""

    left: Index
    right: Index
    distance: Index


def neighbours(left: Hashes, right: Hashes | None, radius: int) -> Pairs:
    """Find all pairs at most ``radius`` bits apart.

    Args:
        left: distinct hashes, ascending, as ``np.unique`` gives them.
        right: the same; None pairs ``left`` with itself, each pair once and no hash with itself.
        radius: largest distance, bits, 0 to 16.
    """
    found = list(_matches(left, right, radius)) or [(np.zeros(0, np.uint64),) * 2]
    a, b = (np.concatenate(side) for side in zip(*found, strict=True))
    if right is None:
        a, b = np.minimum(a, b), np.maximum(a, b)
    i, j = np.searchsorted(left, a), np.searchsorted(left if right is None else right, b)
    order = np.lexsort((j, i))
    return Pairs(i[order], j[order], np.bitwise_count(a ^ b)[order].astype(np.int64))


def _matches(left: Hashes, right: Hashes | None, radius: int) -> Iterator[tuple[Hashes, Hashes]]:
    """Pairs of values, each once: with the first choice of blocks, in lexicographic order, in which they agree."""
    equal = _equal_blocks(len(left), radius)
    blocks = radius + equal
    edges = [BITS * block // blocks for block in range(blocks + 1)]
    for chosen in combinations(range(blocks), equal):
        layout = _Layout(edges, [*chosen, *(block for block in range(blocks) if block not in chosen)])
        shift = np.uint64(BITS - sum(edges[block + 1] - edges[block] for block in chosen))
        earlier = [layout.mask(block) for block in range(chosen[-1]) if block not in chosen]
        for a, b in _buckets(layout.apply(left), None if right is None else layout.apply(right), shift):
            differs = a ^ b
            near = np.bitwise_count(differs) <= radius
            a, b, differs = a[near], b[near], differs[near]
            first = np.ones(len(a), dtype=bool)
            for mask in earlier:
                first &= (differs & mask) != 0
            yield layout.undo(a[first]), layout.undo(b[first])


def _equal_blocks(count: int, radius: int) -> int:
    """Number k of equal blocks: the fewest for which random hashes would share a key with few others; two or more."""
    equal = 2
    while BITS * equal / (radius + equal) < log2(max(count, 2)) - 3 and equal < 6:
        equal += 1
    return equal


def _buckets(left: Hashes, right: Hashes | None, shift: np.uint64) -> Iterator[tuple[Hashes, Hashes]]:
    """Pairs that agree above ``shift``: the t-th partner of every hash at once, so memory stays linear."""
    left = np.sort(left)
    keys = left >> shift
    if right is None:
        right, low = left, np.arange(1, len(left) + 1)
        ends = np.append(np.flatnonzero(keys[1:] != keys[:-1]) + 1, len(keys))
        high = np.repeat(ends, np.diff(ends, prepend=0))
    else:
        right = np.sort(right)
        wanted = right >> shift
        low, high = np.searchsorted(keys, wanted), np.searchsorted(keys, wanted, side="right")
    alive = np.flatnonzero(low < high)
    low, high = low[alive], high[alive]
    while len(alive):
        yield left[low], right[alive]
        low = low + 1
        keep = low < high
        alive, low, high = alive[keep], low[keep], high[keep]


class _Layout:
    """The blocks of a hash in another order; distances do not change."""

    def __init__(self, edges: list[int], order: list[int]) -> None:
        self.moves = {}  # of a block: ones as wide as it, its lowest bit before and after
        top = BITS
        for block in order:
            width = edges[block + 1] - edges[block]
            top -= width
            self.moves[block] = np.uint64((1 << width) - 1), np.uint64(edges[block]), np.uint64(top)

    def mask(self, block: int) -> np.uint64:
        """Bits of a block after the move."""
        ones, _, after = self.moves[block]
        return ones << after

    def apply(self, hashes: Hashes) -> Hashes:
        """Bring the blocks into the order, the first to the highest bits."""
        out = np.zeros_like(hashes)
        for ones, before, after in self.moves.values():
            out |= (hashes >> before & ones) << after
        return out

    def undo(self, hashes: Hashes) -> Hashes:
        """Bring them back."""
        out = np.zeros_like(hashes)
        for ones, before, after in self.moves.values():
            out |= (hashes >> after & ones) << before
        return out
