"""End-to-end training of a classifier: from a pretrained encoder (fine-tuning) or from random weights (supervised)."""

from __future__ import annotations

from pathlib import Path

import torch

from tumorxai import config
from tumorxai.base.dataset import Dataset
from tumorxai.base.predictions import keep
from tumorxai.base.sides import sides
from tumorxai.files import write_csv
from tumorxai.inputs import stage, unfinished
from tumorxai.inputs.unfinished import Unfinished
from tumorxai.networks import encoders, engine
from tumorxai.networks.classifier import card
from tumorxai.train import training
from tumorxai.train.training import Training


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

    Raises:
        UserError: training stopped, see :meth:`Training.run`, or there is no space for what it leaves.
    """
    dataset = Dataset.load(data)
    channels, size = dataset.images.shape[1:3]
    labelled = dataset.labelled(params.split.label_fraction)
    torch.manual_seed(params.seed)
    classifier = training.start(params.model, dataset, encoder, labelled, data)
    name = training.block(encoder)
    fabric = training.device(params.pretrain.precision)
    asked = {**training.asked(params, settings, data, encoder), "fraction": params.split.label_fraction}
    causes = unfinished.causes(__name__, **engine.machine(fabric.device, params.pretrain.precision))
    work = Unfinished(unfinished.CHECKPOINTS, f"{name}-{unfinished.fingerprint(asked)}", causes)
    work.tell()
    one = Training(dataset, classifier, settings, labelled, params.seed, name, fabric, params.pretrain.graphs)
    chosen, curve = one.run(work)
    encoders.save(classifier.state_dict(), out, card(params.model, channels, size, classifier) | {"data": sides(data)})
    keep(dataset, classifier.probabilities(dataset.images), chosen, len(labelled), predictions)
    write_csv(plot, curve)
    stage.confirm()  # if not, the checkpoint is what a run with the old parameters goes on from
    work.discard()
