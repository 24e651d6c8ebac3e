"""Small data sets of made-up pictures, each unlike all others, with copies where a test plants them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

SIDE = 96


def picture(number: int) -> Image.Image:
    """Soft shapes with fine edges, from a seed."""
    rng = np.random.default_rng(number)
    coarse, fine = (gaussian_filter(rng.normal(size=(SIDE, SIDE)), sigma) for sigma in (9, 2))
    values = coarse / coarse.std() + 0.6 * fine / fine.std()
    return Image.fromarray((values * 45 + 128).clip(0, 255).astype(np.uint8))


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def clean(sides: tuple[str, ...] = ("train", "test"), each: int = 6) -> dict[str, bytes]:
    """Files of two classes on each side, without a copy."""
    files = {}
    for s, side in enumerate(sides):
        for k, label in enumerate(("disc", "ring")):
            for i in range(each):
                files[f"{side}/{label}/{i}.png"] = png(picture(1000 * s + 100 * k + i))
    return files


def leaky() -> dict[str, bytes]:
    """The same with one exact copy, one near copy and one exact copy under another label, all from train to test."""
    return clean() | {
        "test/disc/exact.png": png(picture(0)),
        "test/disc/near.jpg": jpeg(picture(1)),
        "test/disc/other.png": png(picture(100)),  # which is a ring in train
    }


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path
