"""Scores against scikit-learn, on random, weighted and degenerate inputs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics

from tests.tolerance import rounding
from tumorxai.base import counts, jackknife, scores

Case = tuple[np.ndarray, np.ndarray]  # truth (n,), probabilities (n, K)


def random_case(seed: int) -> Case:
    """Random labels; some classes may be absent from the truth, and every other case is full of ties."""
    generator = np.random.default_rng(seed)
    k, n = int(generator.integers(2, 8)), int(generator.integers(1, 60))
    truth = generator.choice(k, n, p=generator.dirichlet(np.full(k, 0.5)))
    logits = generator.normal(size=(n, k)) + 1.5 * np.eye(k)[truth] * generator.random((n, 1))
    if seed % 2:
        logits = logits.round()
    probabilities = np.exp(logits)
    return truth.astype(np.int64), probabilities / probabilities.sum(axis=1, keepdims=True)


def named_cases() -> dict[str, Case]:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 40)
    some = generator.dirichlet(np.ones(3), 40)
    return {
        "perfect": (truth, np.eye(3)[truth]),
        "always wrong": (truth, np.eye(3)[(truth + 1) % 3]),
        "constant": (truth, np.tile([0.2, 0.5, 0.3], (40, 1))),
        "certain and constant": (truth, np.tile([0.0, 1.0, 0.0], (40, 1))),
        "one class missing from the truth": (truth % 2, some),
        "one class only": (np.ones(40, dtype=np.int64), some),
        "one class, always found": (np.ones(40, dtype=np.int64), np.tile([0.0, 1.0, 0.0], (40, 1))),
        "one image": (np.array([2]), some[:1]),
        "ties": (truth, some.round(1)),
        "two classes": (truth % 2, np.column_stack([some[:, 0], 1 - some[:, 0]])),
    }


CASES = {f"random {seed}": random_case(seed) for seed in range(40)} | named_cases()


def peers(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """The same table by scikit-learn alone, image weights (n,) standing in for repetition."""
    k = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    present = np.unique(truth[weights > 0])
    given = {"sample_weight": weights}
    macro = {"labels": present, "average": "macro", "zero_division": 0, **given}
    found = {
        "accuracy": metrics.accuracy_score(truth, predicted, **given),
        "balanced_accuracy": metrics.recall_score(truth, predicted, **macro),
        "macro_recall": metrics.recall_score(truth, predicted, **macro),
        "macro_precision": metrics.precision_score(truth, predicted, **macro),
        "macro_f1": metrics.f1_score(truth, predicted, **macro),
        "mcc": metrics.matthews_corrcoef(truth, predicted, **given),
        "kappa": metrics.cohen_kappa_score(truth, predicted, labels=range(k), **given),
        "nll": metrics.log_loss(truth, probabilities, labels=range(k), **given),
        "brier": metrics.brier_score_loss(truth, probabilities, labels=range(k), scale_by_half=False, **given),
    }
    one = {"labels": range(k), "average": None, "zero_division": np.nan, **given}
    found["recall"] = metrics.recall_score(truth, predicted, **one)
    found["ppv"] = metrics.precision_score(truth, predicted, **one)
    for name, score in (("specificity", metrics.recall_score), ("npv", metrics.precision_score)):
        found[name] = np.array(
            [
                score(truth != c, predicted != c, labels=[True], average=None, zero_division=np.nan, **given)[0]
                for c in range(k)
            ]
        )
    found["auroc"], found["auprc"] = np.full((2, k), np.nan)
    kept = weights > 0
    for c in present:
        positive = truth[kept] == c
        if not positive.all():
            found["auroc"][c] = metrics.roc_auc_score(positive, probabilities[kept, c], sample_weight=weights[kept])
        found["auprc"][c] = metrics.average_precision_score(
            positive, probabilities[kept, c], sample_weight=weights[kept]
        )
    for name in ("auroc", "auprc"):
        found[f"macro_{name}"] = np.nanmean(found[name]) if not np.isnan(found[name]).all() else np.nan
    return found


@pytest.mark.parametrize("name", CASES)
def test_every_score_equals_scikit_learn(name: str) -> None:
    """The sample, and what is left of it without some clusters."""
    truth, probabilities = CASES[name]
    draw = jackknife.draw(np.arange(len(truth)) // 2, 0)
    found = scores.resampled(truth, probabilities, draw)
    for row in {0, 1, 2, len(draw.weights) // 2, len(draw.weights) - 1}:
        if row >= len(draw.weights) or not draw.weights[row].any():
            continue  # nothing is left of one cluster
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = peers(truth, probabilities, draw.weights[row, draw.index])
        assert found.keys() == expected.keys()
        for score, value in expected.items():
            np.testing.assert_allclose(found[score][row], value, rtol=0, atol=1e-9, err_msg=f"{score}, row {row}")


def test_the_confusion_matrix_equals_scikit_learn() -> None:
    truth, probabilities = CASES["random 7"]
    k, predicted = probabilities.shape[1], probabilities.argmax(axis=1)
    ours = counts.confusion(truth, predicted, k)
    assert np.array_equal(ours, metrics.confusion_matrix(truth, predicted, labels=range(k)))
    draw = jackknife.draw(np.arange(len(truth)), 0)
    many = scores.confusions(truth, predicted, k, draw)
    assert np.array_equal(many[0], ours)
    rows = np.repeat(np.arange(len(truth)), draw.weights[5, draw.index].astype(int))
    assert len(rows) == len(truth) - 1
    assert np.array_equal(many[5], counts.confusion(truth[rows], predicted[rows], k))


def test_areas_do_not_change_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, probabilities = CASES["random 4"]
    draw = jackknife.draw(np.arange(len(truth)), 0)
    whole = scores.resampled(truth, probabilities, draw)
    monkeypatch.setattr(scores, "BLOCK", 7)
    parts = scores.resampled(truth, probabilities, draw)
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values, rtol=0, atol=rounding(torch.float64, len(truth)))


def test_the_table_names_classes_that_occur_and_says_null_where_nothing_is_defined() -> None:
    truth, probabilities = CASES["one class only"]
    table = scores.summarise(truth, probabilities, np.arange(40), ("a", "b", "c"), 0)
    assert all(list(table[name]) == ["b"] for name in scores.PER_CLASS)
    assert table["auroc"]["b"] == {"value": None, "low": None, "high": None}
    assert table["auprc"]["b"]["value"] == 1
    perfect = scores.summarise(*CASES["perfect"], np.arange(40), ("a", "b", "c"), 0)
    assert perfect["mcc"]["value"] == perfect["mcc"]["high"] == 1
    assert 0.8 < perfect["mcc"]["low"] < 0.9  # 0 of 40 wrong
    assert (perfect["brier"]["value"], perfect["brier"]["low"]) == (0, 0)
    assert perfect["brier"]["high"] == pytest.approx(2 * 1.959964**2 / (40 + 1.959964**2))  # the worst, as seldom


def test_the_calibration_error_is_that_of_the_bins_less_their_noise() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.random(400).round(2)
    correct = generator.random(400) < confidence**2
    draw = jackknife.draw(np.arange(400), 0)
    found = scores.calibration_error(confidence, correct, 10, draw)
    squares, noise = [], []
    for part in np.array_split(np.argsort(confidence, kind="stable"), 10):
        distance = correct[part] - confidence[part]
        squares.append(distance.mean() ** 2)
        noise.append(distance.var(ddof=1) / len(part))  # of single images
    # the same but for G / (G - 1) of all clusters in place of each bin's
    assert found["value"] ** 2 == pytest.approx(np.mean(squares) - np.mean(noise), abs=0.05 * np.mean(noise))
    assert found["low"] < found["value"] < found["high"]


def test_the_calibration_error_of_a_calibrated_and_of_a_boastful_classifier() -> None:
    generator = np.random.default_rng(1)
    confidence = generator.uniform(0.5, 1, 600)
    draw = jackknife.draw(np.arange(600), 0)
    zero = [
        scores.calibration_error(confidence, generator.random(600) < confidence, 10, draw)["low"] for _ in range(40)
    ]
    assert np.mean(np.array(zero) == 0) > 0.85  # 95% within three standard errors of 40 runs
    boastful = scores.calibration_error(confidence, generator.random(600) < confidence - 0.2, 10, draw)
    assert boastful["low"] < 0.2 < boastful["high"]
    assert boastful["low"] > 0.1
    alone = jackknife.draw(np.zeros(600, dtype=np.int64), 0)
    unknown = {"value": None, "low": None, "high": None}
    assert scores.calibration_error(confidence, confidence > 0.7, 10, alone) == unknown
