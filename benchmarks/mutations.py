"""Damage for `benchmarks/fuzz.py`: files of every kind that is read, and what happens to them, drawn by a seed."""

from __future__ import annotations

import gzip
import io
import random
import re
import struct
import zipfile
from collections.abc import Callable
from functools import cache

import h5py
import numpy as np
from benchmarks.hostile import dicom, file, nifti
from PIL import Image

EXTREMES = (0, 1, 2, 255, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1)
# What people write in place of a value, and what nobody should.
VALUES = (
    "", "~", "[]", "{}", "-1", "0", "1", "1e400", "1e-320", ".nan", ".inf", "-.inf", "true", "no", "'x'", "''", "010",
    "0o17", "1:30", "2020-01-01", "9" * 30, "9" * 5000, "[[[[", "*a", "&a [*a]", "!!python/object:os.system x", "\0",
    "é" * 1000, "[1, 2, 3]", "{a: 1}", "0.1", "nan", "[nan]", "[-1, 1e400]", "'../../x'", "|", "- 1", "? x", "@", "%",
)  # fmt: skip


def pixels(side: int, seed: int = 0) -> np.ndarray:
    """A grey image that is not blank, uint8."""
    y, x = np.mgrid[:side, :side]
    disc = (x - side // 2) ** 2 + (y - side // 3) ** 2 < (side // 4) ** 2
    noise = np.random.default_rng(seed).normal(60, 12, (side, side))
    return (noise + 100 * disc).clip(0, 255).astype(np.uint8)


def mat() -> bytes:
    """An image as in Cheng's archive."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as made:
        group = made.create_group("cjdata")
        group["image"], group["label"] = pixels(64).astype("<i2"), np.array([[2.0]])
        group["PID"], group["tumorMask"] = np.array([[49], [50]], dtype="<u2"), (pixels(64) > 150).astype("u1")
    return stream.getvalue()


@cache
def images() -> tuple[tuple[str, bytes], ...]:
    """Names and contents of whole images, one of each kind."""
    grey = Image.fromarray(pixels(64))
    wide = Image.fromarray(pixels(64).astype("<u2") * 200)
    real = Image.fromarray(pixels(64).astype("<f4") / 7)
    colour = Image.fromarray(np.stack([pixels(64, seed) for seed in range(3)], axis=-1))
    frames = [Image.fromarray(pixels(64, seed)) for seed in range(3)]
    volume = np.stack([pixels(64, seed) for seed in range(6)]).astype("<i2")
    return (
        ("grey.png", file(grey, "PNG")),
        ("colour.png", file(colour, "PNG")),
        ("wide.png", file(wide, "PNG")),
        ("palette.png", file(colour.convert("P"), "PNG")),
        ("alpha.png", file(colour.convert("RGBA"), "PNG")),
        ("grey.jpg", file(grey, "JPEG")),
        ("colour.jpg", file(colour, "JPEG", quality=90)),
        ("progressive.jpg", file(colour, "JPEG", progressive=True)),
        ("cmyk.jpg", file(colour.convert("CMYK"), "JPEG")),
        ("grey.tif", file(grey, "TIFF")),
        ("deflated.tif", file(colour, "TIFF", compression="tiff_deflate")),
        ("lzw.tif", file(grey, "TIFF", compression="tiff_lzw")),
        ("wide.tif", file(wide, "TIFF")),
        ("real.tif", file(real, "TIFF")),
        ("pages.tif", file(frames[0], "TIFF", save_all=True, append_images=frames[1:])),
        ("colour.bmp", file(colour, "BMP")),
        ("palette.bmp", file(grey, "BMP")),
        ("lossless.webp", file(colour, "WEBP", lossless=True)),
        ("lossy.webp", file(colour, "WEBP")),
        ("frames.gif", file(frames[0], "GIF", save_all=True, append_images=frames[1:])),
        ("slice.dcm", dicom(pixels(64).astype("<u2") * 3)),
        ("frames.dcm", dicom(volume.astype("<u2") * 3)),
        ("volume.nii.gz", nifti((64, 64, 6), volume.tobytes())),
        ("volume.nii", nifti((64, 64, 6), volume.tobytes(), packed=False)),
        ("cheng.mat", mat()),
    )


def damaged(data: bytes, draw: random.Random, other: bytes = b"") -> bytes:
    """One to three accidents that can happen to a file.

    Args:
        data: the whole file.
        draw: of what happens, and where.
        other: another file's content, which can take its place or its end.
    """
    for _ in range(draw.randint(1, 3)):
        data = draw.choice(ACCIDENTS)(data, draw, other)
    return data


def _place(data: bytes, draw: random.Random) -> int:
    """A place in a file; half of them in its head, where most of what is read stands."""
    return draw.randrange(max(1, min(len(data), 512) if draw.random() < 0.5 else len(data)))


def _truncate(data: bytes, draw: random.Random, other: bytes) -> bytes:
    return data[: _place(data, draw)]


def _flip(data: bytes, draw: random.Random, other: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(draw.randint(1, 8) if found else 0):
        found[_place(data, draw)] ^= 1 << draw.randrange(8)
    return bytes(found)


def _swap(data: bytes, draw: random.Random, other: bytes) -> bytes:
    found = bytearray(data)
    if found:
        a, b = _place(data, draw), _place(data, draw)
        found[a], found[b] = found[b], found[a]
    return bytes(found)


def _insert(data: bytes, draw: random.Random, other: bytes) -> bytes:
    place = _place(data, draw)
    return data[:place] + draw.randbytes(draw.randint(1, 64)) + data[place:]


def _cut_out(data: bytes, draw: random.Random, other: bytes) -> bytes:
    place = _place(data, draw)
    return data[:place] + data[place + draw.randint(1, 64) :]


def _repeat(data: bytes, draw: random.Random, other: bytes) -> bytes:
    place = _place(data, draw)
    return data[:place] + data[place : place + draw.randint(1, 200)] * draw.randint(2, 50) + data[place:]


def _field(data: bytes, draw: random.Random, other: bytes) -> bytes:
    """A number of the head is another one, such as a width of two billion."""
    kind = draw.choice(("<H", ">H", "<I", ">I"))
    value = draw.choice(EXTREMES) & (2 ** (8 * struct.calcsize(kind)) - 1)
    place = _place(data, draw)
    return data[:place] + struct.pack(kind, value) + data[place + struct.calcsize(kind) :]


def _splice(data: bytes, draw: random.Random, other: bytes) -> bytes:
    return other if draw.random() < 0.3 else data[: _place(data, draw)] + other[_place(other, draw) :]


Accident = Callable[[bytes, random.Random, bytes], bytes]
ACCIDENTS: tuple[Accident, ...] = (_truncate, _flip, _flip, _swap, _insert, _cut_out, _repeat, _field, _field, _splice)


def image(draw: random.Random) -> tuple[str, bytes]:
    """Name and content of a damaged image."""
    name, data = draw.choice(images())
    other = draw.choice(images())[1]
    if name.endswith(".gz") and draw.random() < 0.5:  # else little but the checksum of gzip is ever tried
        return name, gzip.compress(damaged(gzip.decompress(data), draw, other), 1)
    return name, damaged(data, draw, other)


def archive(draw: random.Random) -> bytes:
    """A zip whose list, names or bytes are not as they should be."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as made:
        if draw.random() < 0.9:  # something that can be used
            for place in range(4):
                made.writestr(f"{('glioma', 'healthy')[place % 2]}/whole_{place}.png", images()[place % 5][1])
        for number in range(draw.randint(0, 8)):
            name, data = image(draw) if draw.random() < 0.3 else draw.choice(images())
            made.writestr(zipfile.ZipInfo(_name(draw, number, name)), data)
        for _ in range(draw.randint(0, 2)):
            info, data = _odd(draw)
            made.writestr(info, data)
    data = stream.getvalue()
    return damaged(data, draw, draw.choice(images())[1]) if draw.random() < 0.4 else data


def _name(draw: random.Random, number: int, name: str) -> str:
    folder = draw.choice(("glioma", "healthy", "glioma/a/b", "healthy/patient 7", "more", ""))
    odd = ("../", "/", "C:\\", "..\\", "./", "a//b/", "\u202e", "é/", "con/", " ", "a\nb/", "\x7f/", "x" * 300 + "/")
    start = draw.choice(odd) if draw.random() < 0.15 else ""
    return f"{start}{folder}/{number if draw.random() < 0.9 else 0}_{name}"


def _odd(draw: random.Random) -> tuple[zipfile.ZipInfo, bytes]:
    """A member of an archive that is no image."""
    link = zipfile.ZipInfo("glioma/link.png")
    link.external_attr = 0o120777 << 16
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("glioma/inner.png", images()[0][1])
        made.writestr("../../escape.png", images()[0][1])
    packed = zipfile.ZipInfo("glioma/bomb.png")
    packed.compress_type = zipfile.ZIP_DEFLATED
    encrypted = zipfile.ZipInfo("glioma/encrypted.png")
    encrypted.flag_bits |= 1
    table = "file,label,patient\n" + "\n".join(f"{i}_grey.png,{draw.choice('ab')},{i}" for i in range(8))
    return draw.choice((
        (link, b"/etc/passwd"),
        (zipfile.ZipInfo("more/inner.zip"), inner.getvalue()),
        (packed, bytes(draw.choice((10**5, 10**7, 3 * 10**7)))),
        (encrypted, images()[0][1]),
        (zipfile.ZipInfo("labels.csv"), damaged(table.encode(), draw) if draw.random() < 0.5 else table.encode()),
        (zipfile.ZipInfo("empty/"), b""),
        (zipfile.ZipInfo("annotations.json"), b'{"images": [' * 500),
        (zipfile.ZipInfo("tumorxai.json"), b'{"version": 1}'),
    ))  # fmt: skip


def params(text: str, draw: random.Random) -> bytes:
    """The parameters with odd values, odd keys or damaged bytes."""
    lines = text.splitlines()
    places = [number for number, line in enumerate(lines) if re.match(r"\s*(- )?[\w.]+:", line)]
    for _ in range(draw.randint(1, 3)):
        number = draw.choice(places)
        key, _, _ = lines[number].partition(":")
        kind = draw.random()
        if kind < 0.7:
            lines[number] = f"{key}: {draw.choice(VALUES)}"
        elif kind < 0.8:
            lines[number] = f"{key}x:{lines[number].partition(':')[2]}"
        elif kind < 0.9:
            lines[number] = f"{' ' * draw.randint(0, 9)}{lines[number].lstrip()}"
        else:
            lines.insert(number, lines[draw.choice(places)])
    data = ("\n".join(lines) + "\n").encode()
    return damaged(data, draw, text.encode("utf-16")) if draw.random() < 0.2 else data
