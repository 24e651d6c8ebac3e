"""Copies that were altered on the way, one kind after another, on slices of the phantom; and look-alikes."""

from __future__ import annotations

import io
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks.altered import noisy, rotated
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from tumorxai.config import Dedupe
from tumorxai.dedupe import copies, hashing, registration
from tumorxai.dedupe.copies import Found, find

ALTERED = 16  # slices, one copy of each


def crop(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """A part of the sides, anywhere."""
    width, height = round(image.width * share), round(image.height * share)
    left, top = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
    return image.crop((left, top, left + width, top + height))


def to_head(image: Image.Image) -> Image.Image:
    """Without its dark margin."""
    bright = np.asarray(image) > 16
    rows, columns = (np.flatnonzero(bright.mean(axis=axis) > 0.02) for axis in (1, 0))
    return image.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))


def shifted(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    moved = Image.new("L", image.size)
    moved.paste(image, tuple(rng.choice([-5, 5], 2).tolist()))
    return moved


def marked(image: Image.Image) -> Image.Image:
    image = image.copy()
    font = ImageFont.load_default(size=image.width * 0.18)
    ImageDraw.Draw(image).text((image.width * 0.1, image.height * 0.42), "SAMPLE", fill=200, font=font)
    return image


KINDS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "padded by 10%": lambda image, _: ImageOps.expand(image, (image.width // 10, image.height // 10)),
    "cropped to the head": lambda image, _: to_head(image),
    "cropped to 95%": lambda image, rng: crop(image, 0.95, rng),
    "cropped to 90%": lambda image, rng: crop(image, 0.9, rng),
    "shifted by 5 px": shifted,
    "rotated by 2": rotated(2),
    "rotated by 5": rotated(5),
    "rotated by 10": rotated(10),
    "inverted": lambda image, _: ImageOps.invert(image),
    "equalised": lambda image, _: ImageOps.equalize(image),
    "gamma 2": lambda image, _: image.point([round(255 * (v / 255) ** 2) for v in range(256)]),
    "gamma 0.5": lambda image, _: image.point([round(255 * (v / 255) ** 0.5) for v in range(256)]),
    "watermark": lambda image, _: marked(image),
    "mirrored": lambda image, _: ImageOps.mirror(image),
    "JPEG 30": lambda image, _: reencoded(image, 30),
    "stretched": lambda image, _: image.resize((image.width * 6 // 5, image.height)),
    "contrast": lambda image, _: ImageEnhance.Contrast(image).enhance(1.5),
    "noise": noisy,
    "16 bit": lambda image, _: Image.fromarray(np.asarray(image).astype(np.uint16) * 200),
}
ROTATED = {"rotated by 2": 2, "rotated by 5": 5, "rotated by 10": 10}
MOVED = ("padded", "cropped", "shifted", "rotated")  # of these nearly all are found, of the others all


def reencoded(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue()))


@pytest.fixture(scope="module")
def slices(phantom_archive: Path) -> tuple[list[Image.Image], np.ndarray]:
    """The phantom's original images, square, and their patients."""
    with zipfile.ZipFile(phantom_archive) as archive:
        truth = pd.read_csv(archive.open("annotations.csv"), keep_default_na=False)
        truth = truth[truth["copy_of"] == ""]
        images = [Image.open(io.BytesIO(archive.read(file))).convert("L") for file in truth["file"]]
    squares = [ImageOps.pad(image, (224, 224)) for image in images]
    return squares, truth["true_patient"].to_numpy()


def small(images: list[Image.Image]) -> hashing.Images:
    shrunk = [hashing.shrink(image) for image in images]
    return hashing.Images(*(np.concatenate(each) for each in zip(*shrunk, strict=True)))


def search(images: list[Image.Image], settings: Dedupe | None = None) -> Found:
    return find(small(images), np.arange(len(images)), settings or Dedupe(), workers=1)


@pytest.fixture(scope="module")
def altered(slices: tuple[list[Image.Image], np.ndarray]) -> tuple[np.ndarray, pd.DataFrame]:
    """Which image each is of, the images first and then ALTERED copies of every kind, and the pairs found among all."""
    images, rng = slices[0], np.random.default_rng(0)
    own = np.arange(len(images))[::4][:ALTERED]
    copies = [change(images[i], rng) for change in KINDS.values() for i in own]
    return np.concatenate([np.arange(len(images)), np.tile(own, len(KINDS))]), search([*images, *copies]).pairs


@pytest.mark.parametrize("kind", KINDS)
def test_altered_copies_are_found_with_what_was_done_to_them(
    kind: str, slices: tuple[list[Image.Image], np.ndarray], altered: tuple[np.ndarray, pd.DataFrame]
) -> None:
    (images, patient), (origin, pairs) = slices, altered
    assert (patient[origin[pairs["image_a"]]] == patient[origin[pairs["image_b"]]]).all()
    first = len(images) + ALTERED * list(KINDS).index(kind)
    found = pairs["image_b"].between(first, first + ALTERED - 1)
    own = pairs[found & (origin[pairs["image_b"]] == pairs["image_a"])]
    assert len(own) >= (0.85 if kind.startswith(MOVED) else 1.0) * ALTERED
    assert (own["inverted"] == (kind == "inverted")).all()
    assert (own["orientation"] == (1 if kind == "mirrored" else 0)).all()
    assert own["rotation"].abs().to_numpy() == pytest.approx(ROTATED.get(kind, 0), abs=1)
    expected = {"padded by 10%": 1 / 1.2, "cropped to 95%": 1 / 0.95, "cropped to 90%": 1 / 0.9}.get(kind, 1.0)
    if kind != "cropped to the head":
        assert own["scale"].to_numpy() == pytest.approx(expected, abs=0.03)


def test_a_set_beyond_the_limit_gives_the_same_by_parts(
    slices: tuple[list[Image.Image], np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of candidates, views in a file, and a blank image to be left out of it."""
    images = [*slices[0][:40], Image.new("L", (224, 224)), *map(ImageOps.mirror, slices[0][:40])]
    whole = search(images, Dedupe(limit=0))
    monkeypatch.setattr(copies, "BLOCK", registration.BATCH)
    monkeypatch.setattr(hashing, "HELD", 0)
    shrunk = small(images)
    held = hashing.room(len(images), hashing.VIEW, tmp_path)
    held[:] = shrunk.views
    assert isinstance(held, np.memmap)
    parts = find(shrunk._replace(views=held), np.arange(len(images)), Dedupe(limit=0), workers=1, scratch=tmp_path)
    assert len(whole.pairs) >= 40
    assert whole.pairs["image_b"].max() == len(images) - 1
    pd.testing.assert_frame_equal(parts.pairs, whole.pairs, check_exact=True)
    np.testing.assert_array_equal(parts.group, whole.group)
    assert parts.rejected == whole.rejected
    assert parts.rejected + len(whole.pairs) > registration.BATCH
    assert not list(tmp_path.iterdir())


def test_views_that_no_disk_has_room_for_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of a file that finds no room when it is written ends the process by a signal, without a word."""
    monkeypatch.setattr(hashing, "HELD", 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            hashing.room(1, hashing.VIEW, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
def test_a_shift_and_a_rotation_are_told_as_they_were_made(slices: tuple[list[Image.Image], np.ndarray]) -> None:
    """A picture that is smaller and further right and down, and one that is turned anticlockwise."""
    image = slices[0][0]
    moved = Image.new("L", (280, 280))
    moved.paste(image, (42, 28))
    turned = image.rotate(10, Image.Resampling.BICUBIC)
    pair = search([image, moved]).pairs.iloc[0]
    assert (pair["scale"], pair["shift_x"], pair["shift_y"]) == pytest.approx((0.8, 0.05, 0.0), abs=0.02)
    back = search([moved, image]).pairs.iloc[0]
    assert (back["scale"], back["shift_x"], back["shift_y"]) == pytest.approx((1.25, -0.0625, 0.0), abs=0.02)
    assert search([image, turned]).pairs["rotation"].tolist() == pytest.approx([10], abs=0.5)
    assert search([turned, image]).pairs["rotation"].tolist() == pytest.approx([-10], abs=0.5)


def test_slices_of_different_patients_stay_apart(slices: tuple[list[Image.Image], np.ndarray]) -> None:
    """All patients are deformations of one template, the most alike that brains can be."""
    images, patient = slices
    pairs = search(images).pairs
    assert (patient[pairs["image_a"]] == patient[pairs["image_b"]]).all()


def test_beyond_the_limit_hashes_alone_propose_and_it_is_said(slices: tuple[list[Image.Image], np.ndarray]) -> None:
    """The hash of the frame finds copies whose margin alone is another, and neither hash those that are rotated."""
    images = slices[0][:24]
    altered = [image.rotate(10, Image.Resampling.BICUBIC) for image in images]
    padded = [KINDS["padded by 10%"](image, np.random.default_rng(0)) for image in images]
    whole, by_hashes = (search([*images, *altered, *padded], Dedupe(limit=limit)) for limit in (1000, 20))
    assert whole.searched
    assert not by_hashes.searched
    turned, moved = (
        [(found.group[start : start + 24] == found.group[:24]).mean() for found in (whole, by_hashes)]
        for start in (24, 48)
    )
    assert turned[1] < 0.5 < 0.85 <= turned[0]
    assert 0.4 < moved[1] < moved[0]
    assert moved[0] >= 0.85


def test_the_result_does_not_depend_on_the_number_of_processes(slices: tuple[list[Image.Image], np.ndarray]) -> None:
    images = slices[0][:30]
    both = small([*images, *(ImageOps.mirror(image) for image in images)])
    one, two = (find(both, np.arange(60), Dedupe(), workers).pairs for workers in (1, 2))
    pd.testing.assert_frame_equal(one, two)
    assert len(one) >= 30
