"""Logistic regression on frozen embeddings, its penalty chosen by images that it has not seen."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from tumorxai import config
from tumorxai.base.counts import Choice

FOLDS = 5
NEVER = -1e4  # logit of a class that no labelled training image has: its probability is 0 in any precision

Features = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Fitted(NamedTuple):
    """A fit and what it says.

    Attributes:
        probabilities: of each class, for all images (N, K); 0 for classes without a training image.
        weight: of the linear layer on the features as they come, not standardised (K, D).
        bias: of that layer (K,); the softmax of its outputs are the probabilities.
    """

    probabilities: Floats
    weight: Floats
    bias: Floats


def fit(
    features: Features,
    labels: Ints,
    train: Ints,
    validation: Ints,
    clusters: Ints,
    classes: int,
    settings: config.Linear,
) -> tuple[Fitted, Choice]:
    """Fit on the training images and choose the penalty on the validation side.

    Without that side each training image is judged by a fit that has seen neither it nor its copies or its patient: a
    fit judged by the images that it has seen would always take the weakest penalty.

    Args:
        features: of all images (N, D); standardised here with the training images' mean and deviation.
        labels: class indices (N,), -1 where none may be looked at, see ``predictions.visible``.
        train: ids of the labelled training images.
        validation: ids that the penalty is chosen on; may be empty.
        clusters: cluster of each image (N,), see ``Dataset.clusters``.
        classes: number of classes K.
        settings: candidates.

    Returns:
        The fit of the chosen penalty, and the choice.
    """
    penalties = sorted(settings.penalties)
    if len(validation):
        every = list(path(features, labels, train, classes, penalties, settings))
        said = np.stack([own.probabilities[validation].argmax(axis=1) for own in every])
        choice = Choice.best(penalties, labels[validation], said, classes, "validation")
        return every[penalties.index(choice.value)], choice
    if len(penalties) == 1 or len(np.unique(clusters[train])) < 2:
        choice = Choice(penalties[0], None, "nothing")
    else:
        said = np.zeros((len(penalties), len(train), classes))
        parts = GroupKFold(min(FOLDS, len(np.unique(clusters[train]))))
        for seen, held in parts.split(train, groups=clusters[train]):
            for number, own in enumerate(path(features, labels, train[seen], classes, penalties, settings)):
                said[number, held] = own.probabilities[train[held]]
        choice = Choice.best(penalties, labels[train], said.argmax(axis=2), classes, "cross-validation")
    until = penalties[: penalties.index(choice.value) + 1]  # the path again, so that the fit is the one that was judged
    *_, fitted = path(features, labels, train, classes, until, settings)
    return fitted, choice


def path(
    features: Features, labels: Ints, train: Ints, classes: int, penalties: Sequence[float], settings: config.Linear
) -> Iterator[Fitted]:
    """The fits, from the strongest penalty to the weakest.

    Each fit starts from the one before: the path is several times faster than its fits alone. The arguments are those
    of :func:`fit`.
    """
    known = np.unique(labels[train])
    if len(known) < 2:  # nothing to tell apart
        certain = np.tile(np.eye(classes)[known[0]], (len(features), 1))
        weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, NEVER)
        bias[known[0]] = 0.0
        yield from (Fitted(certain, weight, bias) for _ in penalties)
        return
    scaler = StandardScaler().fit(features[train])
    scaled = ((features - scaler.mean_) / scaler.scale_).astype(np.float32)
    model = LogisticRegression(warm_start=True, max_iter=settings.max_iter)
    for penalty in penalties:
        model.set_params(C=penalty)
        with warnings.catch_warnings():
            # A weakly penalised fit that stops early is one more candidate; images that it has not seen judge it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(scaled[train], labels[train])
        probabilities = np.zeros((len(features), classes))
        probabilities[:, model.classes_] = _probabilities(model, scaled)
        yield Fitted(probabilities, *layer(model, scaler.mean_, scaler.scale_, classes))


def layer(model: LogisticRegression, mean: Floats, scale: Floats, classes: int) -> tuple[Floats, Floats]:
    """A logistic regression on standardised features as a linear layer on the features themselves.

    Args:
        model: fitted on ``(features - mean) / scale``.
        mean: (D,).
        scale: (D,).
        classes: number of classes K; those that the model has not seen are never answered.

    Returns:
        Weight (K, D) and bias (K,), whose outputs have the regression's probabilities as their softmax.
    """
    coefficients, intercept = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
    if len(coefficients) == 1:  # of two classes only the second has coefficients
        coefficients, intercept = (np.concatenate([np.zeros_like(x), x]) for x in (coefficients, intercept))
    weight, bias = np.zeros((classes, coefficients.shape[1])), np.full(classes, NEVER)
    weight[model.classes_] = coefficients / scale
    bias[model.classes_] = intercept - weight[model.classes_] @ mean
    return weight, bias


def _probabilities(model: LogisticRegression, features: Features) -> Floats:
    found: Floats = model.predict_proba(features).astype(np.float64)
    found /= found.sum(axis=1, keepdims=True)
    return found
