"""Files made small for the journey, without loss: pixels as WebP, which knows images, everything else by LZMA."""

from __future__ import annotations

import io
import lzma
import shutil
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from tumorxai.errors import UserError
from tumorxai.files import atomic, sha256

SHEET = 2048  # pixels of a side, about; WebP knows 16,383 at most
METHOD, EFFORT = 4, 75  # of WebP's compressor: the slowest ones take several times as long for some hundredths less


def pack(file: Path, out: Path) -> str:
    """Write a file's content small, and read it back to see that nothing is lost.

    Args:
        file: any file; the pixels of ``.npy`` files of shape (N, 1 or 3, S, S), uint8, go as WebP.
        out: file to write.

    Returns:
        The format, for :func:`unpack`: ``webp``, ``xz`` or ``raw``, whichever is the smallest that the file allows.
    """
    images = _images(file)
    with atomic(out) as temporary:
        if images is not None and features.check("webp"):
            _write_sheets(images, file, temporary)
            kind = "webp"
        else:
            with open(file, "rb") as source, lzma.open(temporary, "wb") as target:
                shutil.copyfileobj(source, target)
            kind = "xz"
        if temporary.stat().st_size >= file.stat().st_size:
            shutil.copyfile(file, temporary)
            kind = "raw"
        back = out.with_name(f"{out.name}.back")
        try:
            unpack(temporary, kind, back, sha256(file))
        finally:
            back.unlink(missing_ok=True)
    return kind


def unpack(file: Path, kind: str, out: Path, wanted: str) -> None:
    """Write what was packed.

    Args:
        file: that :func:`pack` wrote.
        kind: what it returned.
        out: file to write.
        wanted: SHA-256 of the content.

    Raises:
        UserError: other bytes come out, or this Pillow knows no WebP.
    """
    with atomic(out) as temporary:
        if kind == "webp":
            if not features.check("webp"):
                raise UserError(f"got a Pillow without WebP for {file}; expected one with it; install Pillow from PyPI")
            _read_sheets(file, temporary)
        elif kind == "xz":
            with lzma.open(file, "rb") as source, open(temporary, "wb") as target:
                shutil.copyfileobj(source, target)
        else:
            shutil.copyfile(file, temporary)
        if (found := sha256(temporary)) != wanted:
            raise UserError(f"got {file} with a content of SHA-256 {found}; expected {wanted}; copy the bundle again")


def _images(file: Path) -> NDArray[np.uint8] | None:
    """Images, shape (N, C, S, S), of a file that holds such; None of another one."""
    if file.read_bytes()[:6] != b"\x93NUMPY":
        return None
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    fits = array.dtype == np.uint8 and array.ndim == 4 and array.size and array.shape[1] in (1, 3)
    return array if fits and max(array.shape[2:]) <= SHEET and array.flags.c_contiguous else None


def _layout(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a sheet of images of shape (N, C, H, W)."""
    return max(1, SHEET // shape[2]), max(1, SHEET // shape[3])


def _write_sheets(images: NDArray[np.uint8], file: Path, out: Path) -> None:
    """Write a zip of the file's header, its shape and sheets of many images: each WebP has tables of its own."""
    rows, columns = _layout(images.shape)
    many, (_, channels, height, width) = rows * columns, images.shape
    header = file.stat().st_size - images.size
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        with open(file, "rb") as stream:
            archive.writestr("header", stream.read(header))
        archive.writestr("shape", " ".join(map(str, images.shape)))
        for first in range(0, len(images), many):
            sheet = np.zeros((many, channels, height, width), dtype=np.uint8)
            sheet[: len(images) - first] = images[first : first + many]
            laid = sheet.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
            laid = laid.reshape(rows * height, columns * width, channels)
            used = -(-min(many, len(images) - first) // columns) * height
            picture = Image.fromarray(laid[:used, :, 0] if channels == 1 else laid[:used])
            encoded = io.BytesIO()
            picture.save(encoded, "WEBP", lossless=True, exact=True, quality=EFFORT, method=METHOD)
            archive.writestr(f"{first:09d}.webp", encoded.getvalue())


def _read_sheets(file: Path, out: Path) -> None:
    with zipfile.ZipFile(file) as archive, open(out, "wb") as stream:
        stream.write(archive.read("header"))
        count, channels, height, width = shape = tuple(map(int, archive.read("shape").split()))
        rows, columns = _layout(shape)
        for first in range(0, count, rows * columns):
            with Image.open(io.BytesIO(archive.read(f"{first:09d}.webp"))) as picture:
                laid = np.asarray(picture.convert("RGB"))[:, :, :channels]
            laid = laid.reshape(-1, height, columns, width, channels).transpose(0, 2, 4, 1, 3)
            images = laid.reshape(-1, channels, height, width)[: min(rows * columns, count - first)]
            stream.write(np.ascontiguousarray(images).tobytes())
