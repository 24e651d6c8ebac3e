"""The second search for copies: what hashes miss is found, look-alikes are not."""

from __future__ import annotations

import itertools
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, shift

from tumorxai.audit import keypoints, second, subjects
from tumorxai.base.dataset import read_table
from tumorxai.catalogue import catalogue
from tumorxai.config import Data, Dedupe
from tumorxai.dedupe import copies as copies_by_hash
from tumorxai.dedupe import hashing

SIZE = 64
NO_PAIRS = pd.DataFrame({"image_a": [], "image_b": []}, dtype=np.int64)


def head(rng: np.random.Generator, fine: float = 55.0) -> NDArray[np.uint8]:
    """An ellipse with a bright rim, common to all, and texture inside, its own."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    radius = np.hypot(x / 24, y / 28)
    texture = sum(gaussian_filter(rng.normal(size=(SIZE, SIZE)), width) * width for width in (1.2, 2.5, 5.0))
    image = np.where(radius < 1, 90 + fine * texture, 0) + 150 * np.exp(-(((radius - 1) / 0.08) ** 2))
    return np.clip(image, 0, 255).astype(np.uint8)


def moved(image: NDArray[np.uint8], degrees: float, scale: float) -> NDArray[np.uint8]:
    turn = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), degrees, scale)
    return np.asarray(cv2.warpAffine(image, turn, (SIZE, SIZE), flags=cv2.INTER_CUBIC), dtype=np.uint8)


ALTERED = {
    "cropped": lambda image: moved(image, 0, 1.25),
    "padded": lambda image: moved(image, 0, 0.8),
    "turned": lambda image: moved(image, 12, 1.0),
    "shifted": lambda image: shift(image, (4, 5)),
    "mirrored": lambda image: image[:, ::-1],
    "inverted": lambda image: 255 - image,
}


@pytest.fixture(scope="module")
def heads() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return np.stack([head(rng) for _ in range(24)])


def found(images: NDArray[np.uint8], **settings: Any) -> second.Found:
    return second.find(images[:, None], np.arange(len(images)), settings.get("limit", 1000), 0, settings.get("first"))


def copies(seen: second.Found) -> set[tuple[int, int]]:
    rows = seen.pairs[seen.pairs["kind"] == "copy"]
    return set(zip(rows["image_a"], rows["image_b"], strict=True))


@pytest.mark.parametrize("name", ALTERED)
def test_altered_copies_are_found_and_nothing_else(name: str, heads: NDArray[np.uint8]) -> None:
    altered = np.stack([ALTERED[name](image) for image in heads[:8]])
    assert copies(found(np.concatenate([heads, altered]))) == {(i, 24 + i) for i in range(8)}


def test_the_hash_misses_what_the_second_search_finds_across_sides(heads: NDArray[np.uint8]) -> None:
    altered = np.stack([moved(image, 9, 1.3) for image in heads[:8]])
    images = np.concatenate([heads, altered])
    shrunk = [hashing.shrink(Image.fromarray(image)) for image in images]
    sizes = hashing.Images(*(np.concatenate(each) for each in zip(*shrunk, strict=True)))
    group = copies_by_hash.find(sizes, np.arange(len(images)), Dedupe(confirm=False)).group
    assert len(set(group)) == len(images), "the hash found them: they are no test"
    side = np.array(["train"] * 24 + ["test"] * 8, dtype=object)
    table = pd.DataFrame({"group": group, "pixels_sha256": [f"{i}" for i in range(len(images))]})
    across = second.crossing(table, found(images), NO_PAIRS, side, subjects.LEARNED, "test")
    assert (across["detector"], across["second"], across["missed"]) == (0, 8, 8)
    assert across["explained"] < 8


@pytest.mark.slow
def test_of_patients_with_one_anatomy_only_the_planted_copies_are_found(phantom_archive: Path, tmp_path: Path) -> None:
    """The phantom deforms one template: its patients are look-alikes, and its two sequences share every edge."""
    settings = Data.model_validate({"sources": ["phantom"], "image_size": SIZE})
    list(catalogue.build(phantom_archive.parent, settings, tmp_path, tmp_path / "catalogue.json", tmp_path))
    table, images = read_table(tmp_path / "catalogue.csv"), np.load(tmp_path / "pack.npy")
    with zipfile.ZipFile(phantom_archive) as archive, archive.open("annotations.csv") as stream:
        truth = pd.read_csv(stream, keep_default_na=False).set_index("file").loc[table["path"]]
    origin = truth["copy_of"].where(truth["copy_of"] != "", truth.index.to_series()).to_numpy()
    distinct = np.flatnonzero(~table["pixels_sha256"].duplicated())
    seen = copies(second.find(images, distinct, 1000, 0))
    planted = {(i, j) for i, j in itertools.combinations(distinct, 2) if origin[i] == origin[j]}
    assert seen <= planted
    assert len(seen) >= 0.95 * len(planted)
    assert len(planted) >= 20


def test_slices_of_one_series_are_alike_but_no_copies(heads: NDArray[np.uint8]) -> None:
    rng = np.random.default_rng(2)
    follows = np.stack([np.clip(0.5 * image + 0.5 * head(rng), 0, 255).astype(np.uint8) for image in heads[:8]])
    seen = found(np.concatenate([heads, follows]))
    alike = seen.pairs[seen.pairs["kind"] == "alike"]
    assert not copies(seen)
    pairs = set(zip(alike["image_a"], alike["image_b"], strict=True))
    assert pairs <= {(i, 24 + i) for i in range(8)}
    assert len(pairs) >= 4


def test_blank_images_and_single_ones_have_no_copies() -> None:
    assert found(np.zeros((3, SIZE, SIZE), dtype=np.uint8)).pairs.empty
    assert found(head(np.random.default_rng(0))[None]).pairs.empty


def test_of_too_many_some_are_drawn_and_the_first_come_first(heads: NDArray[np.uint8]) -> None:
    seen = found(heads, limit=10, first=np.array([3, 20]))
    assert len(seen.compared) == 10
    assert {3, 20} <= set(seen.compared)
    assert seen.images == 24
    assert set(seen.pairs["image_a"]) <= set(seen.compared)


def test_the_same_on_any_number_of_threads(heads: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    tables = []
    for threads in (1, 4):
        monkeypatch.setattr(keypoints, "THREADS", threads)
        tables.append(found(heads).pairs)
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize(("name", "turn"), [("mirrored", lambda x: x[:, ::-1]), ("inverted", lambda x: 255 - x)])
def test_descriptors_are_turned_rather_than_computed_again(name: str, turn: Any, heads: NDArray[np.uint8]) -> None:
    (plain,), (own,) = (keypoints.extract(keypoints.grey(each[None, None])) for each in (heads[0], turn(heads[0])))
    a, b = keypoints.matches(plain.descriptor[:, keypoints.VARIANTS[name]], own.descriptor)
    places = plain.place[a] * [-1, 1] + [keypoints.SIDE - 1, 0] if name == "mirrored" else plain.place[a]
    near = np.hypot(*(places - own.place[b]).T) < 2
    assert near.sum() > len(plain.place) / 2
    assert near.mean() > 0.9


def test_crossings_are_counted_exactly() -> None:
    """Ids 0 to 7; 1 has the same pixels as 0 and is not compared itself."""
    side = np.array(["train", "train", "train", "test", "test", "test", "validation", "dropped"], dtype=object)
    table = pd.DataFrame({"group": [0, 0, 2, 0, 4, 5, 2, 5], "pixels_sha256": list("aabcdefg")})
    rows = [(0, 3, "copy"), (2, 4, "copy"), (2, 5, "alike"), (3, 6, "copy"), (5, 7, "copy"), (0, 5, "")]
    pairs = pd.DataFrame(rows, columns=["image_a", "image_b", "kind"])
    seen = second.Found(pairs, np.array([0, 2, 3, 4, 5, 6, 7]), 7)
    detector = pd.DataFrame({"image_a": [0, 0, 2], "image_b": [1, 3, 5], "correlation": [1.0, 0.95, 0.7]})
    across = second.crossing(table, seen, detector, side, ("train", "unlabelled"), "test")
    keys = ("images", "detector", "second", "both", "missed", "alike", "candidates")
    assert [across[key] for key in keys] == [3, 1, 2, 1, 1, 1, 3]
    assert second.crossing(table, seen, detector, side, ("validation",), "test")["missed"] == 1
    whole = second.recaptured(seen, detector)
    assert [whole[key] for key in ("detector", "detector_all", "second", "both")] == [1, 2, 4, 1]
    assert (whole["detector_recall"], whole["second_recall"]) == (0.25, 1.0)


def test_pairs_without_a_correlation_count_as_sure() -> None:
    pairs = pd.DataFrame({"image_a": [0, 1, 2], "image_b": [3, 4, 5], "correlation": [None, 0.95, 0.6]})
    assert second.sure(pairs)["image_a"].tolist() == [0, 1]
    assert len(second.sure(pairs.drop(columns="correlation"))) == 3


def test_false_accepts_explain_few_and_more_where_more_was_looked_at() -> None:
    assert second.explained(0) == 0
    assert (
        second.explained(100, (0, 5000)) <= second.explained(10_000, (0, 5000)) <= second.explained(10_000, (9, 5000))
    )
