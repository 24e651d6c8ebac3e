"""Image files from strangers, decoded and fitted to the packed square.

``docs/bad-input.md`` lists what happens to each kind of unusual or hostile file.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tumorxai.archives.archives import UnreadableError, read

MAX_PIXELS = 64_000_000  # largest image decoded; at four bytes each that is 256 MB
MIN_SIDE = 16  # smallest image used: nothing can be seen on fewer pixels
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # none of them runs a program, as EPS would
PLAIN_MODES = ("L", "RGB", "I", "F")  # with their variants LA, RGBA and I;16; the others are converted to RGB

Box = tuple[float, float, float, float]  # centre x, centre y, width, height, as fractions of the image

CHENG = {1: "meningioma", 2: "glioma", 3: "pituitary"}  # cjdata.label of the figshare files


@dataclass(frozen=True)
class Fit:
    """How images become squares; the fields are those of the parameters' block ``data``."""

    size: int
    channels: Literal[1, 3]
    fit: Literal["pad", "stretch"]


@dataclass(frozen=True)
class Task:
    """One file of an archive, and where its lesion is marked.

    Attributes:
        entry: position in the archive's list of files.
        mask: position of the lesion mask there, or -1.
        box: of the lesion, or None.
    """

    archive: Path
    entry: int
    mask: int = -1
    box: Box | None = None


@dataclass(frozen=True)
class Decoded:
    """An image as its file holds it, upright, and what the file itself says about it."""

    image: Image.Image
    mode: str
    format: str
    native_label: str = ""
    patient: str = ""
    mask: Image.Image | None = None


@dataclass(frozen=True)
class Packed:
    """One readable image of the catalogue.

    Attributes:
        pixels: uint8 array of shape (C, S, S).
        lesion: uint8 array of shape (S, S), 0 or 1, or None.
        lesion_fault: why a lesion mask could not be used, or empty.
        pixels_sha256: of the mode, the size and the decoded, upright pixels.
    """

    pixels: NDArray[np.uint8]
    lesion: NDArray[np.uint8] | None
    lesion_fault: str
    mask_kind: Literal["", "mask", "box"]
    width: int
    height: int
    mode: str
    format: str
    bytes: int
    pixels_sha256: str
    native_label: str
    patient: str


def pack(task: Task, fit: Fit) -> Packed | str:
    """Decode one file and fit it; instead of the image the reason why it cannot be used."""
    archive = _archive(task.archive, os.getpid())
    info = archive.infolist()[task.entry]
    try:
        decoded = decode(read(archive, info))
    except UnreadableError as error:
        return str(error)
    marked, kind, lesion_fault = _lesion(archive, task, decoded)
    image = decoded.image
    return Packed(
        pixels=fit_image(image, fit),
        lesion=None if marked is None else fit_mask(marked, fit),
        lesion_fault=lesion_fault,
        mask_kind=kind,
        width=image.width,
        height=image.height,
        mode=decoded.mode,
        format=decoded.format,
        bytes=info.file_size,
        pixels_sha256=hashlib.sha256(
            f"{image.mode} {image.width}x{image.height}\n".encode() + image.tobytes()
        ).hexdigest(),
        native_label=decoded.native_label,
        patient=decoded.patient,
    )


@lru_cache(maxsize=2)  # a worker meets the archives one after the other
def _archive(path: Path, process: int) -> zipfile.ZipFile:
    """An archive, open in one process: a forked one must not share the position in the file."""
    return zipfile.ZipFile(path)


