"""End-to-end training of a classifier: from a pretrained encoder (fine-tuning) or from random weights (supervised)."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from numpy.typing import NDArray
from tqdm import tqdm

from tumorxai import config, encoders, schedules, views
from tumorxai.data.dataset import Dataset
from tumorxai.errors import UserError
from tumorxai.evaluate import result
from tumorxai.evaluate.classifier import Classifier, card
from tumorxai.evaluate.scores import confusion, from_confusion


def train(
    dataset: Dataset,
    classifier: Classifier,
    settings: config.Train,
    labelled: NDArray[np.int64],
    seed: int,
    name: str,
) -> dict[str, float]:
    """Train in place; the weights of the epoch that is best on the validation side are kept.

    Args:
        dataset: the images.
        classifier: what to train.
        settings: the recipe.
        labelled: ids of the training images.
        seed: of order and augmentation.
        name: shown in the progress bar.

    Returns:
        The epoch that was kept and its validation score.

    Raises:
        UserError: the loss is not finite.
    """
    fabric = Fabric(accelerator="auto", devices=1)
    size = dataset.images.shape[-1]
    validation = dataset.indices("validation")
    images, truth = dataset.images[validation], dataset.labels[validation]
    classifier.to(memory_format=torch.channels_last)
    head = {"params": list(classifier.head.parameters()), "lr": settings.lr}
    backbone = {"params": list(classifier.encoder.parameters()), "lr": settings.backbone_lr}
    model, optimizer = fabric.setup(classifier, torch.optim.AdamW([head, backbone], weight_decay=settings.weight_decay))
    batch = min(settings.batch_size, len(labelled))
    per_epoch = len(labelled) // batch
    steps = settings.epochs * per_epoch

    best_score, best_loss, best_epoch, best_state = -1.0, float("inf"), 0, copy.deepcopy(classifier.state_dict())
    with tqdm(total=steps, desc=name, unit="step") as bar:
        for epoch in range(1, settings.epochs + 1):
            classifier.train()
            generator = np.random.default_rng([seed, epoch])
            torch.manual_seed(int(generator.integers(2**62)))
            order = generator.permutation(labelled)
            for i in range(per_epoch):
                step = (epoch - 1) * per_epoch + i
                factor = schedules.warmup_cosine(step + 1, steps, settings.warmup_epochs * per_epoch)
                for group, peak in zip(optimizer.param_groups, (settings.lr, settings.backbone_lr), strict=True):
                    group["lr"] = peak * factor
                ids = np.sort(order[i * batch : (i + 1) * batch])
                raw = torch.from_numpy(dataset.images[ids]).to(fabric.device)
                x = classifier.normalise(views.draw(raw, views.SUPERVISED, size))
                loss = F.cross_entropy(model(x), torch.from_numpy(dataset.labels[ids]).to(fabric.device))
                if not torch.isfinite(loss):
                    raise UserError(
                        f"the loss of {name} is {loss.item()} at step {step + 1}; "
                        f"expected a finite number; lower {name}.lr"
                    )
                optimizer.zero_grad()
                fabric.backward(loss)
                optimizer.step()
                bar.update()
            if not len(validation):  # nothing to choose by: the last epoch stands
                best_epoch, best_state = epoch, classifier.state_dict()
                continue
            probabilities = classifier.probabilities(images)
            matrix = confusion(truth, probabilities.argmax(axis=1).astype(np.int64), len(dataset.classes))
            score = float(from_confusion(matrix)["balanced_accuracy"])
            log_loss = float(-np.log(probabilities[np.arange(len(truth)), truth].clip(1e-12)).mean())
            bar.set_postfix(loss=f"{loss.item():.3f}", validation=f"{score:.3f}")
            if (score, -log_loss) > (best_score, -best_loss):
                best_score, best_loss, best_epoch = score, log_loss, epoch
                best_state = copy.deepcopy(classifier.state_dict())
            elif epoch - best_epoch >= settings.patience:
                break
    classifier.load_state_dict(best_state)
    return {"epoch": best_epoch, "validation_balanced_accuracy": best_score}


def run(
    params: config.Params,
    settings: config.Train,
    data: Path,
    encoder: Path | None,
    out: Path,
    metrics: Path,
    predictions: Path,
    plot: Path,
) -> None:
    """Train a classifier and test it once.

    Args:
        params: the whole experiment.
        settings: its block for this stage.
        data: folder of the pack, the catalogue, the groups and the split.
        encoder: pretrained encoder to start from; None for random weights.
        out: classifier to write, ``*.safetensors``; its card goes beside it.
        metrics: JSON to write.
        predictions: CSV to write.
        plot: CSV of test predictions to write.
    """
    dataset = Dataset.load(data)
    channels, size = dataset.images.shape[1:3]
    labelled = dataset.labelled(params.split.label_fraction)
    torch.manual_seed(params.seed)
    if encoder is None:
        network = encoders.build(params.model, channels, size)
        mean, std = views.statistics(dataset.images[labelled])
    else:
        network, described = encoders.load(encoder)
        mean, std = described["mean"], described["std"]
    classifier = Classifier(network, encoders.width(network, channels, size), dataset.classes, mean, std)
    name = "supervised" if encoder is None else "finetune"
    chosen = train(dataset, classifier, settings, labelled, params.seed, name)
    encoders.save(classifier.state_dict(), out, card(params.model, channels, size, classifier))
    probabilities = classifier.probabilities(dataset.images)
    result.write(dataset, probabilities, chosen, len(labelled), params.seed, metrics, predictions, plot)
