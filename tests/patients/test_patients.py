"""Whose images they are: what is declared, inherited from a registry, found by order or by likeness, and not known."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter, shift

from tumorxai.archives import sources
from tumorxai.config import Split
from tumorxai.dedupe import hashing
from tumorxai.errors import UserError
from tumorxai.files import read_json
from tumorxai.patients import frames, make_registry, patients, registry, series
from tumorxai.patients.names import STATES
from tumorxai.split.split import draw
from tumorxai.tools import splits

CHENG = "cheng/figshare-1512427"


def heads(count: int, slices: int, seed: int = 0, side: int = 96, thick: float = 1.5) -> np.ndarray:
    """Grey pictures of ``count`` heads in ``slices`` neighbouring slices: an ellipse of noise that changes slowly.

    ``thick`` is how many slices a detail is seen in.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side - 0.5
    pictures = []
    for _ in range(count):
        width, height = rng.uniform(0.28, 0.42, 2)
        depth = gaussian_filter(rng.normal(size=(slices + 8, side, side)), (thick, 3, 3))[4 : slices + 4]
        depth /= depth.std()
        inside = (x / width) ** 2 + (y / height) ** 2 < 1
        pictures.append(np.where(inside, 120 + 35 * depth, 4).clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


def framed(pictures: Iterable[np.ndarray]) -> frames.Frames:
    drawn = [frames.frame(Image.fromarray(picture)) for picture in pictures]
    return frames.Frames(*(np.stack(each) for each in zip(*drawn, strict=True)))


def made(pictures: np.ndarray, fold: list[int]) -> registry.Registry:
    """A registry of some pictures, each a series of its own."""
    images, numbers = framed(pictures), np.arange(1, len(pictures) + 1)
    hashed = (frames.fine_hash(hashing.frequencies(own, frames.FINE)) for own in images)
    table = pd.DataFrame({"number": numbers, "fold": fold, "series": numbers - 1})
    return registry.Registry("far/away", "Someone, 2020", table, *hashed)


def table(n: int, **columns: Any) -> pd.DataFrame:
    """A catalogue of what the stage reads."""
    given = {"source": "s", "native_label": "a", "patient": "", "fold": "", "mask_kind": ""} | columns
    return pd.DataFrame(given, index=pd.RangeIndex(n))


def told(rows: pd.DataFrame, images: frames.Frames, slices: registry.Registry, **given: Any) -> pd.DataFrame:
    n = len(rows)
    group = given.get("group", pd.Series(np.arange(n), index=rows.index))
    return patients.tell(
        rows, group, images, np.arange(n), slices, slices.match(images), given.get("numbers", np.full(n, -1))
    )


# Frames and hashes


def test_the_head_is_the_largest_part_that_is_not_dark() -> None:
    picture = np.zeros((128, 128), dtype=np.uint8)
    picture[30:90, 20:100] = 150
    picture[5:9, 110:126] = 255  # a label in the corner
    left, top, right, bottom = frames.head_box(picture)
    assert np.abs(np.array([left, top, right, bottom]) - [20, 30, 100, 90]).max() <= 2
    assert frames.head_box(np.zeros((16, 16), dtype=np.uint8)) == (0, 0, 16, 16)


def test_distances_are_those_of_counted_bits() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 2, (n, frames.BITS)).astype(np.uint8) for n in (7, 5))
    assert (registry.distances(a, b) == (a[:, None] != b[None]).sum(axis=2)).all()


def test_edges_are_unit_vectors_and_do_not_change_with_brightness() -> None:
    images = framed(heads(3, 1)[:, 0]).whole
    vectors = frames.edges(images)
    lengths = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
    assert np.abs(lengths - 1).max() < np.finfo(np.float32).eps * vectors.shape[1]
    darker = (images * 0.5 + 20).astype(np.uint8)
    assert (vectors * frames.edges(darker)).sum(axis=1).min() > 0.95
    assert not frames.edges(np.full((1, 32, 32), 7, dtype=np.uint8)).any()


