"""Slices of scans: which of a volume are taken, and how their values become grey levels."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tumorxai.archives.archives import UnreadableError

Slices = int | Literal["all"]
Window = tuple[float, float]  # values that become black and white

LOW, HIGH = 0.5, 99.5  # percentiles; beyond the higher one lie hot pixels, which would darken all else
SHOWN = 0.01  # least share of the pixels between black and white for a window to be believed
RATIO = 10.0  # most that a pixel is longer than wide; beyond, the header is not believed


def chosen(count: int, slices: Slices) -> list[int]:
    """Places of the slices that are taken of ``count``: ``slices``, evenly spaced over the middle half.

    The outer quarters show little brain, and seldom a tumour. Where the middle half has fewer, the middle ``slices``
    are taken.
    """
    if slices == "all" or count <= slices:
        return list(range(count))
    span = max(count / 2, slices)
    return [int((count - span) / 2 + (place + 0.5) * span / slices) for place in range(slices)]


def levels(values: NDArray[np.float32], window: Window | None = None, inverted: bool = False) -> NDArray[np.uint8]:
    """Grey levels of values (H, W): black to white over the window, or else over the percentiles LOW to HIGH.

    A window that leaves nearly all pixels black or white is of another image, and is passed over. What is no number is
    black.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(values.shape, np.uint8)
    low, high = window or (0.0, 0.0)
    if not low < high or np.mean((finite > low) & (finite < high)) < SHOWN:
        low, high = (float(edge) for edge in np.percentile(finite, (LOW, HIGH), overwrite_input=True))
    del finite
    if not low < high:  # nearly all of one value
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
    scaled = np.nan_to_num(values, nan=high if inverted else low, posinf=high, neginf=low)
    np.clip(scaled, low, high, out=scaled)
    scaled -= low
    scaled *= 255 / max(high - low, 1e-12)
    grey = np.rint(scaled, out=scaled).astype(np.uint8)
    return 255 - grey if inverted else grey


def png(pixels: NDArray[np.uint8], height: float = 1.0, width: float = 1.0) -> bytes:
    """A PNG of grey (H, W) or coloured (H, W, 3) pixels, enlarged until they are square.

    Args:
        pixels: of the image.
        height: of a pixel, in any unit.
        width: of a pixel, in the same.
    """
    image = Image.fromarray(pixels)
    if height > 0 and width > 0 and 1.01 < max(height / width, width / height) <= RATIO:
        size = (
            (image.width, round(image.height * height / width))
            if height > width
            else (round(image.width * width / height), image.height)
        )
        image = image.resize(size, Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def check_memory(size: int, pixels: int, item: int, most: int) -> None:
    """Refuse what would take too much memory to decode.

    Args:
        size: of the file, bytes.
        pixels: of one slice, all colours counted.
        item: bytes of a stored value.
        most: bytes that may be taken.
    """
    # Stored values, as float32, what is finite of them, and both once more while they are scaled.
    needed = size + pixels * (item + 17)
    if needed > most:
        raise UnreadableError(f"takes {needed // 10**6} MB to decode; at most {most // 10**6} MB")
