"""The search against brute force."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tumorxai.dedupe.hamming import neighbours


def flip(hashes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Flip at most ``count`` random bits of each hash."""
    for _ in range(count):
        hashes = hashes ^ (np.uint64(1) << rng.integers(0, 64, len(hashes), dtype=np.uint64))
    return hashes


def clustered(seed: int) -> np.ndarray:
    """A few hundred hashes, many of them close together."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**64, 30, dtype=np.uint64)
    return np.unique(np.concatenate([flip(centres, count, rng) for count in range(16)]))


@pytest.mark.parametrize("radius", [0, 1, 2, 4, 5, 8, 11, 16])
def test_pairs_of_one_set_equal_brute_force(radius: int) -> None:
    hashes = clustered(radius)
    distance = np.bitwise_count(hashes[:, None] ^ hashes)
    left, right = np.nonzero(np.triu(distance <= radius, 1))
    found = neighbours(hashes, None, radius)
    np.testing.assert_array_equal(found.left, left)
    np.testing.assert_array_equal(found.right, right)
    np.testing.assert_array_equal(found.distance, distance[left, right])


@pytest.mark.parametrize("radius", [0, 4, 8, 12])
def test_pairs_of_two_sets_equal_brute_force(radius: int) -> None:
    one, other = clustered(1), clustered(2)
    other = np.unique(np.concatenate([other, flip(one[::3], 6, np.random.default_rng(3)), one[::10]]))
    distance = np.bitwise_count(one[:, None] ^ other)
    left, right = np.nonzero(distance <= radius)
    found = neighbours(one, other, radius)
    np.testing.assert_array_equal(found.left, left)
    np.testing.assert_array_equal(found.right, right)
    np.testing.assert_array_equal(found.distance, distance[left, right])


def test_every_planted_neighbour_among_many_is_found() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 200_000, dtype=np.uint64)
    copies = flip(hashes[:20_000], 4, rng)
    values = np.unique(np.concatenate([hashes, copies]))
    tracemalloc.start()
    found = neighbours(values, None, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    pairs = set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    a, b = np.searchsorted(values, hashes[:20_000]), np.searchsorted(values, copies)
    wanted = {(min(x, y), max(x, y)) for x, y in zip(a.tolist(), b.tolist(), strict=True) if x != y}
    assert wanted <= pairs
    assert peak < 40 * values.nbytes


def test_hashes_that_agree_in_many_bits_are_all_compared() -> None:
    """A crowd that differs in its last bits only: most blocks put all of it into one bucket."""
    hashes = np.arange(600, dtype=np.uint64) | np.uint64(0xABCD << 48)
    distance = np.bitwise_count(hashes[:, None] ^ hashes)
    assert len(neighbours(hashes, None, 4).left) == np.triu(distance <= 4, 1).sum()


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count: int) -> None:
    few = np.arange(count, dtype=np.uint64)
    assert len(neighbours(few, None, 4).left) == 0
    assert len(neighbours(few, np.zeros(0, np.uint64), 4).left) == 0
