"""Linear evaluation: logistic regression on frozen embeddings, the field's standard protocol (arXiv 1603.08511)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tumorxai import config
from tumorxai.base import embedded, logistic
from tumorxai.base.dataset import Dataset
from tumorxai.base.predictions import keep, visible
from tumorxai.base.sides import of_sides, sides
from tumorxai.files import sha256
from tumorxai.networks import weights


def run(params: config.Params, data: Path, embeddings: Path, encoder: Path, out: Path, predictions: Path) -> None:
    """Evaluate frozen embeddings with the labels of ``split.label_fraction``, and keep what was fitted.

    Args:
        params: the whole experiment.
        data: folder of the pack, the catalogue, the groups and the split.
        embeddings: float32 (N, features).
        encoder: that made them, ``*.safetensors`` with its card beside it.
        out: linear layer to write, ``*.safetensors``; its card goes beside it and holds the encoder's checksum.
        predictions: CSV to write.

    Raises:
        UserError: encoder or embeddings are damaged, or not of this run.
    """
    dataset = Dataset.load(data)
    remedy = "run `dvc repro pretrain`"
    described = weights.card(encoder, "a pretrained encoder", remedy)
    of_sides(encoder, described, data, remedy)
    train, validation = dataset.labelled(params.split.label_fraction), dataset.indices("validation")
    features = np.asarray(embedded.read(embeddings, dataset.images, encoder, data))
    clusters = dataset.clusters(np.arange(len(features)))
    fitted, choice = logistic.fit(
        features, visible(dataset), train, validation, clusters, len(dataset.classes), params.linear
    )
    keep(dataset, fitted.probabilities, choice.record("penalty"), len(train), predictions)
    card = {key: described[key] for key in ("timm", "small_stem", "channels", "size", "mean", "std")}
    card |= {"features": features.shape[1], "classes": list(dataset.classes), "penalty": choice.value}
    card |= {"encoder": {"file": encoder.name, "sha256": sha256(encoder)}, "data": sides(data)}
    layer = {"weight": fitted.weight, "bias": fitted.bias}
    weights.save({name: torch.from_numpy(value.astype(np.float32)) for name, value in layer.items()}, out, card)
