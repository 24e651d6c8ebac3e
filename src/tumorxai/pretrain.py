"""Self-supervised pretraining: the only loop, for every method."""

from __future__ import annotations

import platform
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


def batch_ids(ids: NDArray[np.int64], batch: int, seed: int, step: int) -> NDArray[np.int64]:
    """The images of one step: each epoch is a new permutation, of which the incomplete last batch is left out."""
    per_epoch = len(ids) // batch
    order = np.random.default_rng([seed, step // per_epoch]).permutation(ids)
    start = step % per_epoch * batch
    return order[start : start + batch]


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


class Curves:
    """DVCLive's curves of a run, one point an epoch; nothing without a folder (all processes but the first)."""

    def __init__(self, folder: Path | None) -> None:
        self.live = Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None) if folder else None

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
    dataset = Dataset.load(data)
    settings = params.pretrain
    ids = dataset.pretraining(settings.transductive)
    if len(ids) < settings.batch_size:
        raise UserError(
            f"got pretrain.batch_size {settings.batch_size} with {len(ids)} pretraining images; "
            "expected at least one full batch; lower pretrain.batch_size"
        )
    channels, size = dataset.images.shape[1:3]
    mean, std = views.statistics(dataset.images[ids])

    fabric = Fabric(
        accelerator="auto", devices=settings.devices, num_nodes=settings.nodes, precision=precision(settings.precision)
    )
    fabric.launch()
    torch.manual_seed(params.seed)
    encoder = encoders.build(params.model, channels, size)
    method = methods.load(
        params.method, encoder, encoders.width(encoder, channels, size), params.methods[params.method]
    )
    method = method.to(memory_format=torch.channels_last)
    optimizer = schedules.optimizer(method, method.optimizer, settings.batch_size)
    peaks = [group["lr"] for group in optimizer.param_groups]
    recipes = method.views()
    model, optimizer = fabric.setup(method, optimizer)
    model.mark_forward_method("loss")

    identity = {
        "parameters": params.model_dump(include={"seed", "method", "model", "pretrain"}),
        "settings": params.methods[params.method],
        "pack": sha256(data / "pack.npy"),
        "split": sha256(data / "split.csv"),
    }
    name = checkpoint.fingerprint(identity)
    saved = checkpoint.FOLDER / f"{name}.pt"
    state = checkpoint.load(saved)
    first = 0
    total = torch.zeros((), device=fabric.device)  # of the losses of the epoch so far
    history: list[dict[str, float]] = []
    if state is not None:
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        first, history = state["step"], state["history"]
        total.copy_(state["total"])

    per_epoch = len(ids) // settings.batch_size
    steps = settings.epochs * per_epoch
    batch = settings.batch_size // fabric.world_size
    labels = torch.full((len(dataset.images),), -1)
    labels[dataset.indices("train")] = torch.from_numpy(dataset.labels[dataset.indices("train")])
    watched = ids[np.linspace(0, len(ids) - 1, min(MONITORED, len(ids)), dtype=np.int64)]

    def pixels(chosen: NDArray[np.int64]) -> list[Tensor]:
        """The normalised views of some images, (B, C, S, S) each."""
        raw = torch.from_numpy(dataset.images[np.sort(chosen)]).to(fabric.device)
        return [
            ((views.draw(raw, view, size) - mean) / std).contiguous(memory_format=torch.channels_last)
            for view in recipes
        ]

    def signals() -> dict[str, float]:
        method.eval()
        seed_step(params.seed, steps, 0)  # the same views after every epoch
        with torch.no_grad():
            f1, f2 = (method.encoder(view).float() for view in pixels(watched)[:2])
        method.train()
        return monitors.all_signals(f1, f2)

    def keep(step: int) -> None:
        if fabric.is_global_zero:
            weights = {"method": method.state_dict(), "optimizer": optimizer.state_dict()}
            checkpoint.save(saved, {**weights, "step": step, "total": total, "history": history})

    method.train()
    loop_started = time.monotonic()
    progress_bar = tqdm(
        total=steps, initial=first, desc=f"{params.method}", unit="step", disable=not fabric.is_global_zero
    )
    with interruptible() as interrupted, progress_bar, Curves(curves if fabric.is_global_zero else None) as drawn:
        for epoch_signals in history:
            drawn.add(epoch_signals)
        for step in range(first, steps):
            seed_step(params.seed, step, fabric.global_rank)
            chosen = batch_ids(ids, settings.batch_size, params.seed, step)[fabric.global_rank * batch :][:batch]
            factor = schedules.warmup_cosine(step + 1, steps, settings.warmup_epochs * per_epoch)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor

            loss = model.loss(pixels(chosen), labels[np.sort(chosen)].to(fabric.device), step / steps)
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
            progress_bar.update()

            if (step + 1) % per_epoch == 0:
                epoch = (step + 1) // per_epoch
                history.append({"loss": float(total) / per_epoch, "lr": optimizer.param_groups[0]["lr"], **signals()})
                drawn.add(history[-1])
                total.zero_()
                progress_bar.set_postfix(loss=f"{history[-1]['loss']:.3f}", c_acc=f"{history[-1]['c_acc']:.3f}")
                if epoch % settings.checkpoint_epochs == 0 and step + 1 < steps:
                    keep(step + 1)
            if interrupted and step + 1 < steps:
                keep(step + 1)
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
        "mean": mean,
        "std": std,
        "method": params.method,
        "fingerprint": name,
        "metrics": history[-1],
    }
    encoders.save(method.encoder.state_dict(), out, card)
    write_json(metrics, {"epochs": settings.epochs, "images": len(ids), **history[-1]})
    write_json(
        out.with_name("pretrain_run.json"),
        {
            "device": torch.cuda.get_device_name()
            if fabric.device.type == "cuda"
            else platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "precision": precision(settings.precision),
            "resumed_from_step": first,
            "seconds": time.monotonic() - started,
            "images_per_second": (steps - first) * settings.batch_size / seconds if steps > first else None,
        },
    )
    checkpoint.discard(saved)
