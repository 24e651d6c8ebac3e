"""What any method must beat, with the identical recipe: the majority class, a pixel neighbour, a random encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tumorxai import config
from tumorxai.base import draws, logistic
from tumorxai.base.dataset import Dataset
from tumorxai.base.pixels import nearest, pixels
from tumorxai.base.predictions import keep, visible
from tumorxai.networks import encoders, views
from tumorxai.networks.embed import embed
from tumorxai.probe import frozen


def run(params: config.Params, data: Path, majority: Path, pixel: Path, random: Path, curve: Path) -> None:
    """Predict without any pretraining.

    Args:
        params: the whole experiment.
        data: folder of the pack, the catalogue, the groups and the split.
        majority: CSV to write: the shares of the classes among the labelled images, said of every image.
        pixel: CSV to write: the class of the nearest labelled image, by raw pixels.
        random: CSV to write: linear evaluation of an encoder with random weights.
        curve: CSV to write: the same on fractions of the labels.
    """
    dataset = Dataset.load(data)
    labels, classes = visible(dataset), len(dataset.classes)
    train, validation = dataset.labelled(params.split.label_fraction), dataset.indices("validation")
    everyone = np.arange(len(labels))

    shares = np.bincount(labels[train], minlength=classes) / len(train)
    keep(dataset, np.tile(shares, (len(labels), 1)), {}, len(train), majority)

    found = labels[nearest(pixels(dataset, params.audit.canary_size), train, everyone)]
    keep(dataset, np.eye(classes)[found], {}, len(train), pixel)

    torch.manual_seed(params.seed)
    encoder = encoders.build(params.model, *dataset.images.shape[1:3])
    features = embed(encoder.eval(), dataset.images, *views.statistics(dataset.images[train]))
    fitted, choice = logistic.fit(
        features, labels, train, validation, dataset.clusters(everyone), classes, params.linear
    )
    keep(dataset, fitted.probabilities, choice.record("penalty"), len(train), random)
    settings = params.frozen
    said = frozen.label_curve(features, dataset, settings.fractions, settings.draws, params.linear, params.seed)
    draws.keep(dataset, said, curve)
