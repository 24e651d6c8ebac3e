"""Unusual and hostile image files, as docs/bad-input.md states, and the geometry of what is packed."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tumorxai.archives import grey, images
from tumorxai.archives.archives import UnreadableError
from tumorxai.archives.images import Fit, Task, decode, fit_image, fit_mask, pack

GREY = Fit(32, 1, "pad")


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def ramp(width: int = 40, height: int = 40) -> Image.Image:
    return Image.fromarray(np.broadcast_to(np.linspace(0, 255, width), (height, width)).astype(np.uint8))


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8))


def huge_png(side: int) -> bytes:
    """A PNG that states so many pixels and holds none of them."""
    data = bytearray(encoded(ramp()))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def nifti() -> bytes:
    header = bytearray(352)
    header[:4] = (348).to_bytes(4, "little")
    header[344:348] = b"n+1\0"
    return bytes(header) + bytes(1000)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello", "no image of a known format"),
        (encoded(noise())[:800], "cannot be decoded"),
        (encoded(ramp(200, 200), "JPEG")[:1500], "cannot be decoded"),
        (encoded(ramp(1, 1)), "1 x 1 pixels; at least 16 x 16"),
        (huge_png(30_000), "too many pixels; at most"),
        (huge_png(9_000), "9000 x 9000 pixels; at most"),
        (bytes(128) + b"DICM" + bytes(500), "a DICOM file"),
        (nifti(), "a NIfTI volume"),
        (gzip.compress(nifti()), "a NIfTI volume"),
        (b"MATLAB 7.3 MAT-file" + bytes(600), "a MATLAB file without a readable cjdata"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n", "no image of a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image of a known format"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        decode(data)


def test_16_bits_are_scaled_by_their_own_range() -> None:
    values = np.linspace(1000, 5000, 40 * 40).reshape(40, 40)
    decoded = decode(encoded(Image.fromarray(values.astype(np.uint16))))
    pixels = fit_image(decoded.image, Fit(40, 1, "pad"))[0]
    assert decoded.mode == "I;16"
    np.testing.assert_allclose(pixels, (values - 1000) / 4000 * 255, atol=1)


def test_float_tiff_with_gaps() -> None:
    values = np.linspace(-3, 7, 1600, dtype=np.float32).reshape(40, 40)
    values[0, 0], values[0, 1] = np.nan, np.inf
    pixels = fit_image(decode(encoded(Image.fromarray(values), "TIFF")).image, Fit(40, 1, "pad"))[0]
    assert (pixels[0, 0], pixels[0, 1], pixels[-1, -1]) == (0, 255, 255)


def test_16_bits_in_three_channels() -> None:
    """Pillow writes no such PNG, so by hand: a filter byte per row, then big-endian samples (PNG, 7.2 and 9.2)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = (20).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
    rows = (b"\0" + b"\x80\xff\x40\x00\x10\x20" * 20) * 20
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert decode(data).image.getpixel((3, 3)) == (0x80, 0x40, 0x10)


def test_constant_16_bits_become_black() -> None:
    assert not fit_image(Image.fromarray(np.full((40, 40), 700, dtype=np.uint16)), GREY).any()


@pytest.mark.parametrize("kind", ["CMYK", "LAB", "1", "P", "LA", "RGBA", "YCbCr", "RGB", "L"])
def test_every_mode_looks_like_the_same_picture(kind: str) -> None:
    """Within the loss of the mode itself: 1 has two levels, P is exact, CMYK here has no ink in black."""
    source = ramp()
    coloured = source.convert("RGB") if kind in ("CMYK", "LAB") else source
    image = coloured.convert(kind, dither=Image.Dither.NONE)
    data = encoded(image, "TIFF" if kind in ("CMYK", "LAB", "YCbCr") else "PNG")
    pixels = fit_image(decode(data).image, Fit(40, 1, "pad"))[0].astype(float)
    expected = np.where(np.asarray(source) > 127, 255, 0) if kind == "1" else np.asarray(source)
    np.testing.assert_allclose(pixels, expected, atol=2)


def test_palettes_count_as_pixels() -> None:
    """Equal indices under different palettes are different pictures."""
    one, two = Image.new("P", (20, 20)), Image.new("P", (20, 20))
    one.putpalette([10, 20, 30] * 256)
    two.putpalette([30, 20, 10] * 256)
    assert decode(encoded(one)).image.tobytes() != decode(encoded(two)).image.tobytes()


def test_transparent_parts_become_black() -> None:
    image = Image.new("RGBA", (40, 40), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (0, 0, 20, 40))
    pixels = fit_image(decode(encoded(image)).image, Fit(40, 3, "pad"))
    assert pixels[:, :, :20].min() == 255
    assert pixels[:, :, 20:].max() == 0


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("L", (40, 40), value) for value in (200, 50)]
    decoded = decode(
        encoded(
            frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
        )
    )
    assert (decoded.format, fit_image(decoded.image, GREY).mean()) == (kind, 200)


