"""Scores of a classifier, one definition each, all from the confusion matrix; intervals by a cluster bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorxai.evaluate.statistics import entry, resample

Floats = NDArray[np.float64]


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Counts (classes, classes): rows are the truth, columns the prediction."""
    counts = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def from_confusion(matrix: NDArray[Any]) -> dict[str, Floats]:
    """Scores in [0, 1] of one or many confusion matrices.

    Macro averages run over the classes that occur in the truth, as scikit-learn's ``balanced_accuracy_score`` has it; a
    class that is never predicted has precision 0.

    Args:
        matrix: (..., K, K), rows the truth.

    Returns:
        accuracy, balanced_accuracy (= macro recall), macro_precision, macro_recall and macro_f1 of shape (...), and
        recall, of shape (..., K), NaN for classes that do not occur.
    """
    hits = np.diagonal(matrix, axis1=-2, axis2=-1).astype(np.float64)
    actual, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(actual > 0, hits / actual, np.nan)
        precision = np.where(actual > 0, np.where(predicted > 0, hits / predicted, 0.0), np.nan)
        f1 = np.where(actual > 0, 2 * hits / (actual + predicted), np.nan)
        accuracy = hits.sum(axis=-1) / actual.sum(axis=-1)
    macro_recall = np.nanmean(recall, axis=-1)
    return {
        "accuracy": accuracy,
        "balanced_accuracy": macro_recall,
        "macro_precision": np.nanmean(precision, axis=-1),
        "macro_recall": macro_recall,
        "macro_f1": np.nanmean(f1, axis=-1),
        "recall": recall,
    }


def summarise(
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    clusters: NDArray[np.int64],
    classes: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Every score with a 95% interval by the cluster bootstrap.

    Args:
        truth: class indices (n,).
        predicted: class indices (n,).
        clusters: cluster of each image (n,), any integers.
        classes: names of the K classes.
        seed: of the bootstrap.

    Returns:
        Score name to ``{"value", "low", "high"}``; ``recall`` holds one such entry for each class that occurs.
    """
    k = len(classes)
    index, weights = resample(clusters, seed)
    per_cluster = np.zeros((weights.shape[1], k * k))
    np.add.at(per_cluster, (index, truth * k + predicted), 1)
    drawn = from_confusion((weights @ per_cluster).reshape(-1, k, k))
    point = from_confusion(confusion(truth, predicted, k))
    summary: dict[str, Any] = {name: entry(point[name], drawn[name]) for name in point if name != "recall"}
    summary["recall"] = {
        name: entry(point["recall"][i], drawn["recall"][:, i]) for i, name in enumerate(classes) if (truth == i).any()
    }
    return summary
