"""Two small pictures of every image: of the whole frame, and of the box of the head in it.

The whole frame holds still within a series, for a scanner does not move its field of view between slices. The head's
box is the same in a copy that was padded or cropped close. Neither needs more than 32 x 32 grey pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from tumorxai.archives.images import Fit, decode, fit_image
from tumorxai.archives.workers import read_batches
from tumorxai.dedupe import hashing

CANVAS = 128  # side at which the head is looked for, pixels
DARK = 0.15  # of the brightest percentile: what is darker is no part of a head
FINE = 16  # frequencies per axis in the fine hash
BITS = FINE * FINE

Floats = NDArray[np.float32]
Bits = NDArray[np.uint8]


class Frames(NamedTuple):
    """Grey thumbnails of N images, uint8 of shape (N, 32, 32) each: of the whole frame and of the head's box."""

    whole: hashing.Thumbnails
    head: hashing.Thumbnails


def head_box(image: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the largest connected part that is not dark; the whole of a blank image.

    Args:
        image: grey pixels of shape (S, S).
    """
    smooth = ndimage.uniform_filter(image.astype(np.float64), 5)
    parts, count = ndimage.label(smooth > DARK * np.percentile(smooth, 99))
    if not count:
        return 0, 0, image.shape[1], image.shape[0]
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    rows, columns = (np.flatnonzero(largest.any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def frame(image: Image.Image) -> tuple[hashing.Thumbnails, hashing.Thumbnails]:
    """Thumbnails of one decoded image: the whole frame and the head's box, each of shape (32, 32)."""
    pixels = fit_image(image, Fit(CANVAS, 1, "stretch"))[0]
    canvas, side = Image.fromarray(pixels), (hashing.SIDE, hashing.SIDE)
    whole = canvas.resize(side, Image.Resampling.LANCZOS)
    head = canvas.resize(side, Image.Resampling.LANCZOS, box=head_box(pixels))
    return np.asarray(whole), np.asarray(head)


def _batch(files: Iterable[bytes]) -> hashing.Thumbnails:
    return np.stack([frame(decode(data).image) for data in files])


def load(files: Sequence[tuple[Path, str]], workers: int | None = None) -> Frames:
    """Decode many files of archives, in parallel.

    Args:
        files: archive and path inside it, of N images; neighbours should share an archive.
        workers: processes; all cores if None.
    """
    both = np.empty((len(files), 2, hashing.SIDE, hashing.SIDE), dtype=np.uint8)
    for run, batch in read_batches(_batch, files, "frames", workers):
        both[run] = batch
    return Frames(both[:, 0], both[:, 1])


def fine_hash(coefficients: hashing.Floats) -> Bits:
    """The 256-bit perceptual hash of N images: which frequencies lie above the median, as 0 and 1, shape (N, 256)."""
    low = coefficients.reshape(len(coefficients), BITS)
    bits: Bits = (low > np.median(low, axis=1, keepdims=True)).astype(np.uint8)
    return bits


def edges(images: hashing.Thumbnails) -> Floats:
    """Edges of N thumbnails, each a unit vector, or zero for a blank image; shape (N, 512).

    Roberts crosses damped by their mean, so that the outline of the head counts hardly more than what lies in it, and
    averaged over 2 x 2 pixels, so that a small shift hardly counts.
    """
    grey = images.astype(np.float32)
    cross = np.stack([grey[:, 1:, 1:] - grey[:, :-1, :-1], grey[:, 1:, :-1] - grey[:, :-1, 1:]], axis=1)
    strength = np.sqrt((cross**2).sum(axis=1, keepdims=True))
    floor = strength.mean(axis=(2, 3), keepdims=True) / 2 + 0.5  # half a grey level is rounding
    cross = np.pad(cross / np.hypot(strength, floor), ((0, 0), (0, 0), (0, 1), (0, 1)))
    half = images.shape[-1] // 2
    pooled = cross.reshape(len(images), 2, half, 2, half, 2).mean(axis=(3, 5)).reshape(len(images), -1)
    return unit(pooled)


def unit(vectors: NDArray[Any]) -> Floats:
    """Rows of length 1, or zero where they were; shape as given."""
    norm = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    scaled: Floats = np.divide(vectors, norm, out=np.zeros_like(vectors, dtype=np.float32), where=norm > 0)
    return scaled
