"""Known sources, the taxonomies, and how archives come in."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from tumorxai.archives import sources
from tumorxai.catalogue.listing import list_archive
from tumorxai.config import Data, PathSource, Phantom
from tumorxai.errors import UserError
from tumorxai.fetch.fetch import fetch
from tumorxai.files import read_json, sha256

SARTAJ = "sartajbhuvaji/brain-tumor-classification-mri"
COUNTS = {  # of the archives' README; where two numbers stand there, the first is the archive's
    SARTAJ: {"glioma_tumor": 926, "meningioma_tumor": 937, "no_tumor": 500, "pituitary_tumor": 901},
    "shreyag1103/brain-mri-scans-for-brain-tumor-classification": {
        "glioma": 300,
        "meningioma": 306,
        "notumor": 405,
        "pituitary": 300,
    },
    "thomasdubail/brain-tumors-256x256": {
        "glioma_tumor": 901,
        "meningioma_tumor": 913,
        "normal": 438,
        "pituitary_tumor": 844,
    },
    "cheng/figshare-1512427": {"glioma": 1426, "meningioma": 708, "pituitary": 930},
    "hamdallak/the-iqothnccd-lung-cancer-dataset": {"Bengin cases": 120, "Malignant cases": 561, "Normal cases": 416},
    "mehradaria/leukemia": {"Benign": 313, "Early": 313, "Pre": 313, "Pro": 313},
    "gunavenkatdoddi/eye-diseases-classification": {
        "cataract": 543,
        "diabetic_retinopathy": 543,
        "glaucoma": 543,
        "normal": 543,
    },
}


def class_folders(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        Image.new("L", (20, 20), 40 * number).save(root / name / "a.png")
    return root


def counts(listing) -> dict[str, int]:
    native = [candidate.native_label for candidate in listing.candidates]
    return {name: native.count(name) for name in sorted(set(native))}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_per_class_of_the_real_archives(real_archives: Path, name: str) -> None:
    listing = list_archive(real_archives / sources.archive_name(name), name, sources.load()[name])
    assert counts(listing) == COUNTS[name]
    assert not listing.refused


def test_official_split_of_sartaj(real_archives: Path) -> None:
    listing = list_archive(real_archives / sources.archive_name(SARTAJ), SARTAJ, sources.load()[SARTAJ])
    sides = [candidate.official_split for candidate in listing.candidates]
    assert (sides.count("train"), sides.count("test")) == (2870, 394)


def test_44_classes_become_17(real_archives: Path) -> None:
    name = "fernando2rad/brain-tumor-mri-images-44c"
    block = sources.load()[name]
    listing = list_archive(real_archives / sources.archive_name(name), name, block)
    assert len(counts(listing)) == 44
    assert len(listing.candidates) == 4478
    labels = {
        sources.label("seventeen", native, known.group, known.sequence) for native, known in block.classes.items()
    }
    groups = ("glioma", "meningioma", "neurocytoma", "other", "schwannoma")
    assert labels == {f"{group} {s}" for group in groups for s in ("T1", "T1C+", "T2")} | {"normal T1", "normal T2"}
    assert block.classes["Astrocitoma T1C+"].histology == "astrocytoma"


def test_17_class_names_are_found_in_composed_and_decomposed_accents() -> None:
    block = sources.load()["fernando2rad/brain-tumor-mri-images-17-classes"]
    assert len(block.classes) == 17
    for spelling in ("Lesões", "Leso\u0303es"):
        path = f"Outros Tipos de {spelling} (Abscessos, Cistos, Encefalopatias Diversas) T2/x.jpg"
        place = block.place(path)
        assert place
        assert block.classes[place[0]].group == "other"
        assert block.classes[place[0]].sequence == "T2"


def test_folders_beside_the_declared_ones_are_passed_over() -> None:
    leukemia = sources.load()["mehradaria/leukemia"]
    assert leukemia.place("wrapped/Original/Pre/a.jpg") == ("Pre", "")
    assert leukemia.place("Segmented/Pre/a.jpg") is None
    assert leukemia.place("Original/Unheard of/a.jpg") == ("", "")
    assert sources.load()["phantom"].place("masks/glioma/a.png") is None


@pytest.mark.parametrize(
    ("taxonomy", "group", "sequence", "label"),
    [
        ("four_class", "normal", "", "no_tumor"),
        ("four_class", "schwannoma", "T1", ""),
        ("six_group", "pituitary", "", ""),
        ("six_group", "other", "", "other"),
        ("seventeen", "glioma", "T1C+", "glioma T1C+"),
        ("seventeen", "glioma", "", ""),
        ("seventeen", "normal", "T1C+", ""),
        ("native", "", "", "folder"),
    ],
)
def test_taxonomies(taxonomy: str, group: str, sequence: str, label: str) -> None:
    assert sources.label(taxonomy, "folder", group, sequence) == label


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("{title: x, classes: {a: {}}, licenze: y}", "licenze: unknown parameter"),
        ("{title: x, classes: {a: {group: gliom}}}", "classes.a.group: got 'gliom'"),
        ("{title: x, classes: {a: {}, A_: {}}}", "differ in more than case"),
        ("{title: x, classes: {a: {}}, patient: '(a)(b)'}", "2 groups"),
        ("{title: x, classes: {a: {}}, patient: '('}", "regular expression"),
        ("{title: x}", "classes: missing"),
        ("[", "not valid YAML"),
    ],
)
def test_mistakes_in_a_block_are_named(tmp_path: Path, block: str, message: str) -> None:
    (tmp_path / "sources.yaml").write_text(f"me/mine: {block}\n")
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        sources.load(tmp_path / "sources.yaml")


def test_one_block_adds_a_source(tmp_path: Path) -> None:
    (tmp_path / "sources.yaml").write_text(
        "me/mine:\n  title: Mine\n  folders: {eval: test}\n  patient: ^(p[0-9]+)_\n"
        "  classes: {Meningeal: {count: 1, group: meningioma}}\n"
    )
    block = sources.load(tmp_path / "sources.yaml")["me/mine"]
    assert block.place("eval/meningeal/p7_1.png") == ("Meningeal", "test")


@pytest.mark.parametrize("word", ["phantm", "a/b/c", "https://kaggle.com/a/b", "../x", "a/..", ""])
def test_unknown_sources_are_refused_before_any_work(word: str) -> None:
    with pytest.raises(ValidationError, match="expected `phantom`"):
        Data(sources=[word])


# What the catalogue acts on


@pytest.fixture
def change_block(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Edit the blocks of ``sources.yaml`` as they are loaded."""
    blocks = sources.load()

    def change(name: str, **fields: Any) -> None:
        blocks[name] = blocks[name].model_copy(update=fields)
        monkeypatch.setattr(sources, "load", lambda: blocks)

    return change