def test_exif_rotation_is_applied() -> None:
    image = ramp(40, 60)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    decoded = decode(encoded(image, "JPEG", exif=exif, quality=95))
    assert decoded.image.size == (60, 40)
    turned = np.asarray(image.transpose(Image.Transpose.ROTATE_270)).astype(float)
    np.testing.assert_allclose(np.asarray(decoded.image), turned, atol=3)


def test_pad_keeps_the_shape_and_stretch_fills() -> None:
    white = Image.new("L", (80, 40), 255)
    padded, stretched = fit_image(white, GREY)[0], fit_image(white, Fit(32, 1, "stretch"))[0]
    assert padded[8:24].min() == 255
    assert not padded[:8].any()
    assert not padded[24:].any()
    assert stretched.min() == 255


def test_downsampling_does_not_alias() -> None:
    """A one-pixel checkerboard turns grey; picking pixels would leave it black or white."""
    board = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    pixels = fit_image(Image.fromarray(board), GREY)
    assert abs(pixels.astype(float) - 127.5).max() < 2


def test_masks_follow_the_image_and_never_vanish() -> None:
    mask = np.zeros((200, 400), dtype=np.uint8)
    mask[50:150, 100:300] = 255
    packed = fit_mask(Image.fromarray(mask), GREY)
    assert packed.sum() == 8 * 16
    assert packed[12:20, 8:24].all()
    dot = np.zeros((400, 400), dtype=np.uint8)
    dot[200, 200] = 255
    assert fit_mask(Image.fromarray(dot), GREY).sum() == 1
    assert not fit_mask(Image.fromarray(np.zeros_like(dot)), GREY).any()


def test_box(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("glioma/a.png", encoded(ramp(64, 64)))
    packed = pack(Task(tmp_path / "a.zip", 0, box=(0.5, 0.25, 0.25, 0.5)), GREY)
    assert not isinstance(packed, str)
    assert packed.lesion is not None
    assert packed.mask_kind == "box"
    rows, columns = np.nonzero(packed.lesion)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 15, 12, 19)


def cheng(path: Path, image: np.ndarray, mask: np.ndarray, label: int = 2, patient: str = "MR018260B") -> bytes:
    """A file as MATLAB's -v7.3 writes it: 512 bytes of text, then HDF5 with the arrays' axes reversed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("cjdata")
        group["image"] = image.T.astype(np.int16)
        group["tumorMask"] = mask.T.astype(np.uint8)
        group["label"] = np.array([[float(label)]])
        group["PID"] = np.array([[ord(letter)] for letter in patient], dtype=np.uint16)
    data = bytearray(path.read_bytes())
    data[:19] = b"MATLAB 7.3 MAT-file"
    return bytes(data)


def test_cheng_slice(tmp_path: Path) -> None:
    image = np.zeros((64, 64))
    image[4:20, 40:60] = 1500
    mask = image > 0
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.mat", cheng(tmp_path / "1.mat", image, mask))
    packed = pack(Task(tmp_path / "a.zip", 0), GREY)
    assert not isinstance(packed, str)
    assert packed.lesion is not None
    assert (packed.native_label, packed.patient, packed.mask_kind, packed.format) == (
        "glioma",
        "MR018260B",
        "mask",
        "MAT",
    )
    np.testing.assert_array_equal(packed.lesion, mask[::2, ::2])
    assert packed.pixels[0, 2:10, 20:30].min() > 220
    assert packed.pixels[0, 12:].max() < 5


def test_hostile_cheng_slices(tmp_path: Path) -> None:
    """HDF5 would follow links into other files, and unpack a terabyte of zeros."""
    image = np.ones((40, 40))
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["image"] = image

    def changed(change) -> bytes:
        path = tmp_path / "changed.mat"
        path.write_bytes(cheng(tmp_path / "plain.mat", image, image))
        with h5py.File(path, "r+") as file:
            change(file["cjdata"])
        return path.read_bytes()

    def link(group: h5py.Group) -> None:
        del group["image"]
        group["image"] = h5py.ExternalLink(str(secret), "image")

    def external(group: h5py.Group) -> None:
        del group["image"]
        group.create_dataset("image", (40, 40), np.int16, external=[(str(secret), 0, 3200)])

    def bomb(group: h5py.Group) -> None:
        del group["image"]
        group.create_dataset("image", (10**6, 10**6), np.int16, chunks=(1000, 1000), compression="gzip")

    def unknown(group: h5py.Group) -> None:
        group["label"][...] = 9

    def text(group: h5py.Group) -> None:
        del group["label"]
        group["label"] = "glioma"

    for change in (link, external, bomb, unknown, text):
        with pytest.raises(UnreadableError, match="cjdata"):
            decode(changed(change))
    assert decode(changed(lambda group: None)).native_label == "glioma"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_random_damage_never_escapes(kind: str) -> None:
    """Flipped and cut bytes end in a picture or in a reason, never in another exception."""
    rng = np.random.default_rng(0)
    good = encoded(ramp(60, 60), kind)
    for _ in range(60):
        data = bytearray(good)
        for position in rng.integers(0, len(data), 8):
            data[position] = rng.integers(256)
        try:
            decoded = decode(bytes(data[: rng.integers(1, len(data) + 1)]))
            fit_image(decoded.image, GREY)
        except UnreadableError:
            pass


@pytest.mark.parametrize(
    ("kind", "level", "spread"),
    [
        ("uint8", 0, 0),
        ("uint8", 128, 3),
        ("uint8", 252, 3),
        ("uint16", 0, 0),
        ("uint16", 1000, 9),
        ("float32", 1, 0.009),
    ],
)
def test_near_constant_images_are_not_used(tmp_path: Path, kind: str, level: float, spread: float) -> None:
    array = level + np.random.default_rng(0).uniform(0, 1, (40, 40)) * spread
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("flat.tif", encoded(Image.fromarray(array.astype(kind)), "TIFF"))
        array[10:30, 10:30] += level / 2 + 100
        archive.writestr("picture.tif", encoded(Image.fromarray(array.astype(kind)), "TIFF"))
    assert str(pack(Task(tmp_path / "a.zip", 0), GREY)).startswith("next to nothing on it")
    assert isinstance(pack(Task(tmp_path / "a.zip", 1), GREY), images.Packed)


@pytest.mark.parametrize("kind", ["uint16", "int32", "float32"])
@pytest.mark.parametrize("level", [0, 100])
def test_an_image_of_one_value_with_a_few_spots_is_not_used(tmp_path: Path, kind: str, level: int) -> None:
    """The spots are taken for hot pixels, and what is left has no range to be scaled by."""
    array = np.full((100, 100), level, dtype=kind)
    array[3, :9] = np.arange(1000, 10000, 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("spots.tif", encoded(Image.fromarray(array), "TIFF"))
    assert str(pack(Task(tmp_path / "a.zip", 0), GREY)).startswith("next to nothing on it")


def test_values_of_any_size_are_scaled_after_a_few_looks_at_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A float of a damaged file is as likely of 1e-30 as of 1e30, and each look narrows the range by a few decades."""
    looks = []
    bands = grey.bands
    monkeypatch.setattr(grey, "bands", lambda image: looks.append(0) or bands(image))
    values = np.geomspace(1e-37, 1e38, 64 * 64).astype(np.float32).reshape(64, 64)
    low, high = grey.reach(Image.fromarray(np.where(np.arange(64) < 63, values.min(), values)))
    assert values.min() <= low < high <= values.max()
    assert len(looks) <= 2 + 2 * grey.PASSES


