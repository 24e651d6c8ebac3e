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

from tests.dedupe.test_copies import KINDS
from tumorxai.config import Dedupe
from tumorxai.dedupe import candidates, groups, hashing
from tumorxai.dedupe.copies import Found, find
from tumorxai.dedupe.weakest import weakest_link
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


def scenes(count: int, side: int = 96, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(count, side, side))
    blurred = sum(gaussian_filter(noise, (0, sigma, sigma)) * sigma**1.5 for sigma in (1, 2, 4, 8))
    low, high = blurred.min(axis=(1, 2), keepdims=True), blurred.max(axis=(1, 2), keepdims=True)
    return ((blurred - low) / (high - low) * 255).astype(np.uint8)


def small(images: np.ndarray) -> hashing.Images:
    """Images of shape (N, S, S) as they are compared."""
    shrunk = [hashing.shrink(Image.fromarray(image)) for image in images]
    return hashing.Images(*(np.concatenate(each) for each in zip(*shrunk, strict=True)))


def ids(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64)


def catalogue(archives: Path, sources: list[str]) -> pd.DataFrame:
    """A catalogue; deduplication reads no patient and no sequence of it."""
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
    table = table.assign(native_label=table["label"], sequence="", patient="")
    return table.rename_axis("image_id").reset_index()


def dedupe(folder: Path, archives: Path, table: pd.DataFrame, settings: Dedupe) -> dict:
    write_csv(folder / "catalogue.csv", table)
    groups.run(settings, folder, archives, folder / "dedupe.json", folder / "plots", workers=2)
    return read_json(folder / "dedupe.json")


def test_each_orientation_of_a_copy_is_found_and_named() -> None:
    images = scenes(40)
    turned = [hashing.turn(images[5 * o : 5 * o + 5], o) for o in range(8)]
    found = find(small(np.concatenate([images, *turned])), ids(80), Dedupe(), workers=1)
    assert found.pairs["image_a"].tolist() == list(range(40))
    assert found.pairs["image_b"].tolist() == list(range(40, 80))
    assert found.pairs["orientation"].tolist() == [o for o in range(8) for _ in range(5)]
    assert (found.pairs["correlation"] > 0.99).all()
    assert (found.pairs["distance"] <= 2).all()  # rounding of the two sizes apart, the hashes turn with the image
    assert found.alone["pairs"] == 5


def test_orientation_leads_from_the_first_image_to_the_second() -> None:
    images = scenes(8)
    turned = np.concatenate([hashing.turn(images[o : o + 1], o) for o in range(8)])
    pairs = find(small(np.concatenate([turned, images])), ids(16), Dedupe(), workers=1).pairs
    assert (pairs["image_b"] - pairs["image_a"]).tolist() == [8] * 8
    for first, orientation in zip(pairs["image_a"], pairs["orientation"], strict=True):
        np.testing.assert_array_equal(hashing.turn(turned[[first]], orientation)[0], images[first])


def test_one_orientation_finds_no_turned_copy() -> None:
    images = scenes(20)
    both = small(np.concatenate([images, images[:, :, ::-1]]))
    assert find(both, ids(40), Dedupe(orientations=1), workers=1).pairs.empty


def test_confirmation_parts_look_alikes_and_keeps_copies() -> None:
    """The low frequencies of one image with the high ones of another; and one image under another contrast."""
    images = scenes(30, seed=1) * 0.6 + 40
    low, high = (dctn(each, axes=(1, 2), norm="ortho") for each in (images, images[::-1]))
    high[:, :10, :10] = low[:, :10, :10]
    alike = idctn(high, axes=(1, 2), norm="ortho")
    both = small(np.concatenate([images, alike, images * 1.2 - 10]).clip(0, 255).astype(np.uint8))
    plain = find(both, ids(90), Dedupe(confirm=False)).pairs
    strict = find(both, ids(90), Dedupe(similarity=0.9), workers=1).pairs
    assert ((plain["image_b"] - plain["image_a"]) == 30).sum() >= 28
    assert plain["correlation"].isna().all()
    assert ((strict["image_b"] - strict["image_a"]) == 60).all()
    assert len(strict) == 30


def test_exact_copies_and_their_near_copies_are_all_paired() -> None:
    images = scenes(3)
    images[1] = (images[0] * 0.9).astype(np.uint8)
    found = find(small(images), np.array([0, 1, 0, 2, 1, 0]), Dedupe(), workers=1)
    kinds = {(row.image_a, row.image_b): row.kind for row in found.pairs.itertuples()}
    assert [pair for pair, kind in kinds.items() if kind == "exact"] == [(0, 2), (0, 5), (1, 4), (2, 5)]
    assert len(kinds) == 10
    assert found.group.tolist() == [0, 0, 0, 3, 0, 0]
    assert found.alone == {"pairs": 10, "groups": 2, "largest_group": 5}


