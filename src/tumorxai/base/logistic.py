"""Logistic regression on frozen embeddings, its penalty chosen on the validation side."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tumorxai import config
from tumorxai.base.counts import balanced_accuracy


@dataclass(frozen=True)
class Choice:
    """What the validation side chose.

    Attributes:
        penalty: inverse strength C of the L2 penalty.
        validation_balanced_accuracy: what it reached there.
    """

    penalty: float
    validation_balanced_accuracy: float

    def record(self) -> dict[str, float]:
        """For the JSON beside the predictions."""
        return asdict(self)


def fit(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
    classes: int,
    settings: config.Linear,
) -> tuple[NDArray[np.float64], Choice]:
    """Fit on the training images and choose the penalty on the validation side.

    Args:
        features: of all images (N, D); standardised here with the training images' mean and deviation.
        labels: class indices (N,), -1 where none may be looked at, see ``predictions.visible``.
        train: ids of the labelled training images.
        validation: ids that the penalty is chosen on; if empty, the training images.
        classes: number of classes K.
        settings: candidates.

    Returns:
        Class probabilities of all images (N, K), 0 for classes without a training image; and the choice.
    """
    scaler = StandardScaler().fit(features[train])
    scaled = ((features - scaler.mean_) / scaler.scale_).astype(np.float32)
    on = validation if len(validation) else train
    # From the strongest penalty to the weakest, each fit starts from the one before: the path is several times faster.
    model = LogisticRegression(warm_start=True, max_iter=settings.max_iter)
    best, choice = np.empty(0), Choice(0.0, -1.0)
    for penalty in sorted(settings.penalties):
        model.set_params(C=penalty)
        with warnings.catch_warnings():
            # A weakly penalised fit that stops early is one more candidate; the validation side judges it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(scaled[train], labels[train])
        score = balanced_accuracy(labels[on], model.predict(scaled[on]).astype(np.int64), classes)
        if score > choice.validation_balanced_accuracy:  # the first of ties: the strongest penalty
            best, choice = _probabilities(model, scaled), Choice(penalty, score)
    probabilities = np.zeros((len(features), classes))
    probabilities[:, model.classes_] = best
    return probabilities, choice


def _probabilities(model: LogisticRegression, features: NDArray[np.float32]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = model.predict_proba(features).astype(np.float64)
    found /= found.sum(axis=1, keepdims=True)
    return found