# Memory


def header(width: int, height: int, bits: int, colour: int) -> bytes:
    """The beginning of a PNG (PNG specification, 11.2.2), as far as its first pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    ihdr = struct.pack(">2I5B", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(b"\0"))


@pytest.mark.parametrize(
    ("bits", "colour", "refused"),
    [(8, 0, False), (16, 0, False), (8, 2, True), (8, 6, True), (8, 3, True), (1, 0, True), (16, 2, True)],
)
def test_what_would_take_too_much_memory_is_refused_by_its_header(bits: int, colour: int, refused: bool) -> None:
    data = header(7990, 7990, bits, colour)
    if not refused:
        images.look(data)
        return
    with pytest.raises(UnreadableError, match="MB to decode; at most 300 MB"):
        images.look(data)


MAKE = """
import sys
import numpy as np
from PIL import Image
kind, height, width = sys.argv[1], 4000, 5000
row = (np.arange(width) * 13 % 60000).astype({"I;16": "<u2", "F": "<f4"}.get(kind, "u1"))
if kind in ("RGB", "RGBA"):
    row = np.repeat(row[:, None], len(kind), axis=1)
array = np.broadcast_to(row, (height, *row.shape))
Image.fromarray(np.ascontiguousarray(array)).save(sys.argv[2], "TIFF" if kind == "F" else "PNG")
"""
MEASURE = """
import resource, sys
from tumorxai.archives import grey, images
small = images.decode(open(sys.argv[2], "rb").read())
images.fit_image(small.image, images.LOOK)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = open(sys.argv[1], "rb").read()
decoded = images.decode(data)
images._fingerprint(decoded.image)
images.fit_image(decoded.image, images.LOOK)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) - len(data))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "pixel"), [("I;16", 2), ("L", 1), ("RGB", 4), ("RGBA", 4), ("F", 4)])
def test_an_image_takes_at_most_three_times_its_decoded_size(tmp_path: Path, kind: str, pixel: int) -> None:
    def python(code: str, *arguments: object) -> str:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    python(MAKE, kind, tmp_path / "large")
    Image.new("L", (64, 64)).save(tmp_path / "small.png")
    grown = int(python(MEASURE, tmp_path / "large", tmp_path / "small.png"))
    band = 40 * grey.BAND  # float64 values of one band and their temporaries
    assert grown <= 3 * 4000 * 5000 * pixel + band
