"""Copies, groups and conflicts: planted ones, degenerate ones, and those of the published archives."""

from __future__ import annotations

import io
import time
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter

from tumorxai.config import Dedupe
from tumorxai.dedupe import groups, hashing
from tumorxai.files import read_json, write_csv

SARTAJ = "sartajbhuvaji/brain-tumor-classification-mri"
SHREYAG = "shreyag1103/brain-mri-scans-for-brain-tumor-classification"
DUBAIL = "thomasdubail/brain-tumors-256x256"
LABELS = {
    "glioma_tumor": "glioma",
    "meningioma_tumor": "meningioma",
    "pituitary_tumor": "pituitary",
    "notumor": "no_tumor",
    "normal": "no_tumor",
}


def scenes(count: int, side: int = 32, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(count, side, side))
    blurred = sum(gaussian_filter(noise, (0, sigma, sigma)) * sigma**1.5 for sigma in (1, 2, 4, 8))
    low, high = blurred.min(axis=(1, 2), keepdims=True), blurred.max(axis=(1, 2), keepdims=True)
    return ((blurred - low) / (high - low) * 255).astype(np.uint8)


def ids(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64)


def catalogue(archives: Path, sources: list[str]) -> pd.DataFrame:
    """What deduplication reads of the catalogue."""
    rows = []
    for source in sources:
        name = "tumorxai--phantom.zip" if source == "phantom" else source.replace("/", "--") + ".zip"
        with zipfile.ZipFile(archives / name) as archive:
            for path in sorted(archive.namelist()):
                if path.startswith("masks/") or not path.endswith((".jpg", ".png")):
                    continue
                image = Image.open(io.BytesIO(archive.read(path)))
                pixels = hash((image.mode, image.size, image.tobytes()))
                label = path.split("/")[-2]
                rows.append((source, path, LABELS.get(label, label), pixels))
    table = pd.DataFrame(rows, columns=["source", "path", "label", "pixels_sha256"])
    return table.rename_axis("image_id").reset_index()


def dedupe(folder: Path, archives: Path, table: pd.DataFrame, settings: Dedupe) -> dict:
    write_csv(folder / "catalogue.csv", table)
    groups.write(folder, archives, folder / "dedupe.json", folder / "plots", settings, workers=2)
    return read_json(folder / "dedupe.json")


def test_each_orientation_of_a_copy_is_found_and_named() -> None:
    images = scenes(40)
    turned = [hashing.turn(images[5 * o : 5 * o + 5], o) for o in range(8)]
    found = groups.find(np.concatenate([images, *turned]), ids(80), Dedupe())
    assert found.pairs["image_a"].tolist() == list(range(40))
    assert found.pairs["image_b"].tolist() == list(range(40, 80))
    assert found.pairs["orientation"].tolist() == [o for o in range(8) for _ in range(5)]
    assert (found.pairs["correlation"] == 1).all()
    assert found.alone["pairs"] == 5


def test_orientation_leads_from_the_first_image_to_the_second() -> None:
    images = scenes(1)
    for o in range(8):
        pair = groups.find(np.concatenate([hashing.turn(images, o), images]), ids(2), Dedupe()).pairs.iloc[0]
        np.testing.assert_array_equal(hashing.turn(hashing.turn(images, o), pair["orientation"]), images)


def test_one_orientation_finds_no_turned_copy() -> None:
    images = scenes(20)
    thumbnails = np.concatenate([images, images[:, :, ::-1]])
    assert groups.find(thumbnails, ids(40), Dedupe(orientations=1)).pairs.empty


def test_confirmation_parts_look_alikes_and_keeps_copies() -> None:
    """The low frequencies of one image with the high ones of another; and one image under another contrast."""
    images = scenes(30, seed=1) * 0.6 + 40
    low, high = (dctn(each, axes=(1, 2), norm="ortho") for each in (images, images[::-1]))
    high[:, :10, :10] = low[:, :10, :10]
    alike = idctn(high, axes=(1, 2), norm="ortho")
    thumbnails = np.concatenate([images, alike, images * 1.2 - 10]).clip(0, 255).astype(np.uint8)
    plain = groups.find(thumbnails, ids(90), Dedupe(confirm=False)).pairs
    strict = groups.find(thumbnails, ids(90), Dedupe(similarity=0.9)).pairs
    assert ((plain["image_b"] - plain["image_a"]) == 30).sum() >= 28
    assert ((strict["image_b"] - strict["image_a"]) == 60).all()
    assert len(strict) == 30


