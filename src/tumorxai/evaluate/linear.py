"""Linear evaluation: logistic regression on frozen embeddings, the field's standard protocol (arXiv 1603.08511)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from tumorxai import config
from tumorxai.data.dataset import Dataset
from tumorxai.evaluate import result
from tumorxai.evaluate.scores import confusion, from_confusion
from tumorxai.files import read_array


def run(params: config.Params, data: Path, embeddings: Path, metrics: Path, predictions: Path, plot: Path) -> None:
    """Fit on the labelled training images, choose the penalty on the validation side, test once.

    Args:
        params: the whole experiment.
        data: folder of the pack, the catalogue, the groups and the split.
        embeddings: float32 (N, features).
        metrics: JSON to write.
        predictions: CSV to write.
        plot: CSV of test predictions to write.
    """
    dataset = Dataset.load(data)
    features = np.asarray(read_array(embeddings), dtype=np.float64)
    train, validation = dataset.labelled(params.split.label_fraction), dataset.indices("validation")
    chosen_on = validation if len(validation) else train

    def fitted(penalty: float) -> tuple[float, Any]:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=params.linear.max_iter))
        with warnings.catch_warnings():
            # A weakly penalised fit that stops early is one more candidate; the validation side judges it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features[train], dataset.labels[train])
        predicted = model.predict(features[chosen_on]).astype(np.int64)
        matrix = confusion(dataset.labels[chosen_on], predicted, len(dataset.classes))
        return float(from_confusion(matrix)["balanced_accuracy"]), model

    penalties = sorted(params.linear.penalties)  # max() keeps the first of ties: the strongest penalty
    fits = [fitted(penalty) for penalty in tqdm(penalties, desc="linear", unit="penalty")]
    best = max(range(len(fits)), key=lambda i: fits[i][0])
    chosen = {"penalty": penalties[best], "validation_balanced_accuracy": fits[best][0]}
    probabilities = fits[best][1].predict_proba(features)
    result.write(dataset, probabilities, chosen, len(train), params.seed, metrics, predictions, plot)