# The registry


ALTERED = {
    "as it is": lambda image: image,
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "transposed": lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    "larger": lambda image: image.resize((192, 192)),
    "stretched": lambda image: image.resize((96, 120)),
    "darker": lambda image: image.point([round(v * 0.7) for v in range(256)]),
    "on a margin": lambda image: ImageOps.expand(image, 14),
    "cropped close": lambda image: image.crop(frames.head_box(np.asarray(image))),
}

FRAMED = {"on a margin", "cropped close"}  # which the head's box alone tells, to a pixel


@pytest.mark.parametrize("name", ALTERED)
def test_a_copy_inherits_and_a_stranger_does_not(name: str) -> None:
    pictures = heads(40, 1)[:, 0]
    slices = made(pictures[:20], [1 + n % 5 for n in range(20)])
    match = slices.match(framed([np.asarray(ALTERED[name](Image.fromarray(own))) for own in pictures]))
    found = match.row[:20] >= 0
    assert found.mean() >= (0.8 if name in FRAMED else 1)
    assert (match.row[:20] == np.arange(20))[found].all()
    assert (match.row[20:] == -1).all()
    assert match.distance[20:].min() > registry.RADIUS


def test_a_registry_is_read_as_it_was_written(tmp_path: Path) -> None:
    own = made(heads(6, 1)[:, 0], [1, 1, 2, 3, 4, 5])
    registry.write(tmp_path / "r.csv", own)
    read = registry.load(tmp_path / "r.csv")
    assert (read.source, read.citation) == ("far/away", "Someone, 2020")
    pd.testing.assert_frame_equal(read.table, own.table.astype(np.int64), check_names=False)
    assert (read.whole == own.whole).all()
    assert (read.head == own.head).all()
    assert read.patients(np.array([0, 2])).tolist() == ["far/away:fold1", "far/away:fold2"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("version: 1", "version: 2"), r"version 2; expected .* version 1"),
        (("# kind: registry", "# kind: list"), "got 'list of"),
        (("number,fold", "number,folds"), r"got a table of \['number', 'folds'"),
        ((",head\n1,1,0,", ",head\n1,1,0,x"), "64 hexadecimal digits"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    path = tmp_path / "r.csv"
    registry.write(path, made(heads(2, 1)[:, 0], [1, 2]))
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(UserError, match=words):
        registry.load(path)


def test_a_registry_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv.*expected a registry"):
        registry.load(tmp_path / "none.csv")


def test_the_registry_in_the_package_holds_chengs_slices_and_cites_them() -> None:
    slices = registry.load()
    assert slices.source == CHENG
    assert "10.6084/m9.figshare.1512427" in slices.citation
    assert slices.table["number"].tolist() == list(range(1, 3065))
    assert set(slices.table["fold"]) == {1, 2, 3, 4, 5}
    assert registry.CHENG.stat().st_size < 500_000


def test_series_of_the_registry_cross_folds_where_one_person_does_and_nowhere_else() -> None:
    table, persons = registry.load().table, pd.read_csv(make_registry.PERSONS)
    crossing_folds = set()
    for _, spans in persons.groupby("person"):
        shown = pd.concat([table[table["number"].between(row.first, row.last)] for row in spans.itertuples()])
        assert len(set(shown["series"])) == 1
        assert set(shown["fold"]) == set(spans["fold"])
        crossing_folds |= set(shown["series"])
    folds = table.groupby("series")["fold"].nunique()
    assert set(folds[folds > 1].index) == crossing_folds
    assert len(crossing_folds) == persons["person"].nunique()
    alone = table[~table["series"].isin(crossing_folds)]
    assert (alone["series"].diff().dropna() >= 0).all()


def test_series_that_show_one_person_are_joined_and_keep_the_first_ones_number() -> None:
    runs, number = np.array([0, 0, 1, 1, 2, 3, 3]), np.arange(10, 17)
    spans = pd.DataFrame({"person": [0, 0, 1, 1], "first": [11, 14, 13, 16], "last": [11, 14, 13, 16]})
    assert make_registry.joined(runs, number, spans).tolist() == [0, 0, 1, 1, 0, 1, 1]
    assert make_registry.joined(runs, number, spans[:0]).tolist() == runs.tolist()
    chained = pd.DataFrame({"person": [0, 0, 1, 1], "first": [11, 12, 13, 16], "last": [11, 12, 13, 16]})
    assert make_registry.joined(runs, number, chained).tolist() == [0, 0, 0, 0, 2, 0, 0]


def test_a_person_who_stands_in_two_of_chengs_folds_stays_on_one_side() -> None:
    """The folds go to sides as a whole; of such a person the part in the fold with fewer slices is left out."""
    slices = registry.load()
    rows = np.arange(len(slices.table))
    whose, own = slices.patients(rows), slices.series(rows)
    label = np.where(slices.table["number"] % 2, "a", "b")
    catalogue = table(
        len(rows), source=CHENG, native_label=label, fold=slices.table["fold"].astype(str).to_numpy(),
        subject=whose, series=own, known="known",
    )  # fmt: skip
    settled = pd.DataFrame({"group": rows, "label": label, "status": "keep"})
    folds = slices.table.groupby("series")["fold"]
    least = int(folds.agg(lambda own: len(own) - own.value_counts().iloc[0]).sum())
    for seed in range(3):
        side = draw(catalogue, settled, Split(train=0.6, validation=0.2, test=0.2), seed)["side"]
        used = (side != "dropped").to_numpy()
        assert side[used].groupby(own[used]).nunique().max() == 1
        assert int((~used).sum()) == least > 0


# Series


def test_neighbouring_slices_are_linked_and_other_heads_are_not() -> None:
    pictures = heads(12, 6)
    vectors = series.features(framed(pictures.reshape(-1, 96, 96)))
    joined = series.join(72, series.links(vectors, np.arange(72)), [""] * 72, np.full(72, -1)).reshape(12, 6)
    assert (joined == joined[:, :1]).mean() > 0.8
    assert len(set(joined[:, 0])) == 12


def test_a_shifted_head_is_still_itself() -> None:
    picture = heads(1, 1)[0, 0]
    moved = shift(picture.astype(float), (2, 2), order=1).clip(0, 255).astype(np.uint8)
    other = heads(1, 1, seed=9)[0, 0]
    vectors = series.features(framed(np.stack([picture, moved, other])))
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]


