"""End-to-end training of a classifier: from a pretrained encoder (fine-tuning) or from random weights (supervised)."""

from __future__ import annotations

from pathlib import Path

import torch

from tumorxai import config
from tumorxai.base.dataset import Dataset
from tumorxai.base.predictions import keep
from tumorxai.files import write_csv
from tumorxai.networks import encoders
from tumorxai.networks.classifier import card
from tumorxai.train import training


def run(
    params: config.Params,
    settings: config.Train,
    data: Path,
    encoder: Path | None,
    out: Path,
    predictions: Path,
    plot: Path,
) -> None:
    """Train a classifier and keep what it says of every image.

    Args:
        params: the whole experiment.
        settings: its block for this stage.
        data: folder of the pack, the catalogue, the groups and the split.
        encoder: pretrained encoder to start from; None for random weights.
        out: classifier to write, ``*.safetensors``; its card goes beside it.
        predictions: CSV to write.
        plot: CSV of the training curve to write.
    """
    dataset = Dataset.load(data)
    channels, size = dataset.images.shape[1:3]
    labelled = dataset.labelled(params.split.label_fraction)
    torch.manual_seed(params.seed)
    classifier = training.start(params.model, dataset, encoder, labelled)
    name = "supervised" if encoder is None else "finetune"
    chosen, curve = training.train(dataset, classifier, settings, labelled, params.seed, name)
    encoders.save(classifier.state_dict(), out, card(params.model, channels, size, classifier))
    keep(dataset, classifier.probabilities(dataset.images), chosen, len(labelled), predictions)
    write_csv(plot, curve)
