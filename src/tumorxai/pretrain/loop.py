"""The only self-supervised loop, for every method."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from tumorxai import config, methods
from tumorxai.errors import UserError
from tumorxai.inputs.unfinished import Unfinished
from tumorxai.networks import checkpoint, engine, graphs, keras, losses, schedules
from tumorxai.networks.batches import Batches
from tumorxai.pretrain import distributed, monitors, trial
from tumorxai.pretrain.curves import Curves
from tumorxai.pretrain.online_probe import Probe

SPARSE = 8  # steps between two passes that only serve the monitors, for a loss that never calls the encoder
VALIDATED = 256  # images of one pass in evaluation mode
SHOWN = ("loss", "c_acc", "p_acc", "val_p_acc")  # beside the progress bar


@dataclass(frozen=True)
class Held:
    """Images on which the classifier is scored and from which nothing is learned.

    Attributes:
        ids: of the validation side, or of the test side where there is no other.
        labels: int64 (N,), of the whole pack.
        every_epoch: score after every epoch, not only after the last; a test side is scored once.
    """

    ids: NDArray[np.int64]
    labels: Tensor
    every_epoch: bool


class Found(NamedTuple):
    """What a part of a step leaves on the device.

    Attributes:
        loss: its value, without gradient.
        views: that it was taken of.
        signals: scalars to average, by name.
        accuracies: likewise, each of all images of the part.
        features: of view 1, (B, d), of all processes; None where the loss does not compute them.
    """

    loss: Tensor
    views: list[Tensor]
    signals: dict[str, Tensor]
    accuracies: dict[str, Tensor]
    features: Tensor | None


def obstacle(settings: config.Pretrain, fabric: Fabric, method: Any, name: str) -> str | None:
    """Why the steps of a run are not recorded, None if nothing is known against it."""
    if (why := graphs.obstacle(settings.graphs, fabric.device)) is not None:
        return why
    found = {
        "several processes share a batch": fabric.world_size > 1,
        "pretrain.accumulate is above 1": settings.accumulate > 1,
        f"the loss of {name} depends on how far training is": graphs.reads(type(method).loss, "progress"),
    }
    return next((why for why, holds in found.items() if holds), None)


class Loop:
    """One run of a method.

    Args:
        params: the whole experiment.
        fabric: launched.
        method: on the CPU, as :func:`tumorxai.methods.load` gives it; it is trained in place.
        batches: what it learns from.
        probe: the online probe, for a method without a classifier of its own.
        held: what the classifier is scored on.
    """

    def __init__(
        self, params: config.Params, fabric: Fabric, method: Any, batches: Batches, probe: Probe, held: Held
    ) -> None:
        settings = params.pretrain
        self.params, self.fabric, self.batches, self.probe, self.held = params, fabric, batches, probe, held
        self.method = distributed.synchronise_batch_norm(fabric, method)
        self.kept = methods.kept(self.method)  # what is watched, scored and saved
        self.seen = monitors.Seen(self.method, self.kept)
        self.classifier = getattr(self.method, "classifier", probe)  # what p_acc and val_p_acc are of
        # Whether the classifier learns from views of its own.
        self.apart = self.classifier is probe and methods.as_keras(self.method)
        optimizer = schedules.optimizer(self.method, self.method.optimizer, settings.batch_size)
        self.model, self.optimizer = fabric.setup(self.method.to(memory_format=torch.channels_last), optimizer)
        self.model.mark_forward_method("loss")
        self.rates = schedules.Rates(self.optimizer, fabric.device, batches.on_host)
        self.tried = ""  # what came of a trial of torch.compile
        self.compile(settings.compile is True)
        self.steps = settings.epochs * batches.per_epoch
        self.epoch = monitors.Epoch(batches.per_epoch, fabric.device)
        self.history: list[dict[str, float]] = []
        self.right: NDArray[np.bool_] = np.zeros(0, dtype=bool)  # of the held images, when last scored
        self.bounds: dict[str, float] = {}  # of the signals that tell a collapse; found at the first step
        self.collapsed = 0  # epochs so far with one of them below its bound

    def compile(self, on: bool) -> None:
        """Have the encoder compiled at the steps that follow, or leave it as it is; they are recorded anew."""
        self.compiled, encoder = on, self.method.encoder
        encoder.__dict__.pop("forward", None)
        if on:
            encoder.forward = torch.compile(encoder.forward)
        self.record(obstacle(self.params.pretrain, self.fabric, self.method, self.params.method))

    def record(self, why: str | None) -> None:
        """Record the steps that follow on a GPU, or do not, and say why."""
        self.halves = graphs.Halves(self._learn, self._end, self.method, self.fabric.device, why, self.rates)

    def train(self, work: Unfinished, curves: Path) -> int:
        """Train to the end, from the last checkpoint if there is one.

        Args:
            work: that holds the checkpoint; the caller discards it when all is written.
            curves: folder of the live curves.

        Returns:
            The step from which it went on, 0 for a fresh start.

        Raises:
            UserError: the loss is not finite, the features collapse, the run is interrupted or the disk is full.
        """
        settings, fabric = self.params.pretrain, self.fabric
        first = self._resume(work)
        every = engine.steps_between_looks(fabric)
        progress = tqdm(
            total=self.steps * settings.batch_size, initial=first * settings.batch_size, desc=self.params.method,
            unit="img", unit_scale=True, disable=not fabric.is_global_zero,
        )  # fmt: skip
        self.method.train()
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=True),
            checkpoint.interruptible() as interrupted,
            Curves(curves if fabric.is_global_zero else None, self.history) as drawn,
            progress as bar,
        ):
            self._try_to_compile(first, bar)
            for step in range(first, self.steps):
                self.step(step)
                bar.update(settings.batch_size)
                self.halves.say(bar)
                done, stop = step + 1, False
                epochs, rest = divmod(done, self.batches.per_epoch)
                if rest == 0 or done % every == 0:
                    stop = self._look(step, bool(interrupted))
                if rest == 0:
                    self.history.append(self.signals(done == self.steps))
                    drawn.add(self.history[-1])
                    shown = {name: self.history[-1].get(name) for name in SHOWN}
                    bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items() if value is not None})
                    self._judge(bar)
                    self.epoch = monitors.Epoch(self.batches.per_epoch, fabric.device)
                if done < self.steps and (stop or (rest == 0 and epochs % settings.checkpoint_epochs == 0)):
                    self._keep(work, done)
                if done < self.steps and stop:
                    raise checkpoint.stopped(done, self.steps)
        return first

    def step(self, step: int) -> None:
        """One optimiser step on one batch: B images, over A parts and W processes."""
        settings, fabric, batches = self.params.pretrain, self.fabric, self.batches
        warmup = settings.warmup_epochs * batches.per_epoch
        factor = schedules.factor(step, self.steps, warmup, self.method.optimizer.schedule)
        self.halves.give(factor, step / self.steps)
        labels = batches.labels_at(step)  # (B,)
        whole = settings.batch_size // settings.accumulate  # images of a part, B / A
        for part in range(settings.accumulate):
            rows = self._rows(part)
            then = (step, self._rows(part + 1)) if part + 1 < settings.accumulate else (step + 1, self._rows(0))
            loaded = batches.load(step, rows, then if then[0] < self.steps else None)
            key = self.params.seed, step, part, fabric.global_rank, 2
            with fabric.no_backward_sync(self.model, enabled=part + 1 < settings.accumulate):
                found = self.halves.learn([*loaded, labels[rows.start : rows.stop]], step / self.steps, key)
            self.epoch.losses[step % batches.per_epoch] += found.loss / settings.accumulate
            self._watch(step, found, labels[part * whole : (part + 1) * whole])
        self.halves.finish()
        if self.apart:
            views, known = batches.apart(step, keras.PROBE)
            self.epoch.add("p_acc", *self.probe.learn(self._encode(views), known))

    def _rows(self, part: int) -> range:
        """Rows of a batch that this process takes in one of its parts: B / (A W) of them."""
        settings, fabric = self.params.pretrain, self.fabric
        whole = settings.batch_size // settings.accumulate
        own = whole // fabric.world_size
        start = part * whole + fabric.global_rank * own
        return range(start, start + own)

    def _learn(self, given: Sequence[Tensor], progress: float) -> Found:
        """What a part of a step does on the device alone: views, loss, gradient, and what the monitors measure.

        Args:
            given: what the views are made of, and last the labels, int64, of this process.
            progress: share of training done.
        """
        self.seen.take(0)  # what a try to record this has left
        views = self.batches.make(given[:-1])
        with self.fabric.autocast():  # of a marked method Fabric sees to it only where it wraps the module, as for DDP
            loss = self.model.loss(views, given[-1], progress).float()
        self.fabric.backward(loss / self.params.pretrain.accumulate)
        pair, projected = self.seen.take(len(views[0]))
        signals = dict(getattr(self.method, "signals", {}))
        if projected is not None:
            signals["projection_std"] = monitors.feature_std(projected)
        if pair is None:
            return Found(loss.detach(), views, signals, {}, None)
        f1, f2 = (losses.gathered(features) for features in pair)
        return Found(loss.detach(), views, signals, monitors.accuracies(f1, f2), f1)

    def _end(self, given: Sequence[Tensor], progress: float) -> None:
        """Clip the gradients, take a step with them, and let a teacher follow; ``given``: see ``schedules.Rates``."""
        share, norm = self.rates.take(given, progress), self.params.pretrain.clip_norm
        if norm:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=norm, error_if_nonfinite=False)
        self.optimizer.step()
        self.method.after_step(share)

    def _watch(self, step: int, found: Found, labels: Tensor) -> None:
        """Take the signals of one part, and one step of the probe.

        Args:
            step: of the run.
            found: by this process.
            labels: int64, of the images of all processes.
        """
        for name, value in found.signals.items():
            self.epoch.add(name, value)
        f1, accuracies = found.features, found.accuracies
        if f1 is None:
            learn = self.halves.learn
            learn.stop(learn.why or f"the loss of {self.params.method} does not encode whole views")
            if step % self.batches.per_epoch % SPARSE:
                return
            f1, f2 = (losses.gathered(self._encode(view)) for view in found.views[:2])
            accuracies = monitors.accuracies(f1, f2)
        for name, value in accuracies.items():
            self.epoch.add(name, value * len(f1), len(f1))
        self.epoch.keep(f1 if self.halves.learn.replay is None else f1.clone())  # the next replay writes over it
        if not self.apart:
            self.epoch.add("p_acc", *self._classified(f1, labels))
        if not self.bounds:
            self.epoch.share(self._mean)
            initial = self.epoch.signals()
            self.bounds = monitors.bounds({name: initial[name] for name in monitors.BOUNDS if name in initial})

    def _classified(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Of a batch's labelled images: how many are classified rightly, and how many they are."""
        if self.classifier is self.probe:
            return self.probe.learn(features, labels)
        with torch.no_grad():
            return (self.classifier(features).argmax(dim=1) == labels).sum(), (labels >= 0).sum()

    @torch.no_grad()
    def _encode(self, images: Tensor) -> Tensor:
        """Features (B, d) in evaluation mode."""
        self.kept.eval()
        with self.fabric.autocast():
            features: Tensor = self.kept(images)
        self.kept.train()
        return features.float()

    def _look(self, step: int, interrupted: bool) -> bool:
        """Stop at a loss that is not finite; tell whether any process has received a signal."""
        found = self.epoch.losses[: step % self.batches.per_epoch + 1]
        wrong = ~found.isfinite()
        either = torch.stack([wrong.any(), wrong.new_tensor(interrupted)]).float()
        broken, stop = distributed.reduce(self.fabric, either, "sum").tolist()
        if broken:
            at = int(wrong.int().argmax()) if wrong.any() else len(found) - 1  # it may be another process's loss
            name = self.params.method
            remedy = f"lower methods.{name}.optimizer.lr or set pretrain.clip_norm"
            raise engine.not_finite(name, float(found[at]), step + 2 + at - len(found), self.steps, remedy)
        return bool(stop)

    def signals(self, last: bool) -> dict[str, float]:
        """The signals of the epoch that ends."""
        self.epoch.share(self._mean)
        signals = self.epoch.signals()
        signals["lr"] = float(self.optimizer.param_groups[0]["lr"])
        if len(self.held.ids) and (self.held.every_epoch or last):
            self.right = self._validate()
            signals["val_p_acc"] = float(self.right.mean())
        return signals

    @torch.no_grad()
    def _validate(self) -> NDArray[np.bool_]:
        """Whether each held image is classified rightly, without augmentation."""
        ids, own = self.held.ids, np.arange(self.fabric.global_rank, len(self.held.ids), self.fabric.world_size)
        right = torch.zeros(len(ids), device=self.fabric.device)
        for start in range(0, len(own), VALIDATED):
            part = own[start : start + VALIDATED]
            logits = self.classifier(self._encode(self.batches.plain(ids[part])))
            right[part] = (logits.argmax(dim=1) == self.held.labels[ids[part]].to(logits.device)).float()
        whole: NDArray[np.bool_] = distributed.reduce(self.fabric, right, "sum").cpu().numpy() > 0
        return whole

    def _mean(self, value: Tensor) -> Tensor:
        return distributed.reduce(self.fabric, value, "mean")

    def _judge(self, bar: Any) -> None:
        """Stop at a collapse, or say so once."""
        settings, name = self.params.pretrain, self.params.method
        signal, epochs = monitors.collapsing(self.history, self.bounds, settings.warmup_epochs)
        self.collapsed += epochs > 0
        if signal is None or epochs < settings.collapse_patience:
            return
        message = (
            f"{name} collapses: {signal} is {self.history[-1][signal]:.3g} after epoch "
            f"{len(self.history)}; expected at least {self.bounds[signal]:.3g}, but it has been lower for {epochs} "
            f"epochs; {getattr(self.method, 'against_collapse', f'lower methods.{name}.optimizer.lr')}"
        )
        if settings.on_collapse == "stop":
            raise UserError(f"{message}, or let it go on with pretrain.on_collapse: warn")
        if epochs == settings.collapse_patience:
            bar.write(f"warning: {message}", file=sys.stderr)

    def _resume(self, work: Unfinished) -> int:
        """Take up the last checkpoint, which the first process reads for all; the step to go on with."""
        state = None
        if self.fabric.is_global_zero:
            work.tell()
            state = checkpoint.load(work.folder / checkpoint.FILE)
        state = self.fabric.broadcast(state)
        if state is None:
            return 0
        self.restore(state)
        self.history, self.collapsed, self.tried = state["history"], state["collapsed"], state["tried"]
        if self.compiled != state["compiled"]:
            self.compile(state["compiled"])
        step: int = state["step"]
        return step

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put all that changes from step to step back to what :meth:`state` gave."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.rates.bind()
        self.bounds = dict(state["bounds"])

    def state(self) -> dict[str, Any]:
        """All that changes from step to step, itself and not a copy."""
        return {name: part.state_dict() for name, part in self._parts().items()} | {"bounds": self.bounds}

    def _try_to_compile(self, first: int, bar: Any) -> None:
        """Make the trial of torch.compile, if there is to be one and a run that goes on has not made it."""
        if self.tried or trial.obstacle(self, first) is not None:
            return
        bar.write("note: trying whether torch.compile pays (pretrain.compile is auto)", file=sys.stderr)
        self.tried = trial.run(self, first)
        bar.write(f"note: torch.compile {self.tried}", file=sys.stderr)

    def _keep(self, work: Unfinished, step: int) -> None:
        self.epoch.share(self._mean)
        if self.fabric.is_global_zero:
            observed = {"history": self.history, "collapsed": self.collapsed}
            decided = {"compiled": self.compiled, "tried": self.tried}
            checkpoint.save(work.begin() / checkpoint.FILE, {**self.state(), **observed, **decided, "step": step})

    def _parts(self) -> dict[str, Any]:
        """What holds it."""
        return {"method": self.method, "optimizer": self.optimizer, "probe": self.probe, "epoch": self.epoch}