def test_links_are_all_pairs_whose_likeness_stands_out() -> None:
    """Against the definition, pair by pair."""
    rng = np.random.default_rng(1)
    vectors, group = frames.unit(rng.normal(size=(90, 12)).astype(np.float32)), rng.permutation(np.arange(90) % 60)
    images = vectors @ vectors.T
    alike = np.array([[images[np.ix_(group == i, group == j)].max() for j in range(60)] for i in range(60)])
    alike = alike.round(5).astype(np.float64)
    np.fill_diagonal(alike, -2)
    scale = np.sort(alike, axis=1)[:, -series.NEAREST :].mean(axis=1)
    excess = (alike - (scale[:, None] + scale[None]) / 2).round(5)
    a, b = np.nonzero(np.triu(excess >= 0.02, 1))
    found = series.links(vectors, group, 0.02)
    assert set(zip(found.a.tolist(), found.b.tolist(), strict=True)) == set(zip(a.tolist(), b.tolist(), strict=True))
    assert (np.diff(found.excess) <= 0).all()
    assert len(found.a) > 10


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images_have_no_series_or_one(count: int) -> None:
    vectors = np.eye(4, dtype=np.float32)[:count]
    assert len(series.links(vectors, np.arange(count)).a) == 0


def test_no_series_holds_two_patients_or_too_many_images() -> None:
    chain = series.Links(np.arange(9), np.arange(1, 10), np.linspace(1, 0.1, 9))
    nobody, none = [""] * 10, np.full(10, -1)
    assert series.join(10, chain, nobody, none).tolist() == [0] * 10
    assert series.join(10, chain, ["", "p", "", "", "q", *[""] * 5], none).tolist() == [0] * 4 + [4] * 6
    assert np.bincount(series.join(10, chain, nobody, none, largest=4)).max() == 4
    given = np.array([0, 0, -1, -1, 1, 1, -1, -1, -1, -1])
    assert series.join(10, chain, nobody, given).tolist() == [0] * 4 + [4] * 6


