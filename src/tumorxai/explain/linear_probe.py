"""The linear probe as a classifier to explain: the pretrained encoder with a logistic regression as its head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tumorxai import config
from tumorxai.base.dataset import Dataset
from tumorxai.explain.sanity import linear_weights
from tumorxai.files import read_array, read_json
from tumorxai.networks import encoders
from tumorxai.networks.classifier import Classifier

NEVER = -1e4  # logit of a class that no labelled training image has


def linear_probe(params: config.Params, dataset: Dataset, encoder: Path, embeddings: Path, chosen: Path) -> Classifier:
    """Fit the probe again, with the penalty that linear evaluation has chosen, and fold the scaling into its weights.

    Args:
        params: the whole experiment.
        dataset: the images.
        encoder: the pretrained encoder and its card.
        embeddings: float32 (N, features).
        chosen: what linear evaluation chose, JSON with ``chosen.penalty``.
    """
    network, card = encoders.load(encoder)
    train = dataset.labelled(params.split.label_fraction)
    features = np.asarray(read_array(embeddings)[train], dtype=np.float64)
    scaler = StandardScaler().fit(features)
    penalty = read_json(chosen)["chosen"]["penalty"]
    model = LogisticRegression(C=penalty, max_iter=params.linear.max_iter)
    model.fit(scaler.transform(features), dataset.labels[train])
    classifier = Classifier(network, features.shape[1], dataset.classes, card["mean"], card["std"])
    learned = linear_weights(model, torch.from_numpy(scaler.mean_), torch.from_numpy(scaler.scale_))
    with torch.no_grad():
        classifier.head.weight.zero_()
        classifier.head.bias.fill_(NEVER)
        classifier.head.weight[model.classes_] = learned["weight"]
        classifier.head.bias[model.classes_] = learned["bias"]
    return classifier.eval()
