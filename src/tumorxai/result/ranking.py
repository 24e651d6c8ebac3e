"""ROC and precision-recall curves on a fixed grid, so that those of several runs lie over each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from tumorxai.base.predictions import Predictions

GRID = np.linspace(0, 1, 101)


def roc(test: Predictions) -> pd.DataFrame:
    """True-positive rate over the false-positive rate, of each class against the others, and their mean.

    Returns:
        Columns ``fpr``, ``macro`` and a column for each class that occurs, as do others; 101 rows.
    """
    columns = {}
    for k, name in enumerate(test.classes):
        positive = test.truth == k
        if 0 < positive.sum() < len(positive):
            fpr, tpr, _ = roc_curve(positive, test.probabilities[:, k])
            columns[name] = np.append(0.0, np.interp(GRID[1:], fpr, tpr))  # the curve rises at 0, where the grid starts
    return _table("fpr", columns)


def precision_recall(test: Predictions) -> pd.DataFrame:
    """Best precision at no less than each recall, of each class against the others, and their mean.

    The interpolation of Manning, Raghavan, Schütze, Introduction to Information Retrieval (2008), section 8.4.

    Returns:
        Columns ``recall``, ``macro`` and a column for each class that occurs; 101 rows.
    """
    columns = {}
    for k, name in enumerate(test.classes):
        positive = test.truth == k
        if positive.any():
            precision, recall, _ = precision_recall_curve(positive, test.probabilities[:, k])
            precision, recall = precision[:-1], recall[:-1]  # the last point, (1, 0), is an invention
            best = np.maximum.accumulate(precision)  # recall falls along the curve
            columns[name] = best[len(recall) - 1 - np.searchsorted(recall[::-1], GRID - 1e-12)]
    return _table("recall", columns)


def _table(x: str, columns: dict[str, NDArray[np.float64]]) -> pd.DataFrame:
    own = pd.DataFrame(columns)
    table = pd.DataFrame({x: GRID, "macro": own.mean(axis=1) if columns else np.nan})
    return pd.concat([table, own], axis=1).round(6)
