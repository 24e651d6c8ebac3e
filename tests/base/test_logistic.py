"""A fit as a linear layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from tests.tolerance import rounding
from tumorxai import config
from tumorxai.base import logistic


@pytest.mark.parametrize("classes", [2, 4])
def test_a_regression_becomes_a_linear_layer(classes: int) -> None:
    generator = np.random.default_rng(0)
    features, labels = 5 + 3 * generator.normal(size=(80, 6)), generator.integers(0, classes, 80)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    model = LogisticRegression().fit((features - mean) / scale, labels)
    weight, bias = logistic.layer(model, mean, scale, classes + 1)
    assert weight.shape == (classes + 1, 6)
    close = rounding(torch.float64, 7) * float((np.abs(features) @ np.abs(weight).T + np.abs(bias)).max())
    said = softmax(features @ weight.T + bias, axis=1)  # a probability moves by less than its logit
    np.testing.assert_allclose(said[:, :classes], model.predict_proba((features - mean) / scale), atol=close)
    assert (said[:, classes] == 0).all()  # of which no image was seen


@pytest.mark.parametrize("seen", [[1, 2], [0, 1, 2], [1]])
def test_every_fit_comes_with_the_layer_that_says_the_same(seen: list[int]) -> None:
    generator = np.random.default_rng(1)
    labels = np.resize(seen, 90)
    features = (generator.normal(size=(90, 5)) + labels[:, None]).astype(np.float32)
    train, validation, clusters = np.arange(60), np.arange(60, 90), np.arange(90)
    settings = config.Linear()
    fitted, choice = logistic.fit(features, labels, train, validation, clusters, 4, settings)
    assert choice.value in settings.penalties
    said = softmax(features @ fitted.weight.T + fitted.bias, axis=1)
    # The features are standardised and held against the weights in float32 there.
    reach = np.abs(features) @ np.abs(fitted.weight).T + np.where(fitted.bias > logistic.NEVER, np.abs(fitted.bias), 0)
    np.testing.assert_allclose(said, fitted.probabilities, atol=rounding(torch.float32, 6, stages=2) * reach.max())
    assert (said[:, sorted(set(range(4)) - set(seen))] == 0).all()
