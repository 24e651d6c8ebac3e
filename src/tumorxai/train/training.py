"""The loop that trains a classifier end to end, and where it starts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
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
from torch import Tensor
from tqdm import tqdm

from tumorxai import config
from tumorxai.base.counts import Choice, balanced_accuracy, image_nll
from tumorxai.base.dataset import Dataset
from tumorxai.base.predictions import visible
from tumorxai.files import sha256
from tumorxai.inputs.unfinished import Unfinished
from tumorxai.networks import checkpoint, encoders, engine, fused, graphs, schedules, views
from tumorxai.networks.classifier import Classifier
from tumorxai.networks.store import choose, sent

Ids = NDArray[np.int64]


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
        group["lr"] = settings.backbone_lr * group.pop("lr_scale")
    head = {"weight_decay": settings.weight_decay, "lr": settings.lr}
    return [*groups, {"params": [classifier.head.weight], **head}, {"params": [classifier.head.bias], **head}]


def device(precision: str) -> Fabric:
    """Where a training takes place: one GPU if there is one.

    Args:
        precision: as ``pretrain.precision``.
    """
    return Fabric(accelerator="auto", devices=1, precision=engine.precision(precision))


class Training:
    """The training of one classifier, in place.

    Args:
        dataset: the images.
        classifier: what to train.
        settings: the recipe.
        labelled: ids of the training images.
        seed: of order and augmentation.
        name: block of the recipe, and after a comma what else the progress bar should show.
        fabric: of :func:`device`.
        recorded: as ``pretrain.graphs``.
    """

    def __init__(
        self,
        dataset: Dataset,
        classifier: Classifier,
        settings: config.Train,
        labelled: Ids,
        seed: int,
        name: str,
        fabric: Fabric,
        recorded: str = "auto",
    ) -> None:
        self.dataset, self.classifier, self.settings, self.labelled = dataset, classifier, settings, labelled
        self.seed, self.name, self.fabric = seed, name, fabric
        self.labels, self.validation = visible(dataset), dataset.indices("validation")
        fused = None if self.on_host else True  # one kernel for all parameters
        optimizer = torch.optim.AdamW(parameter_groups(classifier, settings), fused=fused)
        self.model, self.optimizer = self.fabric.setup(classifier.to(memory_format=torch.channels_last), optimizer)
        self.batch = min(settings.batch_size, len(labelled))
        self.per_epoch = len(labelled) // self.batch
        self.steps = settings.epochs * self.per_epoch
        self.store = choose(dataset.images, fabric.device)
        self.rates = schedules.Rates(self.optimizer, fabric.device, self.on_host)
        self.record(graphs.obstacle(recorded, fabric.device))
        self.best = Best()
        self.curve: list[dict[str, float]] = []

    def record(self, why: str | None) -> None:
        """Record the steps that follow on a GPU, or do not, and say why."""
        self.halves = graphs.Halves(self._learn, self._end, self.classifier, self.fabric.device, why, self.rates)

    def run(self, work: Unfinished, file: str = checkpoint.FILE) -> tuple[dict[str, float], pd.DataFrame]:
        """Train to the end, from the last checkpoint if there is one; the best epoch's weights are kept.

        Args:
            work: that holds the checkpoint; the caller discards it when all is written.
            file: the checkpoint's name.

        Returns:
            The epoch that was kept and its validation score; and loss and validation score of every epoch.

        Raises:
            UserError: the loss is not finite, the training is interrupted or the disk is full.
        """
        first, pace = self._resume(work.folder / file), checkpoint.Pace()
        every = engine.steps_between_looks(self.fabric)
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=True),
            checkpoint.interruptible() as interrupted,
            tqdm(total=self.steps, initial=first, desc=self.name, unit="step") as bar,
        ):
            for step in range(first, self.steps):
                epoch, at = divmod(step, self.per_epoch)
                if at == 0:
                    self._begin(epoch)
                self._step(step)
                bar.update()
                self.halves.say(bar)
                done, last, stop = step + 1, at + 1 == self.per_epoch, False
                if last or done % every == 0:
                    self._look(step)
                    stop = bool(interrupted)
                if last and not self._judge(epoch + 1, bar):
                    break
                if done < self.steps and (stop or (last and pace.due())):
                    pace.save(work.begin() / file, self._state(done))
                if done < self.steps and stop:
                    raise checkpoint.stopped(done, self.steps)
        self.classifier.load_state_dict(self.best.state)
        score = self.best.score if len(self.validation) else None
        chosen = Choice(self.best.epoch, score, "validation" if len(self.validation) else "nothing")
        return chosen.record("epoch"), pd.DataFrame(self.curve).round(6)

    def _begin(self, epoch: int) -> None:
        """Seed all draws of an epoch (from 0 on), which hang on nothing that came before it."""
        self.classifier.train()
        generator = np.random.default_rng([self.seed, epoch + 1])
        torch.manual_seed(int(generator.integers(2**62)))
        self.order = generator.permutation(self.labelled)
        self.losses = torch.zeros(self.per_epoch, device=self.fabric.device)

    def _step(self, step: int) -> None:
        """One optimiser step; nothing in it waits for the device."""
        at, warmup = step % self.per_epoch, self.settings.warmup_epochs * self.per_epoch
        factor = schedules.warmup_cosine(step, self.steps, warmup)
        self.halves.give(factor, step / self.steps)
        ids, then = self._at(at), self._at(at + 1) if at + 1 < self.per_epoch else None
        labels = engine.on_device(self.labels[ids], self.fabric.device)
        self.losses[at] = self.halves.learn([*self._load(ids, then), labels], step / self.steps)
        self.halves.finish()

    def _at(self, place: int) -> Ids:
        """The images of a step of this epoch."""
        return np.sort(self.order[place * self.batch : (place + 1) * self.batch])

    def _load(self, ids: Ids, then: Ids | None) -> list[Tensor]:
        """What the host gives to a step's views: the views themselves, or where the images are and what was drawn.

        Args:
            ids: of the images.
            then: those of the next step, to copy them ahead; None if unknown.
        """
        fetched, side = self.store.fetch(ids, then), self.dataset.images.shape[-1]
        if self.on_host:
            return [views.draw(self.store.pixels(fetched), views.SUPERVISED, side)]
        return [fetched, sent(fused.sample(len(ids), views.SUPERVISED, side), self.fabric.device)]

    def _learn(self, given: Sequence[Tensor], _: float) -> Tensor:
        """The loss, and its gradient. ``given``: what :meth:`_load` gives, and the labels, int64."""
        *loaded, labels = given
        if self.on_host:
            (drawn,) = loaded
        else:
            fetched, table = loaded
            drawn = fused.apply(self.store.pixels(fetched).float(), table, views.SUPERVISED)
        x = self.classifier.normalise(drawn)
        loss = F.cross_entropy(self.model(x), labels)
        self.fabric.backward(loss)
        return loss.detach()

    def _end(self, given: Sequence[Tensor], progress: float) -> None:
        """Take a step with the gradients; ``given``: see :class:`tumorxai.networks.schedules.Rates`."""
        self.rates.take(given, progress)
        self.optimizer.step()

    @property
    def on_host(self) -> bool:
        """Whether views are drawn on the CPU, as in pretraining: see :class:`tumorxai.networks.batches.Batches`."""
        return self.fabric.device.type == "cpu"

    def _look(self, step: int) -> None:
        """Stop at a loss that is not finite."""
        found = self.losses[: step % self.per_epoch + 1].cpu()
        wrong = (~found.isfinite()).nonzero()
        if len(wrong):
            at = int(wrong[0])
            remedy = f"lower {self.name.split(',')[0]}.lr"
            raise engine.not_finite(self.name, float(found[at]), step + 2 + at - len(found), self.steps, remedy)

    def _judge(self, epoch: int, bar: Any) -> bool:
        """Score the epoch that ends (from 1 on); whether to go on."""
        # Added one after the other in float32, as the losses came.
        total = float(self.losses.cpu().numpy().cumsum()[-1])
        self.curve.append({"epoch": epoch, "loss": total / self.per_epoch})
        if not len(self.validation):  # nothing to choose by: the last epoch stands
            self.best = Best(epoch, state=self.classifier.state_dict())
            return True
        # In float32 on every device, as whoever loads the weights will have it.
        probabilities = self.classifier.probabilities(self.dataset.images[self.validation])
        truth = self.labels[self.validation]
        score = float(balanced_accuracy(truth, probabilities.argmax(axis=1), len(self.dataset.classes)))
        log_loss = float(image_nll(truth, probabilities).mean())
        self.curve[-1] |= {"validation_loss": log_loss, "validation_balanced_accuracy": score}
        bar.set_postfix(loss=f"{self.curve[-1]['loss']:.3f}", validation=f"{score:.3f}")
        if (score, -log_loss) > (self.best.score, -self.best.loss):
            self.best = Best(epoch, score, log_loss, copy.deepcopy(self.classifier.state_dict()))
            return True
        return epoch - self.best.epoch < self.settings.patience

    def _state(self, done: int) -> dict[str, Any]:
        """All that changes from step to step, after some steps."""
        return {
            "classifier": self.classifier.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": vars(self.best),
            "curve": self.curve,
            "losses": self.losses,
            "draws": [one.get_rng_state() for one in self._generators()],
            "step": done,
        }

    def _resume(self, saved: Path) -> int:
        """Take up a checkpoint; the step to go on with."""
        state = checkpoint.load(saved)
        if state is None:
            return 0
        self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rates.bind()
        self.best, self.curve = Best(**state["best"]), state["curve"]
        step: int = state["step"]
        if step % self.per_epoch:  # in the middle of an epoch
            self._begin(step // self.per_epoch)
            self.losses.copy_(state["losses"])
            for one, drawn in zip(self._generators(), state["draws"], strict=True):
                one.set_rng_state(drawn)
        return step

    def _generators(self) -> list[Any]:
        """What holds the states of draws: of augmentation the CPU's generator, of dropout the device's."""
        kind = self.fabric.device.type
        return [torch] if kind == "cpu" else [torch, torch.get_device_module(kind)]


def start(
    model: config.Model, dataset: Dataset, encoder: Path | None, labelled: Ids, data: Path | None = None
) -> Classifier:
    """An untrained head on a pretrained encoder, or on random weights; torch's global generator draws them.

    Raises:
        UserError: the encoder was trained on other sides than those in the folder ``data``; None for any.
    """
    channels, size = dataset.images.shape[1:3]
    if encoder is None:
        network = encoders.build(model, channels, size)
        mean, std = views.statistics(dataset.images[labelled])
    else:
        network, described = encoders.load(encoder, data)
        mean, std = described["mean"], described["std"]
    return Classifier(network, encoders.width(network, channels, size), dataset.classes, mean, std)


def block(encoder: Path | None) -> str:
    """The block of parameters that a training takes its recipe from, which is its stage's name as well."""
    return "supervised" if encoder is None else "finetune"


def asked(params: config.Params, settings: config.Train, data: Path, encoder: Path | None) -> dict[str, Any]:
    """What decides a training beside the labels that it may use: parameters, and SHA-256 of all that it reads."""
    tables = [data / name for name in ("pack.npy", "catalogue.csv", "groups.csv", "split.csv")]
    start = [encoder, encoder.with_suffix(".json")] if encoder else []
    return {
        "parameters": params.model_dump(include={"seed", "model"}),
        "precision": params.pretrain.precision,
        "settings": settings.model_dump(),
        "data": [sha256(path) for path in (*tables, *start)],
    }