@pytest.mark.slow
def test_thousands_of_equal_hashes_stay_linear() -> None:
    """One scene in many contrasts: 20,000 files, 100 different ones, one hash."""
    scene = scenes(1)[0] / 255.0
    images = np.stack([np.rint(30 + level + scene * (100 + level / 4)) for level in range(100)]).astype(np.uint8)
    start = time.perf_counter()
    found = find(small(images), np.arange(20_000) % 100, Dedupe(), workers=1)
    assert time.perf_counter() - start < 60
    assert (found.group == 0).all()
    assert len(found.pairs) < 50 * 20_000
    assert found.alone == {"pairs": 20_000 * 19_999 // 2, "groups": 1, "largest_group": 20_000}


def test_a_crowd_beyond_the_limit_is_linked_by_its_first_member() -> None:
    scene = scenes(1)[0] / 255.0
    images = np.stack([np.rint(30 + level + scene * 150) for level in range(60)]).astype(np.uint8)
    assert candidates.CROWD < 60**2
    found = find(small(images), ids(60), Dedupe(limit=0), workers=1)
    assert (found.group == 0).all()
    assert len(found.pairs) == 59
    assert not found.searched


def test_near_constant_images_are_dropped_and_listed(tmp_path: Path) -> None:
    """Blank images of all greys and one with a speck stay out of groups, even where their pixels are equal."""
    blank = np.full((4, 96, 96), 7, dtype=np.uint8)
    blank[1], blank[3, 40:46, 40:46] = 250, 255
    found = find(small(np.concatenate([scenes(2), blank])), np.array([0, 1, 2, 3, 4, 5, 2, 0]), Dedupe(), workers=1)
    assert found.blank.tolist() == [False, False, True, True, True, True, True, False]
    assert found.group.tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    settled = groups.resolve(pd.DataFrame({"label": list("xyxyxyxy")}), found.group, found.blank, "keep")
    assert "".join(settled["status"].str[0]) == "kkdddddk"


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
    before = pd.DataFrame({"label": list("ABxyCC" if tie else "AABxyCC")})
    group = np.array([0, 0, 2, 3, 4, 4] if tie else [0, 0, 0, 3, 4, 5, 5])
    settled = groups.resolve(before, group, np.zeros(len(group), bool), rule.split()[0])
    assert "".join(settled["label"]) == labels
    assert "".join(settled["status"].str[0]) == status


def sequences() -> tuple[pd.DataFrame, np.ndarray]:
    """A slice of one tumour in two sequences; a conflict of two tumours; one file under two sequences."""
    rows = [
        ("glioma T1", "T1", "p"), ("glioma T2", "T2", "q"), ("glioma T1", "T1", "r"), ("glioma T1", "T1", "s"),
        ("meningioma T2", "T2", "t"), ("normal T1", "T1", "u"), ("normal T2", "T2", "u"),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["label", "sequence", "pixels_sha256"]).assign(source="a", path="b")
    return table, np.array([0, 0, 2, 2, 2, 5, 5])


def test_one_tumour_in_two_sequences_is_no_conflict() -> None:
    table, group = sequences()
    blank = np.zeros(len(table), bool)
    assert "".join(groups.resolve(table, group, blank, "drop")["status"].str[0]) == "kkdddkk"
    table.loc[len(table)] = ["glioma T2", "T2", "v", "a", "b"]
    majority = groups.resolve(table, np.append(group, 2), np.append(blank, False), "majority")
    assert majority["label"].tolist()[2:5] == ["glioma T1", "glioma T1", "glioma T2"]
    assert (majority["status"] == "keep").all()
    assert majority["label"].tolist()[:2] == ["glioma T1", "glioma T2"]


def test_a_majority_without_such_a_label_drops_the_image() -> None:
    rows = {"label": ["normal T1", "normal T1", "glioma T1C+"], "sequence": ["T1", "T1", "T1C+"]}
    settled = groups.resolve(pd.DataFrame(rows), np.zeros(3, np.int64), np.zeros(3, bool), "majority")
    assert settled["status"].tolist() == ["keep", "keep", "drop"]
    assert settled["label"].tolist() == rows["label"]


def test_sequences_under_which_one_finding_stands_are_counted() -> None:
    table, group = sequences()
    none = pd.DataFrame({"image_a": [0], "image_b": [1], "kind": "near", "orientation": 0, "distance": 0})
    found = Found(none.assign(correlation=1.0, inverted=0), group, np.zeros(7, bool), {}, 0, True)
    counts = groups.summarise(table, found, groups.resolve(table, group, found.blank, "drop"), Dedupe())
    assert counts["sequences_of_one_finding"] == {"groups": 2, "images": 4, "images_with_identical_pixels": 2}
    assert counts["conflicts"] == {"groups": 1, "images": 3}
    assert counts["dropped"] == 3


def test_the_weakest_link_parts_a_group_at_its_bridge() -> None:
    """Two triangles joined by one pair, beside another group; a strong second way round a weak pair is no bridge."""
    rows = [(0, 1, 0.9), (1, 2, 0.9), (0, 2, 0.7), (2, 5, 0.86), (5, 6, 0.95), (6, 7, 0.95), (5, 7, 0.95), (3, 4, 0.6)]
    pairs = pd.DataFrame(rows, columns=["image_a", "image_b", "correlation"])
    group = np.array([0, 0, 0, 3, 3, 0, 0, 0])
    expected = {"image_a": 2, "image_b": 5, "correlation": 0.86, "parts": [3, 3]}
    assert weakest_link(pairs, group, 0) == expected
    assert weakest_link(pairs, group, 3) == {"image_a": 3, "image_b": 4, "correlation": 0.6, "parts": [1, 1]}


def test_of_equally_weak_links_the_most_even_one_is_named() -> None:
    pairs = pd.DataFrame({"image_a": range(5), "image_b": range(1, 6), "correlation": 0.9})
    assert weakest_link(pairs, np.zeros(6, np.int64), 0)["parts"] == [3, 3]


@pytest.mark.slow
def test_giant_groups_are_explained_and_their_weakest_link_is_drawn(copies: Path, tmp_path: Path) -> None:
    table = catalogue(copies, ["phantom"])
    counts = dedupe(tmp_path, copies, table, Dedupe(giant=2))
    links, pairs = counts["weakest_links"], pd.read_csv(tmp_path / "pairs.csv")
    assert set(links) == set(counts["giant_groups"])
    for group, link in links.items():
        own = pairs[(pairs["image_a"] == link["image_a"]) & (pairs["image_b"] == link["image_b"])]
        assert own["correlation"].tolist() == [link["correlation"]]
        assert sum(link["parts"]) == counts["giant_groups"][group]


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


@pytest.mark.slow
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
def published(archives: Path, source: str) -> tuple[pd.DataFrame, hashing.Images]:
    """Catalogue of a published archive and its different images."""
    table = catalogue(archives, [source])
    path = archives / (source.replace("/", "--") + ".zip")
    if not path.exists():
        pytest.skip(f"no {path}")
    distinct = table[~table["pixels_sha256"].duplicated()]
    return table, hashing.read_images([(path, name) for name in distinct["path"]], workers=2)


@pytest.mark.parametrize(
    ("source", "distinct", "near", "linked"),
    [(SARTAJ, 2870, 1369, 2365), (SHREYAG, 1281, 280, 1123), (DUBAIL, 2845, 979, 2348)],
)
def test_published_archives_hold_the_known_copies(
    real_archives: Path, source: str, distinct: int, near: int, linked: int
) -> None:
    table, images = published(real_archives, source)
    found = find(images, pd.factorize(table["pixels_sha256"])[0], Dedupe(confirm=False, orientations=1))
    assert table["pixels_sha256"].nunique() == distinct
    assert found.alone["pairs"] == pytest.approx(near, rel=0.01)
    assert found.alone["groups"] == pytest.approx(linked, rel=0.01)
    assert len(found.pairs) == found.alone["pairs"]
    assert len(np.unique(found.group)) == found.alone["groups"]


def test_confirmed_pairs_of_cheng_stay_within_patients(real_archives: Path) -> None:
    """The authors' folds keep patients together: a pair that crosses them is no copy.

    Of five kinds of alteration, one copy each of forty slices is found beside all others.
    """
    table, images = published(real_archives, "cheng/figshare-1512427")
    with zipfile.ZipFile(real_archives / "cheng--figshare-1512427.zip") as archive:
        fold = pd.read_csv(archive.open("annotations.csv")).set_index("file")["fold"].loc[table["path"]].to_numpy()
        kinds = ["padded by 10%", "cropped to the head", "rotated by 10", "inverted", "equalised"]
        origin = np.arange(0, len(table), 15)[:200]
        rng = np.random.default_rng(0)
        altered = [
            KINDS[kinds[i % 5]](Image.open(io.BytesIO(archive.read(table["path"][place]))).convert("L"), rng)
            for i, place in enumerate(origin)
        ]
    number = pd.factorize(table["pixels_sha256"])[0]
    plain = find(images, number, Dedupe(confirm=False, orientations=1)).pairs
    copies = small([np.asarray(image) for image in altered])
    both = hashing.Images(*(np.concatenate(each) for each in zip(images, copies, strict=True)))
    pairs = find(both, np.append(number, number.max() + 1 + np.arange(200)), Dedupe()).pairs
    confirmed = pairs[pairs["image_b"] < len(table)]
    crossing = [(fold[each["image_a"]] != fold[each["image_b"]]).mean() for each in (plain, confirmed)]
    assert crossing[0] > 0.05  # the hash alone is not enough
    assert crossing[1] <= 0.01
    found = pairs[pairs["image_b"] >= len(table)]
    hit = {row.image_b - len(table) for row in found.itertuples() if origin[row.image_b - len(table)] == row.image_a}
    for i, kind in enumerate(kinds):
        assert len([place for place in hit if place % 5 == i]) >= 0.9 * 40, kind
