"""Self-supervised pretraining: from the packed images to an encoder, its card and its curves."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from safetensors import SafetensorError
from torch import nn

import tumorxai
from tumorxai import config, methods
from tumorxai.base.dataset import Dataset
from tumorxai.errors import UserError
from tumorxai.files import sha256, write_csv, write_json
from tumorxai.inputs import stage, unfinished
from tumorxai.inputs.unfinished import Unfinished
from tumorxai.networks import encoders, engine, keras, published, views
from tumorxai.networks.batches import Batches
from tumorxai.pretrain import distributed, monitors, trial
from tumorxai.pretrain.loop import Held, Loop
from tumorxai.pretrain.online_probe import Probe

# Settings that change neither what is learned nor what a checkpoint holds: a run may go on under others.
ANY = {"devices", "nodes", "graphs", "checkpoint_epochs", "on_collapse", "collapse_patience"}


def run(params: config.Params, data: Path, out: Path, details: Path, metrics: Path, curves: Path) -> None:
    """Pretrain an encoder.

    Args:
        params: the whole experiment.
        data: folder of the pack, the catalogue, the groups and the split.
        out: encoder to write, ``*.safetensors``; its card, ``pretrain_run.json`` (hardware, speed) and
            ``online_probe.csv`` (which held images the online classifier has right, with their clusters) go beside it.
        details: JSON to write: the last epoch's signals.
        metrics: JSON to write: those that DVC shows.
        curves: folder for DVCLive's curves, one TSV a signal.

    Raises:
        UserError: the parameters do not fit the data or the machine, or training stopped; see :meth:`Loop.train`.
    """
    started = time.monotonic()
    fabric = distributed.launch(params.pretrain)
    dataset = Dataset.load(data)
    channels, size = dataset.images.shape[1:3]
    torch.manual_seed(params.seed)
    encoder = encoders.build(params.model, channels, size)
    start = _start(params.pretrain, encoder)
    width = encoders.width(encoder, channels, size)
    classes = len(dataset.classes)
    method = methods.load(params.method, encoder, width, params.methods[params.method], classes)
    encoders.check_sides(encoder, [views.side(view, size) for view in method.views()], params.method)
    batches = _batches(params, dataset, method, fabric.device)

    sources = {name: sha256(data / name) for name in ("pack.npy", "split.csv")} if fabric.is_global_zero else {}
    name = unfinished.fingerprint(
        {
            "version": tumorxai.__version__,
            "parameters": params.model_dump(include={"seed", "method", "model"}),
            "pretrain": params.pretrain.model_dump(exclude=ANY),
            "settings": params.methods[params.method],
            "data": sources,
            "start": start,
        }
    )
    causes = unfinished.causes(__name__, params.method, **engine.machine(fabric.device, params.pretrain.precision))
    work = Unfinished(unfinished.CHECKPOINTS, f"pretrain-{name}", causes)
    first, steps, seconds, collapsed = 0, 0, 0.0, 0
    engaged: dict[str, Any] = {"graphs": None, "compile": None}  # what the device was made to do
    watched = pd.DataFrame({"image_id": [], "cluster": [], "right": []})
    if any(parameter.requires_grad for parameter in method.parameters()):
        probe = Probe(width, classes, fabric.device, normalise=not methods.as_keras(method))
        held = _held(dataset)
        loop = Loop(params, fabric, method, batches, probe, held)
        begun = time.monotonic()
        first, steps, history = loop.train(work, curves), loop.steps, loop.history
        seconds, collapsed = time.monotonic() - begun, loop.collapsed
        engaged = {"graphs": loop.halves.state, "compile": loop.tried or trial.obstacle(loop, first)}
        if len(held.ids):
            clusters = dataset.clusters(held.ids)
            watched = pd.DataFrame({"image_id": held.ids, "cluster": clusters, "right": loop.right.astype(np.int64)})
    else:
        history = [_untrained(fabric, method.encoder, batches)]
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
        "start": start,
        "fingerprint": name,
        "data": sources,
        "metrics": history[-1],
    }
    epochs = params.pretrain.epochs if steps else 0
    images = (steps - first) * params.pretrain.batch_size
    run_card = {**_surroundings(fabric, params.pretrain), **engaged, "resumed_from_step": first}
    run_card |= {"seconds": time.monotonic() - started, "images_per_second": images / seconds if images else None}
    summary = {"epochs": epochs, "images": len(batches.ids), **history[-1], "collapsed_epochs": collapsed}
    try:
        encoders.save(methods.kept(method).state_dict(), out, card)
        write_json(details, summary)
        write_json(metrics, headline(summary))
        write_json(out.with_name("pretrain_run.json"), run_card)
        write_csv(out.with_name("online_probe.csv"), watched)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"could not write {out} or what belongs to it ({error}); free some disk space and run again: it goes on "
            "from its last checkpoint"
        ) from None
    stage.confirm()  # if not, the checkpoint is what a run with the old parameters goes on from
    work.discard()


def _start(settings: config.Pretrain, encoder: nn.Module) -> dict[str, str | None]:
    """Give the encoder the weights that it starts from, and say which: their name, and the SHA-256 of a file."""
    if settings.init is None:
        return {"weights": "random", "sha256": None}
    published.load(encoder, settings.init, "pretrain.init")
    if settings.init == published.HUB:
        return {"weights": published.HUB, "sha256": None}
    file = Path(settings.init).expanduser()
    found = sha256(file)
    if settings.init_sha256 not in (None, found):
        raise UserError(
            f"got {file} with the SHA-256 {found}; expected pretrain.init_sha256, {settings.init_sha256}; get the file "
            "again from where the checksum comes from"
        )
    return {"weights": file.name, "sha256": found}


def headline(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """What DVC shows of a pretraining: loss, contrastive accuracy, online probe and effective rank, None if not had."""
    return {name: summary.get(name) for name in ("loss", "c_acc", "val_p_acc", "effective_rank")}


def _batches(params: config.Params, dataset: Dataset, method: Any, device: torch.device) -> Batches:
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
    share = keras.LABELLED if methods.as_keras(method) else 0.0
    known, labelled = int((labels[ids] >= 0).sum()), max(1, round(settings.batch_size * share)) if share else 0
    if labelled and (known < labelled or len(ids) - known < settings.batch_size - labelled):
        raise UserError(
            f"got {known} labelled and {len(ids) - known} unlabelled pretraining images with methods.{params.method}."
            f"keras: true; expected at least {labelled} and {settings.batch_size - labelled}, one batch of each; lower "
            f"pretrain.batch_size, raise split.unlabelled or set methods.{params.method}.keras to false"
        )
    mean, std = views.statistics(dataset.images[ids])
    recipes, size = method.views(), settings.batch_size
    return Batches(dataset.images, ids, labels, recipes, mean, std, size, params.seed, device, labelled)


def _held(dataset: Dataset) -> Held:
    validation = dataset.indices("validation")
    ids = validation if len(validation) else dataset.indices("test")
    return Held(ids, torch.from_numpy(dataset.labels), every_epoch=bool(len(validation)))


@torch.no_grad()
def _untrained(fabric: Fabric, encoder: nn.Module, batches: Batches) -> dict[str, float]:
    """The signals of an encoder that is taken as it is."""
    encoder = encoder.to(fabric.device).eval()
    steps = min(batches.per_epoch, -(-monitors.MONITORED // batches.size))
    epoch = monitors.Epoch(steps, fabric.device)
    for step in range(steps):
        first, second, *_ = batches.draw(step, range(batches.size))
        epoch.watch(encoder(first).float(), encoder(second).float())
    signals = epoch.signals()
    del signals["loss"]
    return signals


def _surroundings(fabric: Fabric, settings: config.Pretrain) -> dict[str, Any]:
    """Where a run took place: nothing of it may stand among the metrics, which the same machine repeats."""
    on_gpu = fabric.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine(),
        "processes": fabric.world_size,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": engine.precision(settings.precision),
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
    }
