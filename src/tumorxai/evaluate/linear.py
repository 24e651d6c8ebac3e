"""Linear evaluation: logistic regression on frozen embeddings, the field's standard protocol (arXiv 1603.08511)."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
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
    train, validation = dataset.labelled(params.split.label_fraction), dataset.indices("validation")
    chosen_on = validation if len(validation) else train
    embedded = read_array(embeddings)
    features = StandardScaler().fit(embedded[train]).transform(embedded.astype(np.float64))

    # From the strongest penalty to the weakest, each fit starts from the one before: the path is several times faster.
    model = LogisticRegression(warm_start=True, max_iter=params.linear.max_iter)
    fits = []
    for penalty in tqdm(sorted(params.linear.penalties), desc="linear", unit="penalty"):
        model.set_params(C=penalty)
        with warnings.catch_warnings():
            # A weakly penalised fit that stops early is one more candidate; the validation side judges it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features[train], dataset.labels[train])
        predicted = model.predict(features[chosen_on]).astype(np.int64)
        matrix = confusion(dataset.labels[chosen_on], predicted, len(dataset.classes))
        fits.append((float(from_confusion(matrix)["balanced_accuracy"]), penalty, model.predict_proba(features)))
    score, penalty, probabilities = max(fits, key=lambda fit: fit[0])  # the first of ties: the strongest penalty
    chosen = {"penalty": penalty, "validation_balanced_accuracy": score}
    result.write(dataset, probabilities, chosen, len(train), params.seed, metrics, predictions, plot)
