"""Embeddings of other images or of another encoder are never taken for those of this run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tumorxai.base import embedded
from tumorxai.base.dataset import Dataset
from tumorxai.base.sides import sides
from tumorxai.errors import UserError
from tumorxai.files import read_json, write_array, write_json


@pytest.fixture
def kept(separable: Path) -> Path:
    return separable


def test_embeddings_read_back_as_they_were_written(kept: Path, toy: Path, encoder: Path) -> None:
    images = Dataset.load(toy).images
    features = np.asarray(embedded.read(kept, images, encoder))
    embedded.keep(kept, features, images, encoder)
    assert np.array_equal(embedded.read(kept, images), features)


def fewer(path: Path) -> None:
    write_array(path, np.load(path)[:100])


def doubled(path: Path) -> None:
    write_array(path, np.load(path).astype(np.float64))


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def without_card(path: Path) -> None:
    path.with_suffix(".json").unlink()


def empty_card(path: Path) -> None:
    write_json(path.with_suffix(".json"), {})


def not_finite(path: Path) -> None:
    features = np.load(path)
    features[7, 1] = np.nan
    write_array(path, features)
    card = path.with_suffix(".json")
    write_json(card, read_json(card) | {"sha256": embedded.sha256(path)})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (fewer, r"got float32 \(100, 6\); expected an array float32 \(120, any\)"),
        (doubled, "got float64"),
        (flipped, "other bytes than its card"),
        (without_card, r"got no .*embeddings\.json"),
        (empty_card, "got no sha256, encoder, images"),
        (not_finite, "not finite"),
    ],
)
def test_others_are_refused(kept: Path, toy: Path, encoder: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(kept)
    with pytest.raises(UserError, match=words):
        embedded.read(kept, Dataset.load(toy).images, encoder)


def test_those_of_other_images_and_of_another_encoder_are_refused(kept: Path, toy: Path, encoder: Path) -> None:
    images = np.array(Dataset.load(toy).images)
    images[77, 0, 3, 3] ^= 1
    with pytest.raises(UserError, match="embeddings of other images"):
        embedded.read(kept, images)
    other = shutil.copy(encoder, encoder.with_name("other.safetensors"))
    with open(other, "ab") as stream:
        stream.write(b"x")
    with pytest.raises(UserError, match=r"embeddings of another encoder; expected those of .*other"):
        embedded.read(kept, Dataset.load(toy).images, Path(other))


def test_the_fingerprint_knows_number_shape_and_order() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2 * embedded.LOOKED_AT, 1, 4, 4)).astype(np.uint8)
    others = [images[:-1], images[::-1], images.reshape(len(images), 1, 2, 8), images[:, :, ::-1]]
    found = {embedded.fingerprint(each) for each in (images, *others)}
    assert len(found) == 5


def test_embeddings_by_an_encoder_of_other_sides_are_refused(toy: Path, tmp_path: Path, encoder: Path) -> None:
    images = Dataset.load(toy).images
    kept = tmp_path / "embeddings.npy"
    features = np.ones((120, 4), np.float32)
    embedded.keep(kept, features, images, encoder, sides(toy))
    embedded.read(kept, images, encoder, toy)
    embedded.keep(kept, features, images, encoder, {"split.csv": "0" * 64})
    embedded.read(kept, images, encoder)
    with pytest.raises(UserError, match="trained on other sides"):
        embedded.read(kept, images, encoder, toy)
