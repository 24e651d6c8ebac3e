"""Two-view batches from the pack: views/s against lightly's transform in a DataLoader and against kornia.

    python benchmarks/views.py [--size 96] [--batch 64] [--rounds 5] [--seconds 4] [--device cpu]

All draw SimCLR's views of the same images on the same cores, in turns: ours and kornia as one batch on the device,
lightly through its SimCLRTransform, its LightlyDataset (JPEG files of the size of the views, so that it has no large
images to decode) and a DataLoader with one worker a core. kornia's and ours are grey, as the images are; lightly's
transform takes RGB. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import kornia.augmentation as K
import numpy as np
import torch
from lightly.data import LightlyDataset
from lightly.transforms import SimCLRTransform
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from tumorxai.networks.batches import Batches
from tumorxai.networks.views import SIMCLR

CORES = len(os.sched_getaffinity(0))


def draw(count: int, channels: int, size: int) -> NDArray[np.uint8]:
    """Images (count, channels, size, size) with structure at every scale."""
    generator = np.random.default_rng(0)
    scene = np.zeros((count, size, size))
    for cells in (4, 8, 16, 32):
        coarse = generator.normal(size=(count, cells, cells)).astype(np.float32) / cells
        scene += np.stack(
            [np.asarray(Image.fromarray(x).resize((size, size), Image.Resampling.BICUBIC)) for x in coarse]
        )
    grey = np.clip(110 + 180 * scene, 0, 255).astype(np.uint8)
    return np.repeat(grey[:, None], channels, axis=1)


def write_files(images: NDArray[np.uint8], folder: Path) -> None:
    """The same images as JPEG files, for a loader that reads files."""
    for i, image in enumerate(images):
        Image.fromarray(image[0]).convert("RGB").save(folder / f"{i:06d}.jpg", quality=90)


def lightly_loader(folder: Path, size: int, batch: int) -> DataLoader[tuple[list[Tensor], Tensor, list[str]]]:
    """As lightly's documentation has it."""
    dataset = LightlyDataset(str(folder), transform=SimCLRTransform(input_size=size))
    return DataLoader(dataset, batch_size=batch, shuffle=True, drop_last=True, num_workers=CORES)


def forever(loader: DataLoader[tuple[list[Tensor], Tensor, list[str]]]) -> Iterator[list[Tensor]]:
    """Views of batch after batch."""
    while True:
        for views, _, _ in loader:
            yield views


def finish(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def rate(batch: Callable[[], object], images: int, seconds: float, device: torch.device) -> float:
    """Views/s of a function that makes a batch of two views."""
    batch()
    finish(device)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        batch()
        count += 2 * images
    finish(device)
    return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    size, batch, device = options.size, options.batch, torch.device(options.device)
    images = draw(options.images, 1, size)
    pack = Batches(
        images, np.arange(len(images)), torch.full((len(images),), -1), [SIMCLR] * 2, 0.3, 0.2, batch, 0, device
    )
    step = iter(range(10**9))
    peer = K.AugmentationSequential(
        K.RandomResizedCrop((size, size), scale=SIMCLR.crop, ratio=SIMCLR.ratio),
        K.RandomHorizontalFlip(SIMCLR.horizontal_flip),
        K.RandomBrightness((1 - SIMCLR.brightness, 1 + SIMCLR.brightness), p=SIMCLR.jitter),
        K.RandomContrast((1 - SIMCLR.contrast, 1 + SIMCLR.contrast), p=SIMCLR.jitter),
        K.RandomGaussianBlur((2 * (size // 20) + 1,) * 2, (0.1, 2.0), p=SIMCLR.blur),
        K.Normalize(0.3, 0.2),
        data_keys=["input"],
    )

    def kornia() -> list[Tensor]:
        chosen = torch.from_numpy(images[np.random.default_rng(next(step)).permutation(len(images))[:batch]])
        raw = chosen.to(device).float() / 255
        return [peer(raw) for _ in range(2)]

    found: dict[str, list[float]] = {"ours": [], "lightly": [], "kornia": []}
    with tempfile.TemporaryDirectory() as folder:
        write_files(images, Path(folder))
        loader = lightly_loader(Path(folder), size, batch)
        for _ in range(options.rounds):
            found["ours"].append(rate(lambda: pack.draw(next(step), range(batch)), batch, options.seconds, device))
            found["kornia"].append(rate(kornia, batch, options.seconds, device))
            views = forever(loader)
            for _ in range(2 * CORES):  # what the workers have prepared before the clock starts
                next(views)
            found["lightly"].append(rate(lambda views=views: next(views), batch, options.seconds, device))
            del views
    middle = {name: statistics.median(values) for name, values in found.items()}
    for name, values in found.items():
        print(f"{name:8s} {middle[name]:8.0f} views/s, from {min(values):.0f} to {max(values):.0f}")
    ratios = {f"over_{name}": middle["ours"] / middle[name] for name in ("lightly", "kornia")}
    print(f"ours / lightly {ratios['over_lightly']:.1f}, ours / kornia {ratios['over_kornia']:.1f}")
    surroundings = {"device": str(device), "cores": CORES, "size": size, "batch": batch}
    print(json.dumps({**surroundings, "views_per_second": middle, **ratios}))


if __name__ == "__main__":
    main()
