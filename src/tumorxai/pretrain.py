"""Self-supervised pretraining: the only loop, for every method."""

from __future__ import annotations

import platform
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dvclive import Live
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from tumorxai import checkpoint, config, encoders, methods, monitors, schedules, views
from tumorxai.data.dataset import Dataset
from tumorxai.errors import UserError
from tumorxai.files import sha256, write_json

MONITORED = 512  # images on which the signals are measured after each epoch


def precision(asked: str) -> Any:
    """Lightning Fabric's name of the precision: bf16 only where the hardware is fast at it."""
    if asked != "auto":
        return asked
    return "bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true"


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make all draws of one step a function of (seed, step, rank), so that a resumed run repeats them exactly."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1)))


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Turn SIGTERM (a preempted job) and SIGINT into an entry of the yielded list, to be looked at between steps."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Batches:
    """The pretraining images and how they become batches of views.

    Attributes:
        images: uint8 (N, C, S, S), the whole pack.
        ids: the images to train on.
        labels: int64 (N,), -1 where a label must not be used.
        recipes: the views that the method asks for.
        mean: of the pixels of ``ids``, on the scale [0, 1].
        std: their standard deviation.
        batch: images a step, over all processes.
        device: where the views are drawn.
    """

    images: NDArray[np.uint8]
    ids: NDArray[np.int64]
    labels: Tensor
    recipes: list[views.View]
    mean: float
    std: float
    batch: int
    device: torch.device

    @property
    def per_epoch(self) -> int:
        """Steps of one epoch; the incomplete last batch is left out."""
        return len(self.ids) // self.batch

    def at(self, seed: int, step: int) -> NDArray[np.int64]:
        """The images of one step, ascending; each epoch is a new permutation."""
        order = np.random.default_rng([seed, step // self.per_epoch]).permutation(self.ids)
        start = step % self.per_epoch * self.batch
        return np.sort(order[start : start + self.batch])

    def draw(self, ids: NDArray[np.int64]) -> list[Tensor]:
        """Normalised views of some images: one tensor (B, C, S, S) for each recipe."""
        raw = torch.from_numpy(self.images[ids]).to(self.device)
        drawn = (views.draw(raw, view, raw.shape[-1]) for view in self.recipes)
        return [((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last) for x in drawn]

    def watched(self) -> NDArray[np.int64]:
        """The images on which the signals are measured."""
        return self.ids[np.linspace(0, len(self.ids) - 1, min(MONITORED, len(self.ids)), dtype=np.int64)]


class Curves:
    """DVCLive's curves of a run, one point an epoch, live.

    Args:
        folder: where they go; None (all processes but the first) draws nothing.
        history: the points of the epochs before a resumed run.
    """

    def __init__(self, folder: Path | None, history: list[dict[str, float]]) -> None:
        self.live = Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None) if folder else None
        for signals in history:
            self.add(signals)

    def __enter__(self) -> Curves:
        return self

    def add(self, signals: Mapping[str, float]) -> None:
        """Draw the point of the next epoch."""
        if self.live:
            for name, value in signals.items():
                self.live.log_metric(name, value)
            self.live.next_step()

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.end()


def _prepare(params: config.Params, dataset: Dataset, recipes: list[views.View], device: torch.device) -> Batches:
    settings = params.pretrain
    ids = dataset.pretraining(settings.transductive)
    if len(ids) < settings.batch_size:
        raise UserError(
            f"got pretrain.batch_size {settings.batch_size} with {len(ids)} pretraining images; "
            "expected at least one full batch; lower pretrain.batch_size"
        )
    labels = torch.full((len(dataset.images),), -1)
    train = dataset.indices("train")
    labels[train] = torch.from_numpy(dataset.labels[train])
    mean, std = views.statistics(dataset.images[ids])
    return Batches(dataset.images, ids, labels, recipes, mean, std, settings.batch_size, device)


def _signals(encoder: torch.nn.Module, batches: Batches, seed: int) -> dict[str, float]:
    """The signals on the same views of the same images after every epoch, the encoder in evaluation mode."""
    encoder.eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        f1, f2 = (encoder(view).float() for view in batches.draw(batches.watched())[:2])
    encoder.train()
    return monitors.all_signals(f1, f2)


def run(params: config.Params, data: Path, out: Path, metrics: Path, curves: Path) -> None:
    """Pretrain an encoder.

    Args:
        params: the whole experiment.
        data: folder of the pack, the catalogue, the groups and the split.
        out: encoder to write, ``*.safetensors``; its card and ``pretrain_run.json`` (hardware, speed) go beside it.
        metrics: JSON to write: the last epoch's signals.
        curves: folder for DVCLive's curves, one TSV a signal.

    Raises:
        UserError: the parameters do not fit the data, the loss is not finite, or the run was interrupted.
    """
    started = time.monotonic()
    settings = params.pretrain
    fabric = Fabric(
        accelerator="auto", devices=settings.devices, num_nodes=settings.nodes, precision=precision(settings.precision)
    )
    fabric.launch()
    dataset = Dataset.load(data)
    channels, size = dataset.images.shape[1:3]
    torch.manual_seed(params.seed)
    encoder = encoders.build(params.model, channels, size)
    method = methods.load(
        params.method, encoder, encoders.width(encoder, channels, size), params.methods[params.method]
    )
    method.to(memory_format=torch.channels_last)
    batches = _prepare(params, dataset, method.views(), fabric.device)
    optimizer = schedules.optimizer(method, method.optimizer, settings.batch_size)
    peaks = [group["lr"] for group in optimizer.param_groups]
    model, optimizer = fabric.setup(method, optimizer)
    model.mark_forward_method("loss")

    name = checkpoint.fingerprint(
        {
            "parameters": params.model_dump(include={"seed", "method", "model", "pretrain"}),
            "settings": params.methods[params.method],
            "pack": sha256(data / "pack.npy"),
            "split": sha256(data / "split.csv"),
        }
    )
    saved = checkpoint.FOLDER / f"{name}.pt"
    first, total, history = 0, torch.zeros((), device=fabric.device), list[dict[str, float]]()
    if (state := checkpoint.load(saved)) is not None:
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        first, history = state["step"], state["history"]
        total.copy_(state["total"])

    def keep(step: int) -> None:
        if fabric.is_global_zero:
            weights = {"method": method.state_dict(), "optimizer": optimizer.state_dict()}
            checkpoint.save(saved, {**weights, "step": step, "total": total, "history": history})

    steps = settings.epochs * batches.per_epoch
    mine = slice(fabric.global_rank, None, fabric.world_size)
    loop_started = time.monotonic()
    bar = tqdm(total=steps, initial=first, desc=params.method, unit="step", disable=not fabric.is_global_zero)
    drawn = Curves(curves if fabric.is_global_zero else None, history)
    method.train()
    with interruptible() as interrupted, bar, drawn:
        for step in range(first, steps):
            seed_step(params.seed, step, fabric.global_rank)
            ids = batches.at(params.seed, step)[mine]
            factor = schedules.warmup_cosine(step + 1, steps, settings.warmup_epochs * batches.per_epoch)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor

            loss = model.loss(batches.draw(ids), batches.labels[ids].to(fabric.device), step / steps)
            if not torch.isfinite(loss):
                raise UserError(
                    f"the loss of {params.method} is {loss.item()} at step {step + 1} of {steps}; "
                    f"expected a finite number; lower methods.{params.method}.optimizer.lr or set pretrain.clip_norm"
                )
            optimizer.zero_grad()
            fabric.backward(loss)
            if settings.clip_norm:
                fabric.clip_gradients(model, optimizer, max_norm=settings.clip_norm)
            optimizer.step()
            method.after_step((step + 1) / steps)
            total += loss.detach()
            bar.update()

            epoch, rest = divmod(step + 1, batches.per_epoch)
            if rest == 0:
                mean_loss = float(total) / batches.per_epoch
                signals = _signals(method.encoder, batches, params.seed)
                history.append({"loss": mean_loss, "lr": optimizer.param_groups[0]["lr"], **signals})
                drawn.add(history[-1])
                total.zero_()
                bar.set_postfix(loss=f"{mean_loss:.3f}", c_acc=f"{signals['c_acc']:.3f}")
            if step + 1 < steps and (interrupted or (rest == 0 and epoch % settings.checkpoint_epochs == 0)):
                keep(step + 1)
            if step + 1 < steps and interrupted:
                raise UserError(
                    f"stopped by signal {interrupted[0]} after step {step + 1} of {steps}; "
                    "the checkpoint is kept; run again to go on"
                )
    seconds = time.monotonic() - loop_started
    if not fabric.is_global_zero:
        return

    card = {
        "timm": params.model.backbone,
        "small_stem": params.model.small_stem,
        "channels": channels,
        "size": size,
        "mean": batches.mean,
        "std": batches.std,
        "method": params.method,
        "fingerprint": name,
        "metrics": history[-1],
    }
    encoders.save(method.encoder.state_dict(), out, card)
    write_json(metrics, {"epochs": settings.epochs, "images": len(batches.ids), **history[-1]})
    on_gpu = fabric.device.type == "cuda"
    write_json(
        out.with_name("pretrain_run.json"),
        {
            "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "precision": precision(settings.precision),
            "resumed_from_step": first,
            "seconds": time.monotonic() - started,
            "images_per_second": (steps - first) * settings.batch_size / seconds if steps > first else None,
        },
    )
    checkpoint.discard(saved)