def test_series_by_order_break_at_gaps_at_strangers_and_where_slices_differ() -> None:
    pictures = heads(4, 5)
    vectors = series.features(framed(pictures.reshape(-1, 96, 96)))
    numbers = np.r_[0:5, 5:10, 30:35, 35:40]
    apart = ["x"] * 10 + ["y"] * 3 + ["z"] * 2 + ["z"] * 5
    found = series.by_order(numbers, apart, vectors)
    assert found.tolist() == [0] * 5 + [1] * 5 + [2] * 3 + [3] * 2 + [4] * 5
    shuffled = np.random.default_rng(0).permutation(20)
    again = series.by_order(numbers[shuffled], [apart[i] for i in shuffled], vectors[shuffled])
    assert again.tolist() == found[shuffled].tolist()
    assert series.by_order(np.full(20, -1), apart, vectors).tolist() == [-1] * 20


# All of it together


def test_known_likely_and_unknown() -> None:
    """Heads 0 and 1 are in the registry, 2 and 3 are not; of head 4 there is one slice."""
    pictures = heads(5, 6, thick=0.8)
    rows = np.concatenate([pictures[:4].reshape(-1, 96, 96), pictures[4, :1]])
    images, slices = framed(rows), made(pictures[:2, :3].reshape(-1, 96, 96), [1, 1, 1, 2, 2, 2])
    found = told(table(25), images, slices)
    assert found["known"].tolist() == (["known"] * 3 + ["likely"] * 3) * 2 + ["likely"] * 12 + ["unknown"]
    assert set(found["patient"][:6]) == {"far/away:fold1"}  # slices that look like a known one belong to its patient
    assert set(found["patient"][6:12]) == {"far/away:fold2"}
    assert set(found["patient"][12:]) == {""}
    assert found["series"][12:18].nunique() == found["series"][18:24].nunique() == 1
    assert found["series"][24] == ""
    assert found["slice"][[0, 1, 2, 6]].tolist() == [1, 2, 3, 4]
    assert (found["slice"][12:] == -1).all()


def test_declared_patients_and_folds_outrank_the_registry_and_copies_take_over_what_is_known() -> None:
    pictures = heads(6, 1)[:, 0]
    slices = made(pictures[:3], [1, 2, 3])
    rows = table(
        6, source=["s", "s", "t", "t", "s", "s"], patient=["s:7", "", "", "", "", "s:9"], fold=["", "4", "", "", "", ""]
    )
    group = pd.Series([0, 1, 2, 3, 3, 3])
    found = told(rows, framed(pictures), slices, group=group)
    assert found["patient"].tolist() == ["s:7", "s:fold4", "far/away:fold3", "s:9", "s:9", "s:9"]
    assert set(found["known"]) == {"known"}


def test_copies_alone_are_no_series() -> None:
    picture = heads(1, 1)[0, 0]
    images = framed(np.stack([picture, np.roll(picture, 1, axis=1)]))
    found = told(table(2), images, made(heads(1, 1, seed=5)[:, 0], [1]), group=pd.Series([0, 0]))
    assert found["known"].tolist() == ["unknown", "unknown"]
    assert found["series"].tolist() == ["", ""]


