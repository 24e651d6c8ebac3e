"""What is chosen without a validation side, and by what."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold

from tumorxai import config
from tumorxai.base import logistic, neighbours

NOBODY = np.empty(0, dtype=np.int64)


def copies(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and clusters of 40 groups of five near copies, of which a third have another class's label."""
    rng = np.random.default_rng(seed)
    labels = np.arange(40) % 2
    centres = rng.normal(size=(40, 30)) + 0.9 * np.where(labels, 1, -1)[:, None] * (np.arange(30) < 3)
    noisy = np.where(rng.random(40) < 0.3, 1 - labels, labels)
    clusters = np.repeat(np.arange(40), 5)
    features = centres[clusters] + 0.01 * rng.normal(size=(200, 30))
    return features.astype(np.float32), noisy[clusters], clusters


def test_without_a_validation_side_the_penalty_is_not_chosen_by_what_was_seen() -> None:
    features, labels, clusters = copies()
    settings = config.Linear(penalties=[1e-4, 1e-2, 100.0])
    train = np.arange(200)
    _, choice = logistic.fit(features, labels, train, NOBODY, clusters, 2, settings)
    assert choice.on == "cross-validation"
    assert choice.value < 100  # which alone fits all of the training images
    assert choice.record("penalty")["chosen_on"] == "cross-validation"
    *_, weakest = logistic.path(features, labels, train, 2, settings.penalties, settings)
    assert (weakest.probabilities.argmax(axis=1) == labels).all()
    held = np.zeros(200)
    for part in GroupKFold(5).split(train, groups=clusters):
        *_, own = logistic.path(features, labels, train[part[0]], 2, settings.penalties, settings)
        held[part[1]] = own.probabilities[part[1]].argmax(axis=1)
    assert choice.balanced_accuracy is not None
    recalls = [(held[labels == k] == k).mean() for k in (0, 1)]
    assert choice.balanced_accuracy >= np.mean(recalls)


def test_without_a_validation_side_copies_do_not_choose_the_neighbours() -> None:
    features, labels, clusters = copies()
    train = np.arange(200)
    _, choice = neighbours.weighted(features, labels, train, NOBODY, clusters, 2, [1, 60], 10.0)
    assert (choice.value, choice.on) == (60, "cross-validation")
    alone = neighbours.votes(features, labels, train, clusters, 2, [1], 0.07)[0]
    near = np.array([np.argmax((features[i] @ features.T) / np.linalg.norm(features, axis=1)
                               - 9e9 * (clusters == clusters[i])) for i in train])  # fmt: skip
    assert (alone.argmax(axis=1) == labels[near]).all()


def test_a_validation_side_chooses_where_there_is_one() -> None:
    features, labels, clusters = copies()
    train, validation = np.arange(150), np.arange(150, 200)
    _, penalty = logistic.fit(features, labels, train, validation, clusters, 2, config.Linear())
    _, number = neighbours.weighted(features, labels, train, validation, clusters, 2, [1, 5], 0.07)
    assert penalty.on == number.on == "validation"


@pytest.mark.parametrize("alone", [True, False])
def test_where_nothing_can_choose_it_is_said(alone: bool) -> None:
    features, labels, clusters = copies()
    settings = config.Linear(penalties=[0.1, 1.0] if alone else [0.5])
    one = np.zeros_like(clusters) if alone else clusters
    found, choice = logistic.fit(features, labels, np.arange(200), NOBODY, one, 2, settings)
    assert choice == (settings.penalties[0], None, "nothing")
    assert np.isfinite(found.probabilities).all()
    if alone:
        shares, number = neighbours.weighted(features, labels, np.arange(200), NOBODY, one, 2, [5, 1], 0.07)
        assert number == (5, None, "nothing")
        assert (shares == 0.5).all()
