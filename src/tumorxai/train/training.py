"""The loop that trains a classifier end to end, and where it starts."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm.optim
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from numpy.typing import NDArray
from tqdm import tqdm

from tumorxai import config
from tumorxai.base.counts import Choice, balanced_accuracy, image_nll
from tumorxai.base.dataset import Dataset
from tumorxai.base.predictions import visible
from tumorxai.errors import UserError
from tumorxai.networks import encoders, schedules, views
from tumorxai.networks.classifier import Classifier


@dataclass
class Best:
    """The epoch that is best on the validation side: by balanced accuracy, between equals by the lower loss."""

    epoch: int = 0
    score: float = -1.0
    loss: float = float("inf")
    state: dict[str, Any] = field(default_factory=dict)


def parameter_groups(classifier: Classifier, settings: config.Train) -> list[dict[str, Any]]:
    """Parameters with their peak learning rate: the lower a layer of the encoder, the more of what it knows is kept.

    Layer-wise decay as in BEiT (arXiv 2106.08254, appendix) by timm's own order of layers; biases and normalisation
    layers are free of weight decay.
    """
    skip: set[str] = getattr(classifier.encoder, "no_weight_decay", set)()
    groups: list[dict[str, Any]] = timm.optim.param_groups_layer_decay(
        classifier.encoder, settings.weight_decay, no_weight_decay_list=skip, layer_decay=settings.layer_decay
    )
    for group in groups:
        group["peak"] = settings.backbone_lr * group.pop("lr_scale")
    head = {"weight_decay": settings.weight_decay, "peak": settings.lr}
    return [*groups, {"params": [classifier.head.weight], **head}, {"params": [classifier.head.bias], **head}]


def train(
    dataset: Dataset, classifier: Classifier, settings: config.Train, labelled: NDArray[np.int64], seed: int, name: str
) -> tuple[dict[str, float], pd.DataFrame]:
    """Train in place; the weights of the epoch that is best on the validation side are kept.

    Args:
        dataset: the images.
        classifier: what to train.
        settings: the recipe.
        labelled: ids of the training images.
        seed: of order and augmentation.
        name: block of the recipe, and after a comma what else the progress bar should show.

    Returns:
        The epoch that was kept and its validation score; and loss and validation score of every epoch.

    Raises:
        UserError: the loss is not finite.
    """
    fabric = Fabric(accelerator="auto", devices=1)
    size, labels, validation = dataset.images.shape[-1], visible(dataset), dataset.indices("validation")
    images, truth = dataset.images[validation], labels[validation]
    classifier.to(memory_format=torch.channels_last)
    model, optimizer = fabric.setup(classifier, torch.optim.AdamW(parameter_groups(classifier, settings)))
    batch = min(settings.batch_size, len(labelled))
    per_epoch = len(labelled) // batch
    steps = settings.epochs * per_epoch

    best, curve = Best(), []
    with tqdm(total=steps, desc=name, unit="step") as bar:
        for epoch in range(1, settings.epochs + 1):
            classifier.train()
            generator = np.random.default_rng([seed, epoch])
            torch.manual_seed(int(generator.integers(2**62)))
            order, total = generator.permutation(labelled), torch.zeros((), device=fabric.device)
            for i in range(per_epoch):
                step = (epoch - 1) * per_epoch + i
                factor = schedules.warmup_cosine(step, steps, settings.warmup_epochs * per_epoch)
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * factor
                ids = np.sort(order[i * batch : (i + 1) * batch])
                raw = torch.from_numpy(dataset.images[ids]).to(fabric.device)
                x = classifier.normalise(views.draw(raw, views.SUPERVISED, size))
                loss = F.cross_entropy(model(x), torch.from_numpy(labels[ids]).to(fabric.device))
                if not torch.isfinite(loss):
                    raise UserError(
                        f"the loss of {name} is {loss.item()} at step {step + 1}; "
                        f"expected a finite number; lower {name.split(',')[0]}.lr"
                    )
                optimizer.zero_grad()
                fabric.backward(loss)
                optimizer.step()
                total += loss.detach()
                bar.update()
            curve.append({"epoch": epoch, "loss": float(total) / per_epoch})
            if not len(validation):  # nothing to choose by: the last epoch stands
                best = Best(epoch, state=classifier.state_dict())
                continue
            probabilities = classifier.probabilities(images)
            score = balanced_accuracy(truth, probabilities.argmax(axis=1), len(dataset.classes))
            log_loss = float(image_nll(truth, probabilities).mean())
            curve[-1] |= {"validation_loss": log_loss, "validation_balanced_accuracy": score}
            bar.set_postfix(loss=f"{curve[-1]['loss']:.3f}", validation=f"{score:.3f}")
            if (score, -log_loss) > (best.score, -best.loss):
                best = Best(epoch, score, log_loss, copy.deepcopy(classifier.state_dict()))
            elif epoch - best.epoch >= settings.patience:
                break
    classifier.load_state_dict(best.state)
    chosen = Choice(best.epoch, best.score, "validation") if len(validation) else Choice(best.epoch, None, "nothing")
    return chosen.record("epoch"), pd.DataFrame(curve).round(6)


def start(model: config.Model, dataset: Dataset, encoder: Path | None, labelled: NDArray[np.int64]) -> Classifier:
    """An untrained head on a pretrained encoder, or on random weights; torch's global generator draws them."""
    channels, size = dataset.images.shape[1:3]
    if encoder is None:
        network = encoders.build(model, channels, size)
        mean, std = views.statistics(dataset.images[labelled])
    else:
        network, described = encoders.load(encoder)
        mean, std = described["mean"], described["std"]
    return Classifier(network, encoders.width(network, channels, size), dataset.classes, mean, std)
