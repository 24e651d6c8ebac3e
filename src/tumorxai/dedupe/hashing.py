"""The 64-bit perceptual hash (pHash), over the eight flips and rotations.

An image is scaled to 32 x 32 grey pixels. Its hash tells which of the 8 x 8 lowest frequencies of their discrete cosine
transform lie above the median (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010,
section 3.2.1; the variant with the constant term in the median, as in ``imagehash.phash``).

Mirroring an image flips the sign of its odd frequencies, transposing it transposes them: the hashes of all eight
orientations come from one transform.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dct

from tumorxai.archives.images import Fit, decode, fit_image
from tumorxai.archives.workers import read_batches

SIDE = 32  # of the grey thumbnail that is hashed, pixels
VIEW = 96  # of the one that copies are compared on
HELD = 2**30  # bytes up to which the views of all images are held in memory
LOW = 8  # frequencies per axis in the hash

# A JPEG at least this large is decoded at 1/8 to 1/2 of its size, never below VIEW pixels: most of the work is saved.
LARGE = 512
ORIENTATION_TAG = 0x0112  # of EXIF

# Orientation o of an image: transposed if o & 4, then mirrored left to right if o & 1 and upside down if o & 2.
ORIENTATIONS = (
    "as is",
    "mirrored",
    "upside down",
    "rotated by 180",
    "transposed",
    "rotated by 90 clockwise",
    "rotated by 90 anticlockwise",
    "transposed by the other diagonal",
)
INVERSE = np.array([0, 1, 2, 3, 4, 6, 5, 7])  # the orientation that undoes each

Floats = NDArray[np.float64]
Hashes = NDArray[np.uint64]
Thumbnails = NDArray[np.uint8]


class Images(NamedTuple):
    """N grey images in two sizes, both stretched to a square.

    Attributes:
        thumbnails: uint8 array of shape (N, SIDE, SIDE), which is hashed.
        views: uint8 array of shape (N, VIEW, VIEW), which copies are compared on.
    """

    thumbnails: Thumbnails
    views: Thumbnails


def shrink(image: Image.Image) -> Images:
    """Both sizes of a decoded image, as an array of one."""
    grey = image.convert("L") if image.mode == "RGB" else image
    small, view = (fit_image(grey, Fit(size=side, channels=1, fit="stretch")) for side in (SIDE, VIEW))
    return Images(small, view)


def thumbnail(data: bytes) -> Images:
    """Decode a file once into both sizes, as an array of one.

    Raises:
        UnreadableError: the file is no image that could be used.
    """
    image = _scaled(data)
    if image is None:
        return shrink(decode(data).image)
    grey = np.asarray(image, dtype=np.float32)
    small, view = (_lanczos(image.height, side) @ grey @ _lanczos(image.width, side).T for side in (SIDE, VIEW))
    return Images(*(np.rint(each).clip(0, 255).astype(np.uint8)[None] for each in (small, view)))


@lru_cache(maxsize=512)  # Pillow would compute them for each image, which takes longer than their use
def _lanczos(size: int, side: int) -> NDArray[np.float32]:
    """Weights of Pillow's Lanczos filter from ``size`` pixels to ``side``, of shape (side, size)."""
    unit = Image.fromarray(np.eye(size, dtype=np.float32))
    return np.asarray(unit.resize((size, side), Image.Resampling.LANCZOS))


def _scaled(data: bytes) -> Image.Image | None:
    """A large upright JPEG, decoded in grey and at a fraction of its size; None for every other file."""
    if data[:2] != b"\xff\xd8":
        return None
    try:
        image = Image.open(io.BytesIO(data), formats=["JPEG"])
        if min(image.size) < LARGE or ("exif" in image.info and image.getexif().get(ORIENTATION_TAG, 1) != 1):
            return None
        image.draft("L", (VIEW, VIEW))
        image.load()
        if image.mode != "L":  # four colours cannot be decoded in grey
            return None
    except Exception:  # whatever it is, decode() will name it
        return None
    return image


def _batch(files: Iterable[bytes]) -> Images:
    found = [thumbnail(data) for data in files]
    return Images(*(np.concatenate(each) for each in zip(*found, strict=True)))


