"""The perceptual hash against imagehash, its eight orientations, and files of many kinds."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from tumorxai.dedupe import hashing


def scene(seed: int, height: int = 96, width: int = 96) -> np.ndarray:
    """Grey pixels with structure at every size, as in a photograph."""
    noise = np.random.default_rng(seed).normal(size=(height, width))
    blurred = sum(gaussian_filter(noise, sigma) * sigma**1.5 for sigma in (1, 2, 4, 8, 16))
    return np.interp(blurred, (blurred.min(), blurred.max()), (0, 255)).astype(np.uint8)


def encode(image: Image.Image, name: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def phash(data: bytes) -> int:
    return int(hashing.hashes(hashing.frequencies(hashing.thumbnail(data).thumbnails))[0])


def bits(a: int, b: int) -> int:
    return (a ^ b).bit_count()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", ["PNG", "JPEG"])
def test_equals_imagehash(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(40, 300, 2)
    pixels = np.stack([scene(seed * 3 + channel, height, width) for channel in range(3)], axis=-1)
    data = encode(Image.fromarray(pixels if seed % 2 else pixels[..., 0]), name)
    assert phash(data) == int(str(imagehash.phash(Image.open(io.BytesIO(data)))), 16)


@pytest.mark.parametrize("orientation", range(8))
def test_orientations_come_from_one_transform(orientation: int) -> None:
    """Exact: these images have no two frequencies so equal that rounding could decide on the median."""
    images = np.stack([scene(seed, 32, 32) for seed in range(200)])
    turned = hashing.turn(images, orientation)
    expected = hashing.hashes(hashing.frequencies(turned))
    low = hashing.turn_frequencies(hashing.frequencies(images), orientation)
    np.testing.assert_array_equal(hashing.hashes(low), expected)
    np.testing.assert_array_equal(hashing.turn(turned, hashing.INVERSE[orientation]), images)


def test_orientations_are_named_as_they_are() -> None:
    image = scene(0, 32, 32)
    turned = [hashing.turn(image[None], orientation)[0] for orientation in range(8)]
    np.testing.assert_array_equal(turned[hashing.ORIENTATIONS.index("mirrored")], np.fliplr(image))
    np.testing.assert_array_equal(turned[hashing.ORIENTATIONS.index("upside down")], np.flipud(image))
    np.testing.assert_array_equal(turned[hashing.ORIENTATIONS.index("rotated by 180")], np.rot90(image, 2))
    np.testing.assert_array_equal(turned[hashing.ORIENTATIONS.index("rotated by 90 clockwise")], np.rot90(image, -1))
    np.testing.assert_array_equal(turned[hashing.ORIENTATIONS.index("rotated by 90 anticlockwise")], np.rot90(image))
    assert len({image.tobytes() for image in turned}) == 8


@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_blank_images_hash_without_rounding_noise(level: int) -> None:
    low = hashing.frequencies(np.full((1, 32, 32), level, dtype=np.uint8))
    found = {int(hashing.hashes(hashing.turn_frequencies(low, orientation))[0]) for orientation in range(8)}
    assert found == {0 if level == 0 else 1 << 63}


def test_symmetric_images_hash_without_rounding_noise() -> None:
    half = scene(1, 32, 16)
    low = hashing.frequencies(np.concatenate([half, half[:, ::-1]], axis=1)[None])
    assert hashing.hashes(low) == hashing.hashes(hashing.turn_frequencies(low, 1))
    assert not (low[0, :, 1::2] != 0).any()


@pytest.mark.parametrize("size", [(512, 512), (700, 600), (1100, 2000)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_large_jpegs_are_decoded_small_and_hash_alike(size: tuple[int, int], mode: str) -> None:
    distances = []
    for seed in range(3):
        data = encode(Image.fromarray(scene(seed, *size)).convert(mode), "JPEG", quality=90)
        image = hashing._scaled(data)
        assert image is not None
        assert hashing.VIEW <= min(image.size) <= min(size) / 3
        distances.append(bits(phash(data), int(str(imagehash.phash(Image.open(io.BytesIO(data)))), 16)))
    assert max(distances) <= 4


@pytest.mark.parametrize("side", [hashing.SIDE, hashing.VIEW])
@pytest.mark.parametrize("size", [32, 64, 100, 127, 250])
def test_lanczos_weights_are_pillows(size: int, side: int) -> None:
    pixels = scene(size, size, size)
    expected = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)).astype(int)
    weights = hashing._lanczos(size, side)
    assert abs(np.rint(weights @ pixels.astype(np.float32) @ weights.T).clip(0, 255) - expected).max() <= 1


def test_files_below_the_limit_and_damaged_ones_are_left_to_the_decoder() -> None:
    large = encode(Image.fromarray(scene(0, 600, 600)), "JPEG")
    assert hashing._scaled(encode(Image.fromarray(scene(0, 600, 511)), "JPEG")) is None
    assert hashing._scaled(encode(Image.fromarray(scene(0, 600, 600)))) is None
    assert hashing._scaled(large[: len(large) // 2]) is None
    assert hashing._scaled(encode(Image.fromarray(scene(0, 600, 600)).convert("CMYK"), "JPEG")) is None


@pytest.mark.parametrize("side", [96, 640])
def test_exif_rotation_is_undone(side: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(scene(2, side, side + 32))
    rotated = encode(image.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    assert bits(phash(rotated), phash(encode(image, "JPEG", quality=95))) <= 4


def test_modes_hash_like_grey() -> None:
    pixels = scene(3)
    grey = Image.fromarray(pixels)
    expected = phash(encode(grey))
    files = {
        "16 bit": encode(Image.fromarray(pixels.astype(np.uint16) * 16)),
        "palette": encode(grey.convert("P")),
        "alpha": encode(Image.merge("LA", (grey, Image.new("L", grey.size, 255)))),
        "CMYK": encode(grey.convert("CMYK"), "JPEG", quality=95),
        "binary": encode(grey.convert("1")),
    }
    for name, data in files.items():
        assert bits(phash(data), expected) <= (12 if name == "binary" else 2), name


def test_parallel_thumbnails_keep_the_order(tmp_path: Path) -> None:
    files, expected = [], []
    for number, count in enumerate((70, 1, 130)):
        archive = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(archive, "w") as out:
            for i in range(count):
                data = encode(Image.fromarray(scene(1000 * number + i, 40, 40)))
                out.writestr(f"a/{i:03d}.png", data)
                files.append((archive, f"a/{i:03d}.png"))
                expected.append(hashing.thumbnail(data))
    found = hashing.read_images(files, workers=2)
    for size, (got, wanted) in enumerate(zip(found, zip(*expected, strict=True), strict=True)):
        np.testing.assert_array_equal(got, np.concatenate(wanted), err_msg=str(size))
    assert hashing.read_images([], workers=2).views.shape == (0, hashing.VIEW, hashing.VIEW)


def test_an_inverted_image_hashes_as_its_frequencies_say() -> None:
    images = np.stack([scene(seed, 32, 32) for seed in range(50)])
    inverted = hashing.invert_frequencies(hashing.frequencies(images))
    np.testing.assert_array_equal(hashing.hashes(inverted), hashing.hashes(hashing.frequencies(255 - images)))
    assert np.bitwise_count(hashing.hashes(inverted) ^ hashing.hashes(hashing.frequencies(images))).min() > 58


def test_colour_and_grey_files_are_decoded_to_the_same_two_sizes() -> None:
    grey = Image.fromarray(scene(5, 130, 150))
    one, other = (hashing.thumbnail(encode(image)) for image in (grey, grey.convert("RGB")))
    for size, side in zip(hashing.Images._fields, (hashing.SIDE, hashing.VIEW), strict=True):
        np.testing.assert_array_equal(getattr(one, size), getattr(other, size))
        assert getattr(one, size).shape == (1, side, side)
