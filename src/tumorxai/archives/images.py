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

from tumorxai.archives import grey
from tumorxai.archives.archives import UnreadableError, read
from tumorxai.archives.blank import VIEW, near_constant

MAX_PIXELS = 64_000_000  # largest image decoded; at four bytes each that is 256 MB
MAX_MEMORY = 300_000_000  # bytes that one image may take, with its file and the arrays on the way to the packed square
# Bytes of a pixel as Pillow holds it, and of the copy that `decode` or `fit_image` makes of it; 4 in other modes.
DECODED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
CONVERTED = {"L": 0, "I;16": 1, "I;16B": 1, "I;16L": 1, "I;16N": 1, "I": 1, "F": 1, "RGB": 1, "LA": 1, "La": 1,
             "RGBA": 1, "RGBa": 1, "P": 5, "1": 5, "PA": 5, "CMYK": 5, "YCbCr": 5, "LAB": 5, "HSV": 5}  # fmt: skip
BUFFERED = 6  # further bytes where the decoder holds all coefficients (progressive JPEG) or all pixels (WebP) once more
FLAT = 0.02  # range of values, as a share of the largest, up to which an image of more than 8 bits is of one value
ORIENTATION = 0x0112  # tag of EXIF
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


LOOK = Fit(VIEW, 1, "stretch")  # to see whether there is anything on an image


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
        clipped: were hot or cold pixels left out of its range?
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
    clipped: bool = False


def pack(task: Task, fit: Fit) -> Packed | str:
    """Decode one file and fit it; instead of the image the reason why it cannot be used."""
    archive = _archive(task.archive, os.getpid())
    info = archive.infolist()[task.entry]
    try:
        decoded = decode(read(archive, info))
    except UnreadableError as error:
        return str(error)
    image = shown = decoded.image
    flat = clipped = False
    if _is_wide(image):
        low, high = grey.reach(image)
        # Of one value, but for 2% of it: scaled by its range it would show its noise.
        flat, clipped = high - low <= FLAT * max(abs(low), abs(high)), (low, high) != grey.ends(image)
        shown = _scaled(image, low, high)
    if flat or near_constant(fit_image(shown, LOOK))[0]:
        return "next to nothing on it: nearly all of it is of one grey"
    marked, kind, lesion_fault = _lesion(archive, task, decoded)
    return Packed(
        pixels=fit_image(shown, fit),
        lesion=None if marked is None else fit_mask(marked, fit),
        lesion_fault=lesion_fault,
        mask_kind=kind,
        width=image.width,
        height=image.height,
        mode=decoded.mode,
        format=decoded.format,
        bytes=info.file_size,
        pixels_sha256=_fingerprint(image),
        native_label=decoded.native_label,
        patient=decoded.patient,
        clipped=clipped,
    )


def _is_wide(image: Image.Image) -> bool:
    """Has an image more than 8 bits a pixel, so that its own range says what is black and white?"""
    return image.mode.startswith(("I", "F"))


def _scaled(image: Image.Image, low: float, high: float) -> Image.Image:
    """A wide image in 8 bits, grey, band by band; ``low`` becomes black and ``high`` white."""
    plain = Image.new("L", image.size)
    for top, band in grey.bands(image):
        plain.paste(grey.eight_bits(band, low, high), (0, top))
    return plain


def _fingerprint(image: Image.Image) -> str:
    """SHA-256 of the mode, the size and the pixels, as 64 hexadecimal digits."""
    found = hashlib.sha256(f"{image.mode} {image.width}x{image.height}\n".encode())
    for _, band in grey.bands(image):
        found.update(band.tobytes())
    return found.hexdigest()


@lru_cache(maxsize=2)  # a worker meets the archives one after the other
def _archive(path: Path, process: int) -> zipfile.ZipFile:
    """An archive, open in one process: a forked one must not share the position in the file."""
    return zipfile.ZipFile(path)


