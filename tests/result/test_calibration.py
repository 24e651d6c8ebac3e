"""Calibration, temperature and selective prediction, on classifiers whose truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from tumorxai import config
from tumorxai.base import jackknife
from tumorxai.base.predictions import IMAGE, Predictions
from tumorxai.result import calibration

K = 3


def classifier(n: int, heat: float, seed: int, validation: float = 0.5) -> Predictions:
    """A calibrated classifier whose logits were then divided by ``heat``: below 1 it boasts."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (n, K))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (generator.random((n, 1)) > honest.cumsum(axis=1)).sum(axis=1)
    side = np.where(generator.random(n) < validation, "validation", "test")
    table = pd.DataFrame(dict.fromkeys(IMAGE, ""), index=range(n)).assign(side=side, cluster=np.arange(n))
    said = np.exp(logits / heat)
    return Predictions(table, ("a", "b", "c"), truth.astype(np.int64), said / said.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("heat", [0.4, 1.0, 2.5])
def test_the_temperature_undoes_what_was_done(heat: float) -> None:
    predictions = classifier(20_000, heat, 0)
    assert calibration.temperature(predictions.on("validation")) == pytest.approx(1 / heat, rel=0.05)


def test_calibration_gets_better_and_agrees_with_scikit_learn() -> None:
    predictions = classifier(6000, 0.4, 1)
    found, tables = calibration.summarise(predictions, None, config.Calibration(), 0)
    before, after, test = found["before"], found["after"], predictions.on("test")
    assert before["error"]["value"] > 0.1
    assert after["error"]["value"] < 0.06
    assert after["nll"]["high"] < before["nll"]["low"]
    assert before["nll"]["value"] == pytest.approx(log_loss(test.truth, test.probabilities), abs=1e-9)
    scaled = calibration.rescaled(test.probabilities, found["temperature"])
    assert after["nll"]["value"] == pytest.approx(log_loss(test.truth, scaled), abs=1e-9)
    expected = brier_score_loss(test.truth, scaled, labels=range(K), scale_by_half=False)
    assert after["brier"]["value"] == pytest.approx(expected, abs=1e-9)
    bins = tables["reliability"]
    assert bins["images"].sum() == len(test.truth)
    assert (bins["scaled_confidence"] - bins["scaled_accuracy"]).abs().max() < 0.08
    assert (bins["confidence"] - bins["accuracy"]).abs().max() > 0.1
    plain = np.sqrt((bins["images"] * (bins["confidence"] - bins["accuracy"]) ** 2).sum() / bins["images"].sum())
    assert 0.9 * plain < before["error"]["value"] < plain  # its noise is taken off


def test_a_temperature_changes_no_class_and_survives_certainty() -> None:
    said = np.array([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    for heat in (0.05, 1.0, 20.0):
        scaled = calibration.rescaled(said, heat)
        assert np.isfinite(scaled).all()
        assert scaled.argmax(axis=1).tolist() == [0, 2]
        np.testing.assert_allclose(scaled.sum(axis=1), 1)
    np.testing.assert_allclose(calibration.rescaled(said, 1.0), said, atol=1e-12)


def test_without_a_validation_side_nothing_is_fitted() -> None:
    found, _ = calibration.summarise(classifier(300, 0.4, 2, validation=0.0), None, config.Calibration(), 0)
    assert found["temperature"] == 1
    assert all(found["before"][name] == pytest.approx(found["after"][name]) for name in found["before"])
    assert found["selective"]["coverage"] is None


def test_risk_and_coverage_equal_a_loop() -> None:
    test = classifier(150, 1.0, 3, validation=0.0)
    table, area = calibration.risk_coverage(test)
    order = np.argsort(-test.probabilities.max(axis=1))
    wrong = (test.predicted != test.truth)[order]
    risks = [wrong[: i + 1].mean() for i in range(150)]
    assert area == pytest.approx(np.mean(risks))
    assert table["risk"].iloc[-1] == pytest.approx(wrong.mean(), abs=1e-6)
    assert table["risk"].iloc[49] == pytest.approx(risks[74], abs=1e-6)


def test_equally_sure_cases_have_one_expected_risk() -> None:
    test = classifier(200, 1.0, 4, validation=0.0)
    certain = Predictions(test.table, test.classes, test.truth, np.eye(K)[test.predicted])
    table, area = calibration.risk_coverage(certain)
    wrong = (test.predicted != test.truth).mean()
    assert table["risk"].to_numpy() == pytest.approx(wrong, abs=1e-6)
    assert area == pytest.approx(wrong)


def test_the_threshold_reaches_the_sensitivity_and_decides_as_many_as_it_can() -> None:
    predictions = classifier(8000, 1.0, 5)
    validation, relevant = predictions.on("validation"), np.array([True, True, False])
    chosen = calibration.threshold(validation, relevant, 0.95)
    assert chosen.confidence is not None
    confidence = validation.probabilities.max(axis=1)
    tumour = relevant[validation.truth]
    right = relevant[validation.predicted] == tumour

    def sensitivity(least: float) -> float:
        shown = (confidence >= least) & tumour
        return float(right[shown].mean())

    assert sensitivity(chosen.confidence) >= 0.95
    lower = np.sort(confidence[confidence < chosen.confidence])
    assert all(sensitivity(value) < 0.95 for value in lower[::50])
    test = predictions.on("test")
    found = calibration.selective(test, chosen, jackknife.draw(test.clusters, 0))
    assert found["sensitivity"]["value"] == pytest.approx(0.95, abs=0.02)
    assert found["coverage"]["value"] == pytest.approx((confidence >= chosen.confidence).mean(), abs=0.03)


def test_a_sensitivity_that_cannot_be_reached_is_said() -> None:
    predictions = classifier(400, 1.0, 6)
    wrong = Predictions(
        predictions.table, predictions.classes, (predictions.predicted + 1) % K, predictions.probabilities
    )
    chosen = calibration.threshold(wrong.on("validation"), np.ones(K, dtype=bool), 0.95)
    assert chosen.confidence is None
    found = calibration.selective(wrong, chosen, jackknife.draw(wrong.clusters, 0))
    assert found == {"threshold": None, "coverage": None, "sensitivity": None}
