"""Retrieval scores: by hand, against scikit-learn, and chance against every order there is."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from tumorxai.search import measures

RELEVANT = np.array([[True, False, True], [False, False, False], [True, True, True], [False, True, False]])
AVAILABLE = np.array([2, 5, 9, 1])
SECOND, THIRD = 1 / np.log2(3), 1 / 2  # discounts of the ranks


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("precision", [2 / 3, 0, 1, 1 / 3]),
        ("recall", [1, 0, 3 / 9, 1]),
        ("map", [(1 + 2 / 3) / 2, 0, 1, 0.5]),
        ("ndcg", [(1 + THIRD) / (1 + SECOND), 0, 1, SECOND]),
    ],
)
def test_three_answers_by_hand(name: str, expected: list[float]) -> None:
    np.testing.assert_allclose(measures.MEASURES[name](RELEVANT, AVAILABLE, 3), expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("precision", [1 / 2, 0, 1, 1 / 2]),
        ("recall", [1 / 2, 0, 2 / 9, 1]),
        ("map", [1 / 2, 0, 1, 1 / 2]),
        ("ndcg", [1 / (1 + SECOND), 0, 1, SECOND]),
    ],
)
def test_what_lies_beyond_k_does_not_count(name: str, expected: list[float]) -> None:
    np.testing.assert_allclose(measures.MEASURES[name](RELEVANT, AVAILABLE, 2), expected)


@pytest.mark.parametrize("name", measures.MEASURES)
def test_a_query_with_nothing_to_find_scores_nothing(name: str) -> None:
    nothing = np.zeros((1, 3), dtype=bool)
    assert measures.MEASURES[name](nothing, np.array([0]), 3).tolist() == [0.0]


@pytest.fixture
def ranking() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarities of 40 queries to 30 cases, which are relevant, and the same in the order of the ranks."""
    generator = np.random.default_rng(0)
    relevant = generator.random((40, 30)) < generator.uniform(0.05, 0.6, (40, 1))
    relevant[:, 0] |= ~relevant.any(axis=1)
    similarity = generator.normal(size=(40, 30)) + relevant
    return similarity, relevant, np.take_along_axis(relevant, np.argsort(-similarity, axis=1), axis=1)


@pytest.mark.parametrize("k", [1, 3, 10, 30])
def test_ndcg_is_that_of_scikit_learn(ranking: tuple[np.ndarray, np.ndarray, np.ndarray], k: int) -> None:
    similarity, relevant, ranked = ranking
    own = measures.ndcg(ranked, relevant.sum(axis=1), k)
    others = [ndcg_score(relevant[i : i + 1], similarity[i : i + 1], k=k) for i in range(40)]
    np.testing.assert_allclose(own, others)


def test_average_precision_of_all_cases_is_that_of_scikit_learn(
    ranking: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    similarity, relevant, ranked = ranking
    own = measures.average_precision(ranked, relevant.sum(axis=1), 30)
    np.testing.assert_allclose(own, [average_precision_score(*pair) for pair in zip(relevant, similarity, strict=True)])


@pytest.mark.parametrize("available", [0, 1, 2, 5, 6])
@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_chance_is_the_mean_over_every_order(available: int, k: int) -> None:
    orders = np.array(list(permutations([1] * available + [0] * (6 - available)))).astype(bool)
    every = np.full(len(orders), available)
    said = measures.chance(np.array([available]), np.array([6]), k)
    for name, measure in measures.MEASURES.items():
        assert said[name][0] == pytest.approx(measure(orders, every, k).mean()), name


def test_chance_with_one_case() -> None:
    said = measures.chance(np.array([1, 0]), np.array([1, 1]), 1)
    assert {name: values.tolist() for name, values in said.items()} == {name: [1.0, 0.0] for name in measures.MEASURES}