def test_series_of_a_source_that_numbers_its_slices() -> None:
    pictures = heads(2, 4)
    images, slices = framed(pictures.reshape(-1, 96, 96)), made(heads(1, 1, seed=5)[:, 0], [1])
    found = told(table(8, fold=["1"] * 4 + ["2"] * 4), images, slices, numbers=np.arange(10, 18))
    assert found["series"].tolist() == ["s:run0"] * 4 + ["s:run1"] * 4
    assert found["slice"].tolist() == list(range(10, 18))


@pytest.mark.parametrize("key", ["patient", "order"])
def test_a_pattern_that_fits_no_file_is_refused(key: str) -> None:
    block = sources.Source.model_validate({"title": "", "classes": {"a": {}}, key: r"^P(\d+)_"})
    rows = table(2, path=["a/1.png", "a/2.png"])
    with pytest.raises(
        UserError, match=rf"s: got none of 2 images whose file name fits `{key}: .*'a/1\.png'; expected"
    ):
        patients.numbered(rows, {"s": block})
    fits = rows.assign(path=["a/1.png", "a/P7_2.png"], patient=["", "s:7"])
    assert patients.numbered(fits, {"s": block}).tolist() == ([-1, -1] if key == "patient" else [-1, 7])


def test_the_stage_on_the_phantom(phantom_archive: Path, tmp_path: Path) -> None:
    """Its patients are declared but for some of the planted copies, which take them over from their originals."""
    archives, data = phantom_archive.parent, tmp_path / "data"
    splits.prepare(archives, splits.Images(["phantom"]), data, workers=1)
    found, listed = pd.read_csv(data / "patients.csv", keep_default_na=False), pd.read_csv(data / "catalogue.csv")
    assert list(found) == patients.COLUMNS
    own = listed["patient"].notna()
    assert (found["patient"][own] == listed["patient"][own]).all()
    assert (found["known"][own] == "known").all()
    counts = read_json(data / "patients.json")
    assert counts["images"] == len(found) == sum(counts[state] for state in STATES)
    source = counts["sources"]["phantom"]
    assert source["patients"] == {"number": listed["patient"].nunique(), "images": int(own.sum())}
    assert source["masks"]["mask"] == int((listed["mask_kind"] == "mask").sum()) > 0
    assert counts["registry"]["matched"] == 0
    linked = found[found["series"] != ""].groupby("series")["patient"]
    assert linked.nunique().max() == 1


# What crosses


def test_the_registry_in_the_package_is_what_its_archive_gives(real_archives: Path) -> None:
    """Up to single bits, where a processor rounds otherwise."""
    slices, shipped = (
        make_registry.make(make_registry.read(real_archives / sources.archive_name(CHENG))),
        registry.load(),
    )
    pd.testing.assert_frame_equal(slices.table[["number", "fold"]], shipped.table[["number", "fold"]])
    for name in ("whole", "head"):
        apart = (getattr(slices, name) != getattr(shipped, name)).sum(axis=1)
        assert apart.max() <= 4
        assert (apart > 0).mean() < 0.01
    assert abs(slices.table["series"].max() - shipped.table["series"].max()) <= 3


def test_sartajs_copies_inherit_chengs_folds(real_archives: Path) -> None:
    """2,348 of 3,264; labels agree for all but 17, and no image of a healthy head is taken for a copy."""
    name = "sartajbhuvaji/brain-tumor-classification-mri"
    archive, block = real_archives / sources.archive_name(name), sources.load()[name]
    with zipfile.ZipFile(archive) as opened:
        paths = sorted(path for path in opened.namelist() if path.endswith(".jpg"))
        labels = np.array([block.classes[block.place(path)[0]].group for path in paths])
    match = registry.load().match(frames.load([(archive, path) for path in paths]))
    copies = match.row >= 0
    assert abs(copies.sum() - 2348) <= 2
    assert not (labels[copies] == "normal").any()
    assert match.distance[copies].max() + 10 < match.distance[~copies].min()