def test_a_layout_is_what_the_catalogue_acts_on(change_block: Callable[..., None], tmp_path: Path) -> None:
    settings = Data(sources=["phantom", SARTAJ, "me/mine", PathSource(path=str(tmp_path / "own"))])
    before = sources.layouts(settings)
    assert list(before) == ["phantom", SARTAJ, "me/mine", "local/own"]
    assert before["me/mine"] is None
    assert before["local/own"] is None
    assert before["phantom"]["annotations"] == "annotations.csv"
    assert before[SARTAJ]["classes"]["glioma_tumor"]["count"] == 926
    assert json.loads(json.dumps(before)) == before
    change_block(SARTAJ, note="new", title="new", page="https://new.org", licence="new")
    change_block("mehradaria/leukemia", folders={"elsewhere": ""})
    assert sources.layouts(settings) == before


@pytest.mark.parametrize("field", sorted(set(sources.Source.model_fields) - sources.WORDS))
def test_every_other_field_of_a_block_is_part_of_its_layout(change_block: Callable[..., None], field: str) -> None:
    settings = Data(sources=[SARTAJ])
    before = sources.layouts(settings)
    new = {
        "images": 1,
        "folders": {"": ""},
        "classes": {"a": sources.Class()},
        "annotations": "a.csv",
        "patient": "(a)",
        "order": "(1)",
    }
    change_block(SARTAJ, **{field: new[field]})
    assert sources.layouts(settings) != before