def test_slack_finds_a_copy_that_the_hash_alone_misses() -> None:
    image = scenes(1, seed=3).astype(float)
    brighter = (image + np.linspace(0, 60, 32)).clip(0, 255)  # uneven illumination
    thumbnails = np.concatenate([image, brighter]).astype(np.uint8)
    values = hashing.hashes(hashing.frequencies(thumbnails))
    distance = int(values[0] ^ values[1]).bit_count()
    assert 0 < distance <= 6
    settings = {"distance": distance - 1, "strict": 0.5}
    assert groups.find(thumbnails, ids(2), Dedupe(slack=0, **settings)).pairs.empty
    assert groups.find(thumbnails, ids(2), Dedupe(slack=1, **settings)).pairs["distance"].tolist() == [distance]


def test_exact_copies_and_their_near_copies_are_all_paired() -> None:
    images = scenes(3)
    images[1] = (images[0] * 0.9).astype(np.uint8)
    found = groups.find(images, np.array([0, 1, 0, 2, 1, 0]), Dedupe())
    kinds = {(row.image_a, row.image_b): row.kind for row in found.pairs.itertuples()}
    assert [pair for pair, kind in kinds.items() if kind == "exact"] == [(0, 2), (0, 5), (1, 4), (2, 5)]
    assert len(kinds) == 10
    assert found.group.tolist() == [0, 0, 0, 3, 0, 0]
    assert found.alone == {"pairs": 10, "groups": 2, "largest_group": 5}


