"""What `gpu.py` measures with: a device, sizes of networks, loops on drawn images, and rates.

Whoever imports it may do so from any folder, with a Python that has neither this project nor lightly.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

from bare import stand_in_for_lightly  # noqa: E402

STOOD_IN = stand_in_for_lightly()

try:
    from tumorxai import config, methods
    from tumorxai.networks import encoders
    from tumorxai.networks.batches import Batches
    from tumorxai.networks.graphs import WARM
    from tumorxai.pretrain import distributed
    from tumorxai.pretrain.loop import Held, Loop
    from tumorxai.pretrain.online_probe import Probe
except ModuleNotFoundError as error:
    few = "pydantic pydantic-core annotated-types typing-inspection lightning-fabric lightning-utilities"
    sys.exit(
        f"got a Python without {error.name}; expected it: where there is a network, get a folder for this Python with "
        f"`python -m pip install --no-deps --target few {few}`, and run again with PYTHONPATH=few"
    )

CLASSES = 4
Found = dict[str, Any]


class Size(NamedTuple):
    """What a part is measured with."""

    backbone: str
    side: int
    batch: int


LARGE = {
    "resnet50": Size("resnet50", 224, 256),
    "vit_s": Size("vit_small_patch16_224", 224, 256),
    "firildak": Size("firildak_cnn", 96, 64),
    "finetune": Size("resnet50", 224, 64),
    "maps": Size("resnet50", 224, 32),
    "masks": Size("vit_small_patch16_224", 224, 128),
}
SMALL = {
    "resnet50": Size("test_resnet", 32, 16),
    "vit_s": Size("test_vit", 32, 16),
    "firildak": Size("firildak_cnn", 32, 16),
    "finetune": Size("test_resnet", 32, 16),
    "maps": Size("test_resnet", 64, 4),
    "masks": Size("test_vit", 64, 8),
}


def pixels(count: int, side: int, channels: int = 1) -> np.ndarray:
    """Images with structure that is coarser than a pixel, uint8 (count, channels, side, side)."""
    cells = np.random.default_rng(0).integers(0, 256, (count, channels, side // 8, side // 8), dtype=np.uint8)
    return np.ascontiguousarray(cells.repeat(8, axis=2).repeat(8, axis=3))


class Bench:
    """One run: its device, its sizes and the seconds that a rate is measured for."""

    def __init__(self, small: bool) -> None:
        self.small, self.sizes = small, SMALL if small else LARGE
        self.device = torch.device("cuda" if torch.cuda.is_available() and not small else "cpu")
        self.seconds = 0.2 if small else 3.0

    def finish(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def rate(self, step: Callable[[], object], images: int, warm: int = 3) -> float:
        """Images/s of a step, after some that do not count; the longer the step, the fewer are taken."""
        for _ in range(warm):
            step()
        self.finish()
        started = time.perf_counter()
        step()
        self.finish()
        count = max(2, min(1000, int(self.seconds / max(time.perf_counter() - started, 1e-6))))
        started = time.perf_counter()
        for _ in range(count):
            step()
        self.finish()
        return count * images / (time.perf_counter() - started)

    @contextmanager
    def memory(self, found: Found, name: str) -> Iterator[None]:
        """Note the peak of the device's memory, GB; on the CPU nothing."""
        gc.collect()  # loops that are no longer used hold each other
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        yield
        if self.device.type == "cuda":
            found[name] = torch.cuda.max_memory_allocated() / 1e9

    def loop(self, size: Size, channels: int = 1, **changes: Any) -> Loop:
        """A loop of SimCLR on drawn images; views are as the method's block for small data has them."""
        images = 4 * size.batch
        params = config.Params().model_dump() | {"model": {"backbone": size.backbone}}
        params["pretrain"] |= {"batch_size": size.batch, "epochs": 10**5, "precision": "auto", **changes}
        experiment = config.Params.model_validate(params)
        fabric = distributed.launch(experiment.pretrain)
        torch.manual_seed(0)
        encoder = encoders.build(experiment.model, channels, size.side)
        width = encoders.width(encoder, channels, size.side)
        method = methods.load("simclr", encoder, width, experiment.methods["simclr"], CLASSES)
        labels = torch.arange(images) % CLASSES
        drawn = Batches(
            pixels(images, size.side, channels), np.arange(images), labels, method.views(), 0.3, 0.2, size.batch, 0,
            fabric.device,
        )  # fmt: skip
        held = Held(np.empty(0, dtype=np.int64), labels, every_epoch=False)
        loop = Loop(experiment, fabric, method, drawn, Probe(width, CLASSES, fabric.device), held)
        loop.method.train()
        return loop

    def ours(self, loop: Loop) -> float:
        """Images/s of steps of the loop."""
        number = iter(range(10**9))

        def step() -> None:
            loop.step(next(number) % (2 * loop.batches.per_epoch))  # in two epochs: their order is drawn anew

        return self.rate(step, loop.batches.size, warm=WARM + 2)

    def alone(self, loop: Loop, given: Callable[[], list[Tensor]] | None = None) -> float:
        """Images/s of the model alone: loss, gradient, optimiser, on views that were made once, or that are given."""
        made = loop.batches.draw(0, range(loop.batches.size))
        labels = loop.batches.labels_at(0)

        def step() -> None:
            with loop.fabric.autocast():
                loss = loop.model.loss(given() if given else made, labels, 0.5)
            loop.fabric.backward(loss)
            loop.optimizer.step()
            loop.optimizer.zero_grad()
            loop.method.after_step(0.5)
            loop.seen.take(0)

        return self.rate(step, loop.batches.size)
