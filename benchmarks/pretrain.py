"""The loop against the model alone and against lightly's published way, its memory, and its cost as data grow.

    python benchmarks/pretrain.py [--backbone resnet18] [--size 96] [--batch 64] [--method simclr] [--device cpu]
                                  [--rounds 5] [--steps 8]

In turns, with the same architecture, loss, optimiser and precision:

    model     views that lie on the device, made once
    ours      a step of the loop: views from the pack, the monitors and the online probe
    loader    the same model on views from lightly's SimCLRTransform, LightlyDataset (JPEG files) and a DataLoader with
              all cores; simclr alone
    lightly   the same loader, and the model in PyTorch's own memory format, as lightly's examples have it; ours is
              channels-last

What our loop does after each epoch (spread, rank, validation of the probe) is timed apart, for an epoch of --images
images and 15 / 70 as many validation images, as the default split has them. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from views import draw, finish, forever, lightly_loader, write_files

from tumorxai import config, methods
from tumorxai.networks import encoders, engine
from tumorxai.networks.batches import Batches
from tumorxai.pretrain import distributed
from tumorxai.pretrain.loop import Held, Loop
from tumorxai.pretrain.online_probe import Probe

ROOT = Path(__file__).resolve().parents[1]
CLASSES = 4
CHANNELS = 3  # lightly's transform is for RGB


def make(options: argparse.Namespace, backbone: str, size: int, images: int) -> Loop:
    """A loop on drawn images."""
    params = config.load(ROOT / "params.yaml").model_dump()
    params |= {"method": options.method, "model": {"backbone": backbone}}
    params["pretrain"] |= {"batch_size": options.batch, "epochs": 100, "precision": options.precision}
    experiment = config.Params.model_validate(params)
    fabric = distributed.launch(experiment.pretrain)
    torch.manual_seed(0)
    encoder = encoders.build(experiment.model, CHANNELS, size)
    width = encoders.width(encoder, CHANNELS, size)
    method = methods.load(options.method, encoder, width, experiment.methods.get(options.method, {}), CLASSES)
    held = images * 15 // 70
    pixels = draw(images + held, CHANNELS, size)
    labels = torch.arange(len(pixels)) % CLASSES
    batches = Batches(pixels, np.arange(images), labels, method.views(), 0.3, 0.2, options.batch, 0, fabric.device)
    probe = Probe(width, CLASSES, fabric.device)
    loop = Loop(experiment, fabric, method, batches, probe, Held(np.arange(images, images + held), labels, True))
    loop.method.train()
    return loop


def learn(loop: Loop, views: list[Tensor], labels: Tensor) -> None:
    """The model alone: loss, gradient, step."""
    with loop.fabric.autocast():
        loss = loop.model.loss(views, labels, 0.5)
    loop.fabric.backward(loss)
    loop.optimizer.step()
    loop.optimizer.zero_grad()
    loop.method.after_step(0.5)
    loop.seen.take(0)


def timed(loop: Loop, step: Callable[[], None], steps: int) -> float:
    """Seconds of one of ``steps``."""
    step()
    finish(loop.fabric.device)
    started = time.perf_counter()
    for _ in range(steps):
        step()
    finish(loop.fabric.device)
    return (time.perf_counter() - started) / steps


class Contest:
    """The ways to train one model; each is a function that times its steps."""

    def __init__(self, loop: Loop, options: argparse.Namespace, folder: Path) -> None:
        self.loop, self.options, self.folder = loop, options, folder
        self.size, self.batch = options.size, options.batch
        self.number = 0
        device = loop.fabric.device
        self.labels = (torch.arange(self.batch) % CLASSES).to(device)
        self.fixed = loop.batches.draw(0, range(self.batch))

    def model(self, steps: int) -> float:
        """Seconds of a step of the model alone."""
        return timed(self.loop, lambda: learn(self.loop, self.fixed, self.labels), steps)

    def ours(self, steps: int) -> float:
        """Seconds of a step of our loop."""

        def step() -> None:
            self.loop.step(self.number % self.loop.batches.per_epoch)
            self.number += 1

        return timed(self.loop, step, steps)

    def loader(self, steps: int) -> float:
        """Seconds of a step of our model on what lightly's loader gives."""
        return self._fed(self.loop, steps)

    def lightly(self, steps: int) -> float:
        """Seconds of a step as lightly's examples take it."""
        return self._fed(self.published, steps)

    @cached_property
    def published(self) -> Loop:
        """A loop whose model keeps PyTorch's own memory format."""
        loop = make(self.options, self.options.backbone, self.size, self.batch)
        loop.method.to(memory_format=torch.contiguous_format)
        return loop

    def _fed(self, loop: Loop, steps: int) -> float:
        views = forever(lightly_loader(self.folder, self.size, self.batch))

        def step() -> None:
            device = loop.fabric.device
            learn(loop, [view.to(device, non_blocking=True) for view in next(views)], self.labels)

        for _ in range(2 * len(os.sched_getaffinity(0))):  # what the workers have prepared before the clock starts
            next(views)
        return timed(loop, step, steps)


