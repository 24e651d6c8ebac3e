"""The spanning tree is the shortest, isolation is what it says, and planted strangers come first."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, single
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from tumorxai.base.neighbours import normalised
from tumorxai.review.isolation import Tree, isolation, spanning_tree


def random(seed: int, count: int = 60) -> np.ndarray:
    return normalised(np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32))


@pytest.mark.parametrize("seed", range(3))
def test_the_tree_is_the_shortest(seed: int) -> None:
    unit = random(seed)
    found = spanning_tree(unit)
    wanted = minimum_spanning_tree(squareform(pdist(unit.astype(np.float64)))).tocoo()
    assert {frozenset(edge) for edge in zip(found.a.tolist(), found.b.tolist(), strict=True)} == {
        frozenset(edge) for edge in zip(wanted.row.tolist(), wanted.col.tolist(), strict=True)
    }
    # The square of a distance is 2 less twice a product of float32 vectors.
    assert np.abs(found.length**2 - np.sort(wanted.data) ** 2).max() < 64 * np.finfo(np.float32).eps


@pytest.mark.parametrize("seed", range(3))
def test_isolation_is_the_mean_share_outside_ones_cluster(seed: int) -> None:
    unit = random(seed).astype(np.float64)
    heights = single(pdist(unit))
    edges = minimum_spanning_tree(squareform(pdist(unit))).tocoo()
    order = np.argsort(edges.data)
    found = isolation(Tree(edges.row[order], edges.col[order], edges.data[order]))
    last, expected = heights[-1, 2], np.zeros(len(unit))
    steps = np.concatenate([[0], heights[:, 2]])
    for low, high in pairwise(steps):
        cluster = fcluster(heights, (low + high) / 2, criterion="distance")
        size = np.bincount(cluster)[cluster]
        expected += (high - low) / last * (1 - size / len(unit))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found.min() >= 0
    assert found.max() < 1


def test_a_family_of_strangers_comes_first() -> None:
    """Twelve of one kind, more than a neighbourhood of ten would notice, and one alone."""
    rng = np.random.default_rng(0)
    own = rng.normal(size=(300, 16)) * 0.2 + np.eye(16)[0]
    family, alone = rng.normal(size=(12, 16)) * 0.05 - np.eye(16)[1], -np.eye(16)[2:3]
    score = isolation(spanning_tree(normalised(np.concatenate([own, family, alone]).astype(np.float32))))
    assert set(np.argsort(-score)[:13]) == set(range(300, 313))


def test_few_and_equal_images() -> None:
    assert isolation(spanning_tree(random(0, 1))).tolist() == [0.0]
    assert isolation(spanning_tree(np.ones((3, 1), dtype=np.float32))).tolist() == [0.0] * 3
    assert isolation(spanning_tree(random(0, 2))).tolist() == [0.5, 0.5]