def room(count: int, side: int, scratch: Path | None = None) -> Thumbnails:
    """An array of shape (count, side, side) to be filled, in memory, or if it is large in a file without a name.

    The system writes such a file out when it needs the memory, and removes it with the last process that has it.

    Args:
        count: of images.
        side: pixels.
        scratch: folder of the file; None for memory alone.
    """
    shape = count, side, side
    if scratch is None or count * side**2 <= HELD:
        return np.empty(shape, dtype=np.uint8)
    with tempfile.TemporaryFile(dir=scratch) as file:
        if hasattr(os, "posix_fallocate"):  # else a full disk would be told by a signal that ends the process
            os.posix_fallocate(file.fileno(), 0, count * side**2)
        return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)


def some(images: Images, which: NDArray[np.int64], scratch: Path | None = None) -> Images:
    """Some of N images; ``which`` are their places, ascending. All of them are not copied."""
    if len(which) == len(images.views):
        return images
    views = room(len(which), VIEW, scratch)
    for start in range(0, len(which), 4096):
        views[start : start + 4096] = images.views[which[start : start + 4096]]
    return Images(images.thumbnails[which], views)


def read_images(files: Sequence[tuple[Path, str]], workers: int | None = None, scratch: Path | None = None) -> Images:
    """Decode many files of archives, each once, in parallel.

    Args:
        files: archive and path inside it, of N images; neighbours should share an archive.
        workers: processes; all cores if None.
        scratch: folder for what is too large to be held in memory; None to hold all.
    """
    out = Images(*(room(len(files), side, scratch) for side in (SIDE, VIEW)))
    for run, batch in read_batches(_batch, files, "hashing", workers):
        for whole, part in zip(out, batch, strict=True):
            whole[run] = part
    return out


def frequencies(images: Thumbnails, low: int = LOW) -> Floats:
    """The low x low lowest frequencies of the type-II cosine transform, not normalised, as the hash is defined on them.

    Args:
        images: uint8 array of shape (N, SIDE, SIDE).
        low: frequencies per axis.

    Returns:
        Array of shape (N, low, low), without rounding noise: of it the hash of a symmetric image would consist.
    """
    basis = dct(np.eye(SIDE), axis=0)[:low]
    out = np.empty((len(images), low, low))
    for start in range(0, len(images), 4096):  # in parts, for an image takes 8 kB as floats
        out[start : start + 4096] = basis @ (images[start : start + 4096].astype(np.float64) @ basis.T)
    return out.round(6)


def turn(images: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Bring images of shape (N, K, K) into an orientation."""
    if orientation & 4:
        images = images.transpose(0, 2, 1)
    if orientation & 1:
        images = images[:, :, ::-1]
    if orientation & 2:
        images = images[:, ::-1]
    return images


def turn_frequencies(coefficients: Floats, orientation: int) -> Floats:
    """Frequencies of the images brought into an orientation, shape (N, K, K)."""
    sign = np.where(np.arange(coefficients.shape[-1]) % 2, -1.0, 1.0)
    if orientation & 4:
        coefficients = coefficients.transpose(0, 2, 1)
    if orientation & 1:
        coefficients = coefficients * sign
    if orientation & 2:
        coefficients = coefficients * sign[:, None]
    return coefficients


def invert_frequencies(coefficients: Floats) -> Floats:
    """Frequencies of the inverted images, 255 less each grey value, shape (N, K, K)."""
    inverted = -coefficients
    inverted[:, 0, 0] += frequencies(np.full((1, SIDE, SIDE), 255, dtype=np.uint8))[0, 0, 0]
    return inverted


def hashes(coefficients: Floats) -> Hashes:
    """The pHash of N images from their frequencies, of shape (N, LOW, LOW)."""
    out = np.empty(len(coefficients), dtype=np.uint64)
    for start in range(0, len(out), 65536):  # in parts, for an image takes a kB to sort
        low = coefficients[start : start + 65536].reshape(-1, LOW * LOW)
        middle = np.sort(low, axis=1)[:, LOW * LOW // 2 - 1 : LOW * LOW // 2 + 1]  # np.median takes nine times as long
        bits = low > middle.mean(axis=1, keepdims=True)
        out[start : start + 65536] = np.packbits(bits, axis=1).view(">u8")[:, 0]
    return out
