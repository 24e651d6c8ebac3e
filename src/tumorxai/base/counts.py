"""Counts and losses of a classifier's answers, of the sample alone: all that training and its choices look at.

Apart from :mod:`tumorxai.base.scores`, so that a new score trains nothing again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def confusion(truth: Ints, predicted: Ints, classes: int) -> Ints:
    """Counts (classes, classes): rows are the truth, columns the prediction."""
    counts = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def ratio(part: Floats, whole: Floats, otherwise: float = np.nan) -> Floats:
    """Elementwise ``part / whole``, ``otherwise`` where ``whole`` is 0."""
    found = np.full(np.broadcast(part, whole).shape, otherwise)
    np.divide(part, whole, out=found, where=whole > 0)
    return found


def macro(values: Floats) -> Floats:
    """Mean over the classes that have a value, NaN where none has."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))


def balanced_accuracy(truth: Ints, predicted: Ints, classes: int) -> float:
    """The score that every choice goes by: recall, mean over the classes that occur."""
    counts = confusion(truth, predicted, classes).astype(np.float64)
    return float(macro(ratio(np.diagonal(counts), counts.sum(axis=1))))


class Choice(NamedTuple):
    """What was chosen out of some candidates, and by what.

    Attributes:
        value: the candidate.
        balanced_accuracy: that it reached; None where nothing chose.
        on: ``validation``, ``cross-validation`` over groups of the training side, or ``nothing``: one candidate, or no
            independent image to judge by.
    """

    value: Any
    balanced_accuracy: float | None
    on: str

    @classmethod
    def best(cls, candidates: Sequence[Any], truth: Ints, predicted: Ints, classes: int, on: str) -> Choice:
        """The candidate of the highest balanced accuracy, the first of ties.

        Args:
            candidates: m of them, the more cautious first.
            truth: class indices (n,).
            predicted: by each candidate (m, n).
            classes: number of classes.
            on: see above.
        """
        reached = [balanced_accuracy(truth, own, classes) for own in predicted]
        place = int(np.argmax(reached))
        return cls(candidates[place], reached[place], on)

    def record(self, name: str) -> dict[str, Any]:
        """For the JSON beside the predictions, the value under its name."""
        return {name: self.value, "balanced_accuracy": self.balanced_accuracy, "chosen_on": self.on}


def image_nll(truth: Ints, probabilities: Floats) -> Floats:
    """Negative log-likelihood of each image in nats, (n,), cut off where scikit-learn's ``log_loss`` does."""
    own: Floats = -np.log(np.clip(probabilities[np.arange(len(truth)), truth], np.finfo(np.float64).eps, 1.0))
    return own
