"""Data outside the project: every edit is seen, nothing else is taken for one, and a look costs little."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.inputs.folders import look, make, same_size_and_time, zipped
from tumorxai.archives import packing
from tumorxai.archives.places import MIRROR, cached
from tumorxai.config import Data, PathSource, Phantom
from tumorxai.errors import UserError
from tumorxai.fetch.fetch import fetch
from tumorxai.files import atomic
from tumorxai.inputs import fingerprint

pytestmark = pytest.mark.usefixtures("no_surroundings")


def relabel(root: Path) -> None:
    (root / "class 0/patient_0").rename(root / "class 0/away")
    (root / "class 1/patient_1").rename(root / "class 0/patient_0")
    (root / "class 0/away").rename(root / "class 1/patient_1")


def add_sixty(root: Path) -> None:
    for number in range(60):
        (root / f"class 1/patient_1/new_{number}.png").write_bytes(b"new")


def swap_two_images(root: Path) -> None:
    one, two = (root / f"class {number}/patient_{number}/0.png" for number in (0, 1))
    contents = one.read_bytes(), two.read_bytes()
    two.write_bytes(contents[0])
    one.write_bytes(contents[1])


CHANGES: list[Callable[[Path], object]] = [
    relabel,
    add_sixty,
    same_size_and_time,
    swap_two_images,
    lambda root: (root / "class 0/patient_0/0.png").unlink(),
    lambda root: (root / "class 0/patient_0/0.png").rename(root / "class 0/patient_0/renamed.png"),
    lambda root: (root / "class 0").rename(root / "class 2"),
    lambda root: (root / "labels.csv").write_text("file,patient\na,b\n"),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.usefixtures("settled")
def test_an_edit_in_place_is_seen(tmp_path: Path, change: Callable[[Path], object]) -> None:
    root = make(tmp_path / "mine")
    before = look(root)
    assert before == look(root)
    assert before["files"] == 13
    change(root)
    after = look(root)
    assert after != before
    shutil.rmtree(tmp_path / "cache")
    assert look(root) == after


def touch(root: Path) -> Path:
    for path in root.rglob("*"):
        os.utime(path, (1e9, 1e9))
    return root


def rename_parent(root: Path) -> Path:
    return root.rename(root.with_name("elsewhere"))


def edit_what_is_not_packed(root: Path) -> Path:
    (root / "README.md").write_text("edited")
    (root / "class 0/patient_0/other.csv").write_text("private")
    (root / "class 0/.DS_Store").touch()
    (root / "._labels.csv").touch()
    (root / "class 0/patient_0/._0.png").touch()
    (root / ".git").mkdir()
    (root / ".git/a.png").touch()
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX/a.png").touch()
    return root


def link(root: Path) -> Path:
    (root.parent / "link").symlink_to(root)
    return root.parent / "link"


@pytest.mark.parametrize(
    "change",
    [touch, rename_parent, edit_what_is_not_packed, link, lambda root: shutil.copytree(root, root.with_name("copy"))],
)
@pytest.mark.usefixtures("settled")
def test_what_is_no_edit(tmp_path: Path, change: Callable[[Path], Path]) -> None:
    root = make(tmp_path / "mine")
    before = look(root)
    assert look(change(root)) == before


def test_zip_and_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, mirror = zipped(tmp_path / "own.zip"), tmp_path / "mirror"
    mirror.mkdir()
    theirs = zipped(mirror / "me--theirs.zip")
    monkeypatch.setenv(MIRROR, str(mirror))

    def both() -> dict[str, Any]:
        return fingerprint.fingerprints([PathSource(path=str(own)), "me/theirs"], {})

    before = both()
    assert list(before) == ["local/own", "me/theirs"]
    assert [(entry["from"], entry["bytes"]) for entry in before.values()] == [
        ("zip", own.stat().st_size),
        ("mirror", theirs.stat().st_size),
    ]
    own.touch()
    os.utime(theirs, (0, 0))
    moved = mirror.rename(tmp_path / "moved")
    monkeypatch.setenv(MIRROR, str(moved))
    assert both() == before
    times = own.stat()
    zipped(moved / "me--theirs.zip", b"y")
    zipped(own, b"y")
    os.utime(own, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert own.stat().st_size == times.st_size
    after = both()
    assert all(after[name]["sha256"] != before[name]["sha256"] for name in before)


def test_phantom_and_kaggle_never_change() -> None:
    found = fingerprint.fingerprints(["phantom", "me/theirs"], {})
    assert found == {"phantom": {"from": "simulated"}, "me/theirs": {"from": "kaggle"}}
    assert fingerprint.fingerprints(["phantom", "me/theirs"], found) == found


def test_no_times_and_no_paths(tmp_path: Path) -> None:
    assert set(look(make(tmp_path / "mine"))) == {"from", "files", "sha256"}
    assert set(look(zipped(tmp_path / "a.zip"))) == {"from", "bytes", "sha256"}


# What is not at hand


def test_a_missing_source_keeps_its_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    root, mirror = make(tmp_path / "mine"), tmp_path / "mirror"
    mirror.mkdir()
    zipped(mirror / "me--theirs.zip")
    sources = [PathSource(path=str(root)), "me/theirs"]
    monkeypatch.setenv(MIRROR, str(mirror))
    before = fingerprint.fingerprints(sources, {})
    assert capsys.readouterr().err == ""
    root.rename(tmp_path / "unplugged")
    (mirror / "me--theirs.zip").unlink()
    assert fingerprint.fingerprints(sources, before) == before
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said] == ["local/mine", "me/theirs"]
    assert all("not at hand" in line and "fetched before" in line for line in said)
    assert fingerprint.fingerprints(sources, {}) == {"local/mine": None, "me/theirs": None}
    root.mkdir()  # where the disk would be mounted
    monkeypatch.delenv(MIRROR)
    assert fingerprint.fingerprints(sources, before) == before
    assert f"{MIRROR} is not set" in capsys.readouterr().err
    assert fingerprint.fingerprints(sources, {}) == {"local/mine": None, "me/theirs": {"from": "kaggle"}}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("last", [None, {"from": "kaggle"}, {"from": "mirror", "sha256": "a"}, {}, 7])
def test_an_entry_of_another_kind_is_not_kept(tmp_path: Path, last: Any) -> None:
    assert look(tmp_path / "absent", {"local/it": last}) is None


def test_a_mirror_without_the_archive_does_not_keep_kaggles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR, str(tmp_path))
    found = fingerprint.fingerprints(["me/theirs"], {"me/theirs": {"from": "kaggle"}})
    assert found == {"me/theirs": None}


def test_what_cannot_be_used_is_said_in_words(tmp_path: Path) -> None:
    root = make(tmp_path / "mine")
    (root / "class 0/empty").mkdir()
    with pytest.raises(UserError, match=r"empty: got no image"):
        look(root)
    (root / "class 0/empty").rmdir()
    (root / "class 0/lost.png").symlink_to("nowhere")
    os.mkfifo(root / "class 0/pipe.png")  # reading it would wait forever
    with_link = look(root)
    (root / "class 0/pipe.png").unlink()
    assert look(root) == with_link
    (root / "class 0/lost.png").unlink()
    assert look(root)["files"] == with_link["files"] - 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", ["class 0/patient_0/0.png", "class 0/patient_0", "."])
def test_what_must_not_be_read_is_said_in_words(tmp_path: Path, name: str) -> None:
    root = make(tmp_path / "mine")
    mode = (root / name).stat().st_mode
    (root / name).chmod(0)
    try:
        with pytest.raises(UserError, match=r"got Permission denied; expected .* correct its permissions"):
            look(root)
    finally:
        (root / name).chmod(mode)


@pytest.mark.parametrize("name", ["class 0/patient_0/0.png", "class 0/patient_0"])
def test_a_refusal_of_the_system_is_said_in_words(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the tests run as root."""
    root = make(tmp_path / "mine")
    locked, real = str(root / name), {"open": open, "scandir": os.scandir}

    def refusing(which: str) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **more: Any) -> Any:
            if os.fspath(path).rstrip("/") == locked:
                raise PermissionError(13, "Permission denied", locked)
            return real[which](path, *rest, **more)

        return call

    monkeypatch.setattr("builtins.open", refusing("open"))
    monkeypatch.setattr(os, "scandir", refusing("scandir"))
    with pytest.raises(UserError, match=r"got Permission denied; expected .* correct its permissions"):
        look(root)


