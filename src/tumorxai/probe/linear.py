"""Linear evaluation: logistic regression on frozen embeddings, the field's standard protocol (arXiv 1603.08511)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tumorxai import config
from tumorxai.base import logistic
from tumorxai.base.dataset import Dataset
from tumorxai.base.predictions import keep, visible
from tumorxai.files import read_array


def run(params: config.Params, data: Path, embeddings: Path, predictions: Path) -> None:
    """Evaluate frozen embeddings with the labels of ``split.label_fraction``.

    Args:
        params: the whole experiment.
        data: folder of the pack, the catalogue, the groups and the split.
        embeddings: float32 (N, features).
        predictions: CSV to write.
    """
    dataset = Dataset.load(data)
    train, validation = dataset.labelled(params.split.label_fraction), dataset.indices("validation")
    features = np.asarray(read_array(embeddings))
    clusters = dataset.clusters(np.arange(len(features)))
    probabilities, choice = logistic.fit(
        features, visible(dataset), train, validation, clusters, len(dataset.classes), params.linear
    )
    keep(dataset, probabilities, choice.record("penalty"), len(train), predictions)
