"""Scores against scikit-learn, and intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from tumorxai.evaluate import scores

SEEDS = range(20)


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Random labels, of which some classes may be absent from the truth or from the prediction."""
    generator = np.random.default_rng(seed)
    k, n = generator.integers(2, 8), generator.integers(1, 60)
    truth = generator.choice(k, n, p=generator.dirichlet(np.full(k, 0.5)))
    predicted = np.where(generator.random(n) < 0.5, truth, generator.integers(0, k, n))
    return truth.astype(np.int64), predicted.astype(np.int64), int(k)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_score_equals_scikit_learn(seed: int) -> None:
    truth, predicted, k = random_case(seed)
    present = np.unique(truth)
    ours = scores.from_confusion(scores.confusion(truth, predicted, k))
    shared = {"labels": present, "average": "macro", "zero_division": 0}
    assert np.array_equal(
        scores.confusion(truth, predicted, k), metrics.confusion_matrix(truth, predicted, labels=range(k))
    )
    expected = {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "balanced_accuracy": metrics.recall_score(truth, predicted, **shared),
        "macro_precision": metrics.precision_score(truth, predicted, **shared),
        "macro_recall": metrics.recall_score(truth, predicted, **shared),
        "macro_f1": metrics.f1_score(truth, predicted, **shared),
    }
    for name, value in expected.items():
        assert float(ours[name]) == pytest.approx(value, abs=1e-12), name
    recall = metrics.recall_score(truth, predicted, labels=present, average=None, zero_division=0)
    np.testing.assert_allclose(ours["recall"][present], recall, atol=1e-12)
    assert np.isnan(np.delete(ours["recall"], present)).all()


def test_summary_of_a_perfect_and_of_a_constant_classifier() -> None:
    truth = np.repeat([0, 1], 20)
    perfect = scores.summarise(truth, truth, np.arange(40), ("a", "b"), 0)
    assert perfect["macro_f1"] == {"value": 1, "low": 1, "high": 1}
    constant = scores.summarise(truth, np.zeros(40, dtype=np.int64), np.arange(40), ("a", "b"), 0)
    assert constant["recall"]["b"]["value"] == 0
    assert constant["balanced_accuracy"]["value"] == 0.5


def test_a_class_that_is_not_in_the_truth_has_no_recall() -> None:
    summary = scores.summarise(np.zeros(5, dtype=np.int64), np.arange(5) % 2, np.arange(5), ("a", "b"), 0)
    assert list(summary["recall"]) == ["a"]


def test_intervals_cover_when_clusters_are_resampled_and_not_when_images_are() -> None:
    """Five copies of each of 60 patients: an interval over images is too narrow by far."""
    generator = np.random.default_rng(0)
    covered = {"clusters": 0, "images": 0}
    runs = 200
    for _ in range(runs):
        right = np.repeat(generator.random(60) < 0.8, 5)
        truth = np.zeros(300, dtype=np.int64)
        predicted = np.where(right, 0, 1)
        for name, clusters in (("clusters", np.repeat(np.arange(60), 5)), ("images", np.arange(300))):
            entry = scores.summarise(truth, predicted, clusters, ("a", "b"), int(generator.integers(2**31)))["accuracy"]
            covered[name] += entry["low"] <= 0.8 <= entry["high"]
    assert covered["clusters"] / runs > 0.89
    assert covered["images"] / runs < 0.75