def memory(device: torch.device) -> float:
    """Peak of this process and of its largest child, or of the device, MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (own + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 2**10


def peak(name: str, options: argparse.Namespace) -> float:
    """Peak memory of one contestant, in a process of its own."""
    arguments = [
        f"--{key}={value}" for key, value in vars(options).items() if key not in ("only", "sizes", "counts", "rounds")
    ]
    command = [sys.executable, __file__, *arguments, f"--only={name}"]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["mib"])


def exponent(x: list[int], seconds: list[float]) -> float:
    """Slope of log seconds over log x."""
    return float(np.polyfit(np.log(x), np.log(seconds), 1)[0])


def growth(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of an epoch as images get more, and of a step as they get larger."""
    counts = [count * options.batch for count in options.counts]
    epochs = []
    for count in counts:
        loop = make(options, "test_resnet", 32, count)
        loop.step(0)
        started = time.perf_counter()
        for step in range(loop.batches.per_epoch):
            loop.step(step)
        loop.signals(last=False)
        epochs.append(time.perf_counter() - started)
    steps = []
    for size in options.sizes:
        loop = make(options, options.backbone, size, 4 * options.batch)
        steps.append(timed(loop, lambda loop=loop: loop.step(0), 2))
    found = {"exponent_images": exponent(counts, epochs), "exponent_size": exponent(options.sizes, steps)}
    print(f"an epoch of {counts} images: {[f'{s:.2f} s' for s in epochs]}, exponent {found['exponent_images']:.2f}")
    print(f"a step at {options.sizes} px: {[f'{s:.2f} s' for s in steps]}, exponent {found['exponent_size']:.2f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--method", default="simclr")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 96, 128])
    parser.add_argument("--counts", type=int, nargs="+", default=[4, 8, 16, 32], help="batches of an epoch")
    parser.add_argument("--only", help="take steps one way, print the peak memory and stop")
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    loop = make(options, options.backbone, options.size, options.images)
    device = loop.fabric.device
    with tempfile.TemporaryDirectory() as folder:
        write_files(loop.batches.images[: options.images], Path(folder))
        contest = Contest(loop, options, Path(folder))
        names = ["model", "ours"] + (["loader", "lightly"] if options.method == "simclr" else [])
        if options.only:
            getattr(contest, options.only)(2)
            print(json.dumps({"mib": memory(device)}))
            return
        seconds: dict[str, list[float]] = {name: [] for name in names}
        ends = []
        for _ in range(options.rounds):
            for name in names:
                seconds[name].append(getattr(contest, name)(options.steps))
            ends.append(timed(loop, lambda: loop.signals(last=False), 1))
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    samples = {name: options.batch / value for name, value in middle.items()}
    mib = {name: peak(name, options) for name in names}
    for name in names:
        spread = f"from {options.batch / max(seconds[name]):.1f} to {options.batch / min(seconds[name]):.1f}"
        print(f"{name:8s} {samples[name]:8.1f} images/s, {spread}; peak {mib[name]:.0f} MiB")
    epoch = middle["ours"] * loop.batches.per_epoch
    found = {f"over_{name}": samples["ours"] / samples[name] for name in names if name != "ours"}
    found["epoch_over_model"] = found["over_model"] * epoch / (epoch + statistics.median(ends))
    for name, value in found.items():
        print(f"{name} {value:.3f}")
    found |= growth(options)
    surroundings = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "cores": len(os.sched_getaffinity(0)), "precision": engine.precision(options.precision),
        "method": options.method, "backbone": options.backbone, "size": options.size, "batch": options.batch,
    }  # fmt: skip
    print(json.dumps({**surroundings, "images_per_second": samples, "peak_mib": mib, **found}))


if __name__ == "__main__":
    main()