def test_odd_names(tmp_path: Path) -> None:
    root = make(tmp_path / "mine")
    (root / "class 0/Lesões\n.png").write_bytes(b"a")
    undecodable = os.path.join(os.fsencode(root), b"class 0", b"\xff.png")
    with open(undecodable, "wb") as stream:
        stream.write(b"b")
    (root / "class 0/circle").symlink_to(root / "class 0")
    before = look(root)
    assert before["files"] == 15
    assert look(root) == before
    packed = packing.zip_folder(root, tmp_path / "packed.zip")
    assert fingerprint.of_folder(*packed) == before


# What fetch makes of it


@pytest.mark.parametrize("kind", ["folder", "zip", "mirror", "phantom"])
@pytest.mark.slow
def test_fetch_reads_what_was_fingerprinted(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR, str(tmp_path))
    zipped(tmp_path / "me--theirs.zip")
    source = {
        "folder": PathSource(path=str(make(tmp_path / "mine"))),
        "zip": PathSource(path=str(zipped(tmp_path / "own.zip"))),
        "mirror": "me/theirs",
        "phantom": "phantom",
    }[kind]
    settings = Data(sources=[source], phantom=Phantom(patients=4, slices=1, sequences=1))
    seen = fingerprint.fingerprints(settings.sources, {})
    fetch(settings, tmp_path / "out", tmp_path / "fetched.json", seen)
    (name,) = seen
    for other in ({}, {"other/source": None}, None):
        fetch(settings, tmp_path / "out", tmp_path / "fetched.json", other)
    for other in (None, {"from": "folder", "files": 1, "sha256": "0" * 64}):
        with pytest.raises(UserError, match=r"changed while it was read; .*run `dvc repro` again"):
            fetch(settings, tmp_path / "new", tmp_path / "new.json", {name: other})
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "new.json").exists()