def test_a_block_without_a_title_is_still_a_block(tmp_path: Path) -> None:
    """The empty folder of a class that the block does not name is passed over, whatever the title."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/1.png", b"x")
        archive.mkdir("other")
    for title in ("", "Mine"):
        block = sources.Source(title=title, classes={"a": sources.Class()})
        assert len(list_archive(tmp_path / "a.zip", "me/mine", block).candidates) == 1


# How archives come in


def test_mirror_is_taken_first(tmp_path: Path, real_archives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "hamdallak/the-iqothnccd-lung-cancer-dataset"
    monkeypatch.setenv("TUMORXAI_MIRROR", str(real_archives.resolve()))
    fetch(Data(sources=[name]), tmp_path / "out", tmp_path / "fetched.json")
    taken = tmp_path / "out" / sources.archive_name(name)
    assert taken.read_bytes() == (real_archives / sources.archive_name(name)).read_bytes()


def test_mirror_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Data(sources=["me/mine"])
    monkeypatch.setenv("TUMORXAI_MIRROR", "relative")
    with pytest.raises(UserError, match="absolute path"):
        fetch(settings, tmp_path / "out", tmp_path / "fetched.json")
    monkeypatch.setenv("TUMORXAI_MIRROR", str(tmp_path))
    (tmp_path / "you--yours.zip").touch()
    with pytest.raises(UserError, match=r"no me--mine.zip .* you--yours.zip"):
        fetch(settings, tmp_path / "out", tmp_path / "fetched.json")
    (tmp_path / "me--mine.zip").write_text("<html>")
    with pytest.raises(UserError, match="not a readable zip"):
        fetch(settings, tmp_path / "out", tmp_path / "fetched.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["me--mine.zip", "you--yours.zip"]


def test_folder_comes_in_the_same_however_often(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "mine", "train/glioma", "train/normal", "test/glioma", "test/normal")
    (folder / "train/glioma/Thumbs.db").touch()
    (folder / "train/glioma/notes.txt").touch()
    settings = Data(sources=[PathSource(path=str(folder))])
    fetch(settings, tmp_path / "one", tmp_path / "fetched.json")
    for path in folder.rglob("*.png"):
        path.touch()
    fetch(settings, tmp_path / "two", tmp_path / "fetched.json")
    archive = tmp_path / "one" / "local--mine.zip"
    assert archive.read_bytes() == (tmp_path / "two" / "local--mine.zip").read_bytes()
    listing = list_archive(archive, "local/mine", None)
    assert [(c.path, c.native_label, c.official_split) for c in listing.candidates] == [
        ("test/glioma/a.png", "glioma", "test"),
        ("test/normal/a.png", "normal", "test"),
        ("train/glioma/a.png", "glioma", "train"),
        ("train/normal/a.png", "normal", "train"),
    ]


def test_bad_paths_leave_what_was_there(tmp_path: Path) -> None:
    good = class_folders(tmp_path / "good", "glioma")
    out = tmp_path / "out"
    fetch(Data(sources=[PathSource(path=str(good))]), out, tmp_path / "fetched.json")
    empty = class_folders(tmp_path / "empty", "glioma")
    (empty / "meningioma").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "bare").mkdir()
    for path, message in {
        "absent": "does not exist",
        "empty": "meningioma: got no image",
        "text.zip": "not a readable zip",
        "bare": "got no image",
    }.items():
        with pytest.raises(UserError, match=message):
            fetch(
                Data(sources=[PathSource(path=str(good)), PathSource(path=str(tmp_path / path))]),
                out,
                tmp_path / "fetched.json",
            )
        assert [file.name for file in out.iterdir()] == ["local--good.zip"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_two_sources_of_one_name(tmp_path: Path) -> None:
    one, two = (class_folders(tmp_path / side / "mine", "glioma") for side in ("a", "b"))
    twice = [PathSource(path=str(one)), PathSource(path=str(two))]
    with pytest.raises(UserError, match="more than once"):
        fetch(Data(sources=twice), tmp_path / "out", tmp_path / "fetched.json")
    fetch(
        Data(sources=[twice[0], PathSource(path=str(two), name="second")]), tmp_path / "out", tmp_path / "fetched.json"
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["local--mine.zip", "local--second.zip"]


def test_the_record_tells_where_archives_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = class_folders(tmp_path / "mine", "glioma")
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for path in (tmp_path / "own.zip", mirror / "me--theirs.zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("glioma/a.png", (folder / "glioma/a.png").read_bytes())
    monkeypatch.setenv("TUMORXAI_MIRROR", str(mirror))
    paths = [PathSource(path=str(path)) for path in (folder, tmp_path / "own.zip")]
    phantom = Phantom(patients=4, slices=1, sequences=1)
    fetch(Data(sources=["phantom", *paths, "me/theirs"], phantom=phantom), tmp_path / "out", tmp_path / "fetched.json")
    records = read_json(tmp_path / "fetched.json")
    assert {name: entry["from"] for name, entry in records.items()} == {
        "phantom": "simulated", "local/mine": "folder", "local/own": "zip", "me/theirs": "mirror",
    }  # fmt: skip
    for name, entry in records.items():
        archive = tmp_path / "out" / sources.archive_name(name)
        assert (entry["bytes"], entry["sha256"]) == (archive.stat().st_size, sha256(archive))
        assert entry["version"] is entry["published"] is None
    assert str(tmp_path) not in (tmp_path / "fetched.json").read_text()