def decode(data: bytes) -> Decoded:
    """Decode a file into an upright image of one of PLAIN_MODES.

    Raises:
        UnreadableError: the file is empty, damaged, too large, too small or no image.
    """
    if not data:
        raise UnreadableError("empty, 0 bytes")
    if data[128:132] == b"DICM":
        raise UnreadableError("a DICOM file; convert it to PNG")
    if data[344:348] in (b"n+1\0", b"ni1\0") or data[:2] == b"\x1f\x8b":
        raise UnreadableError("a NIfTI volume or another gzip file; convert its slices to PNG")
    if data[:6] == b"MATLAB":
        return _decode_mat(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large sizes and odd metadata; both are judged here
            file = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_size(file.width, file.height)
            mode, name = file.mode, str(file.format)
            file.load()  # of several frames the first
            image = ImageOps.exif_transpose(file)
            if image.mode in ("P", "PA"):  # stored indices mean nothing without their palette
                image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
            elif not image.mode.startswith(PLAIN_MODES):
                image = image.convert("RGB")
    except UnidentifiedImageError:
        raise UnreadableError(f"no image of a known format; it begins with {data[:8]!r}") from None
    except Image.DecompressionBombError:
        raise UnreadableError(f"too many pixels; at most {MAX_PIXELS}") from None
    except UnreadableError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever their format's damage leads to
        raise UnreadableError(f"cannot be decoded ({str(error) or type(error).__name__})") from None
    return Decoded(image, mode, name)


def _check_size(width: int, height: int) -> None:
    """Judge the size by the header, before any pixel is decoded."""
    if width * height > MAX_PIXELS:
        raise UnreadableError(f"{width} x {height} pixels; at most {MAX_PIXELS} in all")
    if min(width, height) < MIN_SIDE:
        raise UnreadableError(f"{width} x {height} pixels; at least {MIN_SIDE} x {MIN_SIDE}")


def _decode_mat(data: bytes) -> Decoded:
    """A slice of the Cheng data set: a MATLAB 7.3 (HDF5) file with the struct ``cjdata``."""
    import h5py  # slow to load, and needed for these files alone

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            label, patient, pixels, mask = (_mat_field(file, name) for name in ("label", "PID", "image", "tumorMask"))
        if pixels.ndim != 2 or mask.shape != pixels.shape or label.size != 1 or int(label.flat[0]) not in CHENG:
            raise ValueError(f"image {pixels.shape}, mask {mask.shape} and label {label.ravel()[:3]}")
        patient_id = "".join(chr(int(code)) for code in patient.ravel())
    except (KeyError, OSError, RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise UnreadableError(f"a MATLAB file without a readable cjdata ({str(error).strip(chr(39))})") from None
    pixels, mask = pixels.T, mask.T  # MATLAB stores columns first
    _check_size(pixels.shape[1], pixels.shape[0])
    return Decoded(
        image=Image.fromarray(pixels.astype(np.int32)),
        mode="I;16",
        format="MAT",
        native_label=CHENG[int(label.flat[0])],
        patient=patient_id,
        mask=Image.fromarray((mask != 0).astype(np.uint8) * 255),
    )


def _mat_field(file: Any, name: str) -> NDArray[Any]:
    """One array of ``cjdata``; links and data outside the file, which HDF5 would follow, are refused."""
    import h5py

    for path in ("cjdata", f"cjdata/{name}"):
        if not isinstance(file.get(path, getlink=True), h5py.HardLink):
            raise KeyError(f"no {path}")
    field = file["cjdata"][name]
    if not isinstance(field, h5py.Dataset) or field.external or field.is_virtual or field.dtype.kind not in "biuf":
        raise ValueError(f"{name} is no plain array of numbers")
    if field.size > MAX_PIXELS:
        raise ValueError(f"{name} has {field.size} numbers, at most {MAX_PIXELS}")
    return np.asarray(field[()])


def _lesion(
    archive: zipfile.ZipFile, task: Task, decoded: Decoded
) -> tuple[Image.Image | None, Literal["", "mask", "box"], str]:
    """The lesion as a mask as large as the image, what it was drawn from, and what was wrong with it."""
    image = decoded.image
    if decoded.mask is not None:
        return decoded.mask, "mask", ""
    if task.mask >= 0:
        try:
            mask = decode(read(archive, archive.infolist()[task.mask])).image.convert("L")
        except UnreadableError as error:
            return None, "", str(error)
        if mask.size != image.size:
            return (
                None,
                "",
                f"a mask of {mask.width} x {mask.height} pixels for an image of {image.width} x {image.height}",
            )
        return mask, "mask", ""
    if task.box is not None:
        x, y, width, height = task.box
        drawn = np.zeros((image.height, image.width), dtype=np.uint8)
        left, right = (round((x + side * width / 2) * image.width) for side in (-1, 1))
        top, bottom = (round((y + side * height / 2) * image.height) for side in (-1, 1))
        drawn[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 255
        return Image.fromarray(drawn), "box", ""
    return None, "", ""


def fit_image(image: Image.Image, fit: Fit) -> NDArray[np.uint8]:
    """Grey or colour pixels of shape (C, S, S) in the packed square, antialiased.

    More than 8 bits are scaled by the image's own range; transparent parts become black, as a scan's surroundings are.
    """
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    elif image.mode in ("LA", "La", "RGBA", "RGBa"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    image = image.convert("L" if fit.channels == 1 else "RGB")
    pixels = np.asarray(_square(image, fit, Image.Resampling.LANCZOS))
    return np.ascontiguousarray(pixels[None] if fit.channels == 1 else pixels.transpose(2, 0, 1))


def fit_mask(mask: Image.Image, fit: Fit) -> NDArray[np.uint8]:
    """A lesion mask of shape (S, S), 0 or 1, in the same geometry; a lesion keeps at least its fullest pixel."""
    cover = np.asarray(_square(mask, fit, Image.Resampling.BOX))
    return (cover >= max(1, min(128, int(cover.max())))).astype(np.uint8)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale the finite range of values to 0 to 255."""
    values = np.asarray(image).astype(np.float64)
    finite = np.isfinite(values)
    low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 0.0)
    scaled = np.clip(np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low, 0, None) * (
        255 / max(high - low, 1e-12)
    )
    return Image.fromarray(np.rint(np.clip(scaled, 0, 255)).astype(np.uint8))


def _square(image: Image.Image, fit: Fit, filter: Image.Resampling) -> Image.Image:
    """Stretch to the square, or scale the longer side to it and centre on black."""
    left, top, right, bottom = inner(image.width, image.height, fit)
    square = Image.new(image.mode, (fit.size, fit.size))
    square.paste(image.resize((right - left, bottom - top), filter), (left, top))
    return square


def inner(width: int, height: int, fit: Fit) -> tuple[int, int, int, int]:
    """Where an image of some pixels lies in the packed square: left, top, right, bottom."""
    if fit.fit == "stretch":
        return 0, 0, fit.size, fit.size
    scale = fit.size / max(width, height)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (fit.size - w) // 2, (fit.size - h) // 2
    return left, top, left + w, top + h