def test_a_folder_that_changes_while_it_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "mine")
    settings = Data(sources=[PathSource(path=str(root))])
    seen = fingerprint.fingerprints(settings.sources, {})
    real = packing.survey

    def then_write(folder: Path) -> Any:
        files = real(folder)
        (root / "class 1/patient_1/2.png").write_bytes(b"new")
        return files

    monkeypatch.setattr(packing, "survey", then_write)
    with pytest.raises(UserError, match=r"local/mine: .* changed while it was read"):
        fetch(settings, tmp_path / "out", tmp_path / "fetched.json", seen)

    def then_remove(folder: Path) -> Any:
        files = real(folder)
        (root / "class 1/patient_1/2.png").unlink()
        return files

    monkeypatch.setattr(packing, "survey", then_remove)
    with pytest.raises(UserError, match=r"2.png: .* changed while it was read"):
        fetch(settings, tmp_path / "out", tmp_path / "fetched.json")
    assert not (tmp_path / "out").exists()


def test_kaggles_archive_instead_of_the_mirrors(tmp_path: Path) -> None:
    """The mirror is gone, its entry was kept, and fetch has to run for another reason."""
    settings = Data(sources=["me/theirs"])
    archive = cached("archives") / "me--theirs.zip"
    with atomic(archive) as temporary:
        zipped(temporary)
    (seen,) = fingerprint.fingerprints([PathSource(path=str(archive))], {}).values()
    assert seen
    fetch(settings, tmp_path / "out", tmp_path / "fetched.json", {"me/theirs": {**seen, "from": "mirror"}})
    other = {"me/theirs": {**seen, "from": "mirror", "sha256": "0" * 64}}
    with pytest.raises(UserError, match=f"differs from the mirror's .* set {MIRROR}"):
        fetch(settings, tmp_path / "out", tmp_path / "fetched.json", other)