def test_thousands_of_equal_hashes_stay_linear() -> None:
    """Blank images of many greys: 20,000 files, 250 different ones, one hash."""
    levels = np.arange(1, 251, dtype=np.uint8)
    thumbnails = np.broadcast_to(levels[:, None, None], (250, 32, 32)).copy()
    start = time.perf_counter()
    found = groups.find(thumbnails, np.arange(20_000) % 250, Dedupe())
    assert time.perf_counter() - start < 20
    assert (found.group == 0).all()
    assert len(found.pairs) < 10 * 20_000
    assert found.alone == {"pairs": 20_000 * 19_999 // 2, "groups": 1, "largest_group": 20_000}


def test_a_crowd_beyond_the_limit_is_linked_by_its_first_member() -> None:
    assert groups.CROWD < 60**2
    thumbnails = np.broadcast_to(np.arange(1, 61, dtype=np.uint8)[:, None, None], (60, 32, 32)).copy()
    found = groups.find(thumbnails, ids(60), Dedupe())
    assert (found.group == 0).all()
    assert len(found.pairs) == 59


@pytest.mark.parametrize(
    ("rule", "labels", "status"),
    [
        ("drop", "AABxyCC", "dddkkkk"),
        ("keep", "AABxyCC", "kkkkkkk"),
        ("majority", "AAAxyCC", "kkkkkkk"),
        ("majority tie", "ABxyCC", "ddkkkk"),
    ],
)
def test_conflicts(rule: str, labels: str, status: str) -> None:
    tie = rule.endswith("tie")
    before = pd.Series(list("ABxyCC" if tie else "AABxyCC"))
    group = np.array([0, 0, 2, 3, 4, 4] if tie else [0, 0, 0, 3, 4, 5, 5])
    settled = groups.resolve(before, group, rule.split()[0])
    assert "".join(settled["label"]) == labels
    assert "".join(settled["status"].str[0]) == status


def test_overlap_counts_images_not_pairs() -> None:
    sources = pd.Series(["a", "a", "a", "b", "b", "c"])
    group = np.array([0, 0, 2, 0, 4, 5])
    assert groups.overlap(sources, group) == {
        "a": {"a": 2, "b": 2, "c": 0},
        "b": {"a": 1, "b": 0, "c": 0},
        "c": {"a": 0, "b": 0, "c": 0},
    }


@pytest.fixture
def copies(phantom_archive: Path) -> Path:
    return phantom_archive.parent


def test_planted_copies_of_the_phantom_and_nothing_else(copies: Path, tmp_path: Path) -> None:
    table = catalogue(copies, ["phantom"])
    counts = dedupe(tmp_path, copies, table, Dedupe())
    with zipfile.ZipFile(copies / "tumorxai--phantom.zip") as archive:
        truth = pd.read_csv(archive.open("annotations.csv"), keep_default_na=False).set_index("file").loc[table["path"]]
    original = np.where(truth["copy_of"] == "", truth.index, truth["copy_of"])
    pairs, group = (pd.read_csv(tmp_path / name) for name in ("pairs.csv", "groups.csv"))
    assert (original[pairs["image_a"]] == original[pairs["image_b"]]).mean() >= 0.99
    place = pd.Series(group["group"].to_numpy(), index=truth.index)
    planted = truth[truth["copy_of"] != ""]
    found = place[planted.index].to_numpy() == place[planted["copy_of"]].to_numpy()
    recall = pd.Series(found).groupby(planted["copy_kind"].to_numpy()).mean()
    assert set(recall.index) == {"exact", "reencoded", "resized", "flipped", "rotated", "intensity"}
    assert (recall >= 0.95).all()
    assert counts["images"] == len(table)
    assert counts["near_pairs_by_orientation"]["mirrored"] > 0

    sizes = pd.read_csv(tmp_path / "plots/group_sizes.csv")
    assert (sizes["size"] * sizes["groups"]).sum() == len(table)
    for name in ("groups.png", "overlap.png"):
        assert (tmp_path / "plots" / name).stat().st_size < 300_000
        assert np.asarray(Image.open(tmp_path / "plots" / name).convert("L")).std() > 10
    before = {name: (tmp_path / name).read_bytes() for name in ("dedupe.json", "pairs.csv", "groups.csv")}
    dedupe(tmp_path, copies, table, Dedupe())
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@lru_cache
def published(archives: Path, source: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Catalogue of a published archive and a thumbnail for each different image."""
    table = catalogue(archives, [source])
    path = archives / (source.replace("/", "--") + ".zip")
    if not path.exists():
        pytest.skip(f"no {path}")
    distinct = table[~table["pixels_sha256"].duplicated()]
    return table, hashing.thumbnails([(path, name) for name in distinct["path"]], workers=2)


@pytest.mark.parametrize(
    ("source", "distinct", "near", "linked"),
    [(SARTAJ, 2870, 1369, 2365), (SHREYAG, 1281, 280, 1123), (DUBAIL, 2845, 979, 2348)],
)
def test_published_archives_hold_the_known_copies(
    real_archives: Path, source: str, distinct: int, near: int, linked: int
) -> None:
    table, thumbnails = published(real_archives, source)
    found = groups.find(thumbnails, pd.factorize(table["pixels_sha256"])[0], Dedupe(confirm=False, orientations=1))
    assert table["pixels_sha256"].nunique() == distinct
    assert found.alone["pairs"] == pytest.approx(near, rel=0.01)
    assert found.alone["groups"] == pytest.approx(linked, rel=0.01)
    assert len(found.pairs) == found.alone["pairs"]
    assert len(np.unique(found.group)) == found.alone["groups"]


def test_confirmed_pairs_of_cheng_stay_within_patients(real_archives: Path) -> None:
    """The authors' folds keep patients together: a pair that crosses them is no copy."""
    table, thumbnails = published(real_archives, "cheng/figshare-1512427")
    with zipfile.ZipFile(real_archives / "cheng--figshare-1512427.zip") as archive:
        fold = pd.read_csv(archive.open("annotations.csv")).set_index("file")["fold"].loc[table["path"]].to_numpy()
    number = pd.factorize(table["pixels_sha256"])[0]
    plain = groups.find(thumbnails, number, Dedupe(confirm=False, orientations=1)).pairs
    confirmed = groups.find(thumbnails, number, Dedupe()).pairs

    def within(pairs: pd.DataFrame) -> set[tuple[int, int]]:
        inside = pairs[fold[pairs["image_a"]] == fold[pairs["image_b"]]]
        return set(zip(inside["image_a"], inside["image_b"], strict=True))

    assert 1 - len(within(plain)) / len(plain) > 0.05  # the hash alone is not enough
    assert 1 - len(within(confirmed)) / len(confirmed) <= 0.01
    assert len(within(plain) & within(confirmed)) >= 0.75 * len(within(plain))