def look(data: bytes) -> None:
    """Judge a file by its first bytes and its header; no pixel is decoded.

    Raises:
        UnreadableError: it is empty, no image of a known format, too large or too small.
    """
    if not data:
        raise UnreadableError("empty, 0 bytes")
    if data[128:132] == b"DICM":
        raise UnreadableError("a DICOM file; it is read out of your own folder or zip, called .dcm")
    if data[344:348] in (b"n+1\0", b"ni1\0") or data[:2] == b"\x1f\x8b":
        raise UnreadableError(
            "a NIfTI volume or another gzip file; volumes are read out of your own folder or zip, called .nii(.gz)"
        )
    if data[:6] != b"MATLAB":
        _opened(data).close()


def _opened(data: bytes) -> Image.Image:
    """An image whose header is read and judged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large sizes and odd metadata; both are judged here
            file = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_size(file.width, file.height)
            _check_memory(file, len(data))
            return file
    except UnidentifiedImageError:
        raise UnreadableError(f"no image of a known format; it begins with {data[:8]!r}") from None
    except Image.DecompressionBombError:
        raise UnreadableError(f"too many pixels; at most {MAX_PIXELS}") from None
    except UnreadableError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever their format's damage leads to
        raise UnreadableError(f"cannot be decoded ({str(error) or type(error).__name__})") from None


def _check_memory(file: Image.Image, size: int) -> None:
    """Judge by the header what decoding takes: the file, the pixels as Pillow holds them, and their copy."""
    pixel = DECODED.get(file.mode, 4) + CONVERTED.get(file.mode, 4)
    if file.format == "WEBP" or "progressive" in file.info or "progression" in file.info:
        pixel += BUFFERED
    needed = size + file.width * file.height * pixel
    if needed > MAX_MEMORY:
        raise UnreadableError(
            f"{file.width} x {file.height} pixels of mode {file.mode}, which take {needed // 10**6} MB to decode; at "
            f"most {MAX_MEMORY // 10**6} MB"
        )


def decode(data: bytes) -> Decoded:
    """Decode a file into an upright image of one of PLAIN_MODES.

    Raises:
        UnreadableError: the file is empty, damaged, too large, too small or no image.
    """
    look(data)
    if data[:6] == b"MATLAB":
        return _decode_mat(data)
    file = _opened(data)
    mode, name = file.mode, str(file.format)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file.load()  # of several frames the first
            turned = file.getexif().get(ORIENTATION, 1) != 1
            image: Image.Image = ImageOps.exif_transpose(file) if turned else file
            if image.mode in ("P", "PA"):  # stored indices mean nothing without their palette
                image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
            elif not image.mode.startswith(PLAIN_MODES) or image.mode == "LAB":  # which is not L
                image = image.convert("RGB")
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
    if field.size > MAX_PIXELS or 3 * field.size * field.dtype.itemsize > MAX_MEMORY:
        raise ValueError(
            f"{name} has {field.size} numbers of {field.dtype.itemsize} bytes, at most {MAX_PIXELS} in 100 MB"
        )
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
    grey_alone = fit.channels == 1 or image.mode == "L" or _is_wide(image)  # in colour three equal channels
    pixels = np.asarray(_square(_plain(image, "L" if grey_alone else "RGB"), fit, Image.Resampling.LANCZOS))
    return (
        np.repeat(pixels[None], fit.channels, axis=0) if grey_alone else np.ascontiguousarray(pixels.transpose(2, 0, 1))
    )


def fit_mask(mask: Image.Image, fit: Fit) -> NDArray[np.uint8]:
    """A lesion mask of shape (S, S), 0 or 1, in the same geometry; a lesion keeps at least its fullest pixel."""
    cover = np.asarray(_square(mask, fit, Image.Resampling.BOX))
    return (cover >= max(1, min(128, int(cover.max())))).astype(np.uint8)


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """An image in 8 bits, grey or colour, band by band; the image itself where it is so already."""
    if _is_wide(image):
        image = _scaled(image, *grey.reach(image))
    if image.mode == mode:
        return image
    plain = Image.new(mode, image.size)
    for top, band in grey.bands(image):
        if image.mode in ("LA", "La", "RGBA", "RGBa"):
            own = band.convert("RGBA")
            own = Image.alpha_composite(Image.new("RGBA", own.size, (0, 0, 0, 255)), own)
        else:
            own = band
        plain.paste(own.convert(mode), (0, top))
    return plain


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
