"""How values become grey levels, and which slices of a scan's volume are taken."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tumorxai.archives.archives import UnreadableError

Slices = int | Literal["all"]
Window = tuple[float, float]  # values that become black and white

LOW, HIGH = 0.5, 99.5  # percentiles; beyond the higher one lie hot pixels, which would darken all else
SHOWN = 0.01  # least share of the pixels between black and white for a window to be believed
HOT = 0.001  # share of the pixels that may be hot, and as many cold, and are clipped
BINS = 2**12  # of the histogram by which they are found
PASSES = 8  # over the pixels, each of which narrows the range; integers need at most three
BAND = 2**18  # pixels worked on at once
FEW = 8  # values, of which an image has more and a map of labels has not
# Grey levels about one that its noise reaches, and that two levels of a mask are apart.
NOISE, APART = 4, 64
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


def few_values(parts: Iterable[NDArray[Any]]) -> bool:
    """Do the parts hold at most FEW different values in all? No more of them is read than it takes to know."""
    found: set[float] = set()
    for part in parts:
        found |= set(np.unique(part)[: FEW + 1].tolist())
        if len(found) > FEW:
            return False
    return True


def check_values(slices: Iterable[NDArray[Any]]) -> None:
    """Refuse slices that hold only a few values in all, as masks and maps of labels do.

    Raises:
        UnreadableError: they do.
    """
    tall = ((values, max(1, BAND // values.shape[1])) for values in slices)
    if few_values(values[top : top + rows] for values, rows in tall for top in range(0, len(values), rows)):
        raise UnreadableError(f"a map of at most {FEW} values, as masks are, not an image")


def is_map(image: Image.Image) -> bool:
    """Does an image hold a few values, as masks do, or two levels and what JPEG or resizing leaves about them?"""
    plain = image if image.mode.startswith(("I", "F")) else image.convert("L")
    if few_values(np.asarray(band) for _, band in bands(plain)):
        return True
    if plain is image and image.mode != "L":
        return False
    counts = np.array(plain.histogram())
    near = np.abs(np.subtract.outer(np.arange(256), np.arange(256))) <= NOISE
    most = int(counts.argmax())
    rest = np.where(near[most], 0, counts)
    around = near @ rest
    other = int(around.argmax())
    return bool(abs(other - most) >= APART and 2 * around[other] >= rest.sum())


def bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Rows of an image, so many at once that they stay small; the first one's number and the band."""
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def ends(image: Image.Image, low: float = -np.inf, high: float = np.inf) -> tuple[float, float]:
    """Least and largest finite value from ``low`` to ``high``; zeros where there is none."""
    least, most = np.inf, -np.inf
    for _, band in bands(image):
        values = np.asarray(band)
        inside = values[np.isfinite(values) & (values >= low) & (values <= high)]
        if inside.size:
            least, most = min(least, float(inside.min())), max(most, float(inside.max()))
    return (least, most) if least <= most else (0.0, 0.0)


def reach(image: Image.Image) -> tuple[float, float]:
    """Values that become black and white: the least and the largest, but for hot and cold pixels.

    Where a thousandth of the pixels lies further off than all others span, as hot pixels and a few wrapped values do,
    the range ends where these begin.
    """
    whole = low, high = ends(image)
    for _ in range(PASSES if low < high else 0):
        counts = np.zeros(BINS, dtype=np.int64)
        for _, band in bands(image):
            counts += np.histogram(np.asarray(band).astype(np.float64), BINS, (low, high))[0]
        edges = np.linspace(low, high, BINS + 1)
        above = np.cumsum(counts) / max(counts.sum(), 1)
        first, last = edges[np.searchsorted(above, HOT)], edges[np.searchsorted(above, 1 - HOT) + 1]
        span = last - first
        new = (float(first) if first - low > span else low), (float(last) if high - last > span else high)
        if new == (low, high) or not np.isfinite(span):
            break
        inside = ends(image, *new)
        if inside[0] == inside[1]:  # of a single value no bins can be made
            return inside
        low, high = new
    return whole if (low, high) == whole else ends(image, low, high)


def eight_bits(band: Image.Image, low: float, high: float) -> Image.Image:
    """Scale values from ``low`` to ``high`` to 0 to 255."""
    values = np.asarray(band).astype(np.float64)
    scaled = np.clip(np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low, 0, None) * (
        255 / max(high - low, 1e-12)
    )
    return Image.fromarray(np.rint(np.clip(scaled, 0, 255)).astype(np.uint8))


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
