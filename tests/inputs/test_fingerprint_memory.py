"""What is remembered of a look at data outside the project: only what changed is read again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.inputs.folders import look, make, same_size_and_time
from tumorxai.archives.places import CACHE, cached
from tumorxai.inputs import fingerprint

pytestmark = pytest.mark.usefixtures("no_surroundings")


@pytest.mark.usefixtures("settled")
def test_only_what_changed_is_read(tmp_path: Path, read: list[str]) -> None:
    root = make(tmp_path / "mine")
    look(root)
    assert len(read) == 13
    read.clear()
    look(root)
    assert read == []
    same_size_and_time(root)
    (root / "labels.csv").touch()
    look(root)
    assert sorted(read) == ["0.png", "labels.csv"]
    (memory,) = cached("fingerprints").iterdir()
    size = memory.stat().st_size
    shutil.rmtree(root / "class 1/patient_1")
    look(root)
    assert memory.stat().st_size < size


def test_files_of_this_moment_are_read_again(tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "mine")
    look(root)
    look(root)
    assert len(read) == 26
    monkeypatch.setattr(fingerprint, "SETTLED", -(10**12))
    look(root)
    monkeypatch.undo()
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(fingerprint, "_read", lambda path, bar: pytest.fail("read"))
    look(root)


def damage(data: bytes) -> Iterator[bytes]:
    yield b""
    yield b"{}"
    yield data[:-1]
    yield data[:60] + bytes([data[60] ^ 1]) + data[61:]
    yield data[:-70] + bytes(70)
    yield data.replace(fingerprint.MAGIC, fingerprint.MAGIC.replace(b"2", b"0"))


@pytest.mark.usefixtures("settled")
def test_a_damaged_or_foreign_memory_is_made_again(tmp_path: Path, read: list[str]) -> None:
    root = make(tmp_path / "mine")
    before = look(root)
    (memory,) = cached("fingerprints").iterdir()
    whole = memory.read_bytes()
    for data in damage(whole):
        memory.write_bytes(data)
        read.clear()
        assert look(root) == before
        assert len(read) == 13
        assert memory.read_bytes() == whole


@pytest.mark.usefixtures("settled")
def test_a_memory_that_lies_by_its_own_check_sum(tmp_path: Path) -> None:
    """Whole, but of no whole number of records, and of none."""
    root = make(tmp_path / "mine")
    before = look(root)
    (memory,) = cached("fingerprints").iterdir()
    for payload in (b"", bytes(fingerprint.RECORD.size + 1), bytes(7)):
        memory.write_bytes(fingerprint.MAGIC + hashlib.sha256(payload).digest() + payload)
        assert look(root) == before


def test_no_place_to_remember(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "mine")
    before = look(root)
    (tmp_path / "file").touch()
    for place in ("/proc/nowhere", str(tmp_path / "file")):
        monkeypatch.setenv(CACHE, place)
        assert look(root) == before


def test_nothing_is_remembered_in_the_folder_or_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "mine")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    look(root)
    assert list((tmp_path / "project").iterdir()) == []
    assert not [path for path in root.rglob("*") if path.name.startswith(".")]


@pytest.mark.usefixtures("settled")
def test_names_are_not_remembered(tmp_path: Path) -> None:
    """Names of files may be patients'."""
    root = make(tmp_path / "mine")
    look(root)
    (memory,) = cached("fingerprints").iterdir()
    assert not [path for path in root.rglob("*") if os.fsencode(path.name) in memory.read_bytes()]


def test_two_looks_at_once(tmp_path: Path) -> None:
    """Processes that start together, again and again: each finds the same, and what they leave is whole."""
    root = make(tmp_path / "mine", folders=40)
    code = (
        "import json, sys; from tumorxai.config import PathSource; from tumorxai.inputs import fingerprint\n"
        "fingerprint.SETTLED = -(10**12)\nsource = PathSource(path=sys.argv[1], name='it')\n"
        "for number in range(20):\n"
        "    found = fingerprint.fingerprints([source], {})\n"
        "    print(json.dumps(found))\n"
        "    for path in fingerprint.cached('fingerprints').glob('[!.]*'):\n"
        "        path.unlink(missing_ok=True)\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert {line for out, _ in said for line in out.splitlines()} == {json.dumps({"local/it": look(root)}).encode()}
    assert not [path for path in cached("fingerprints").iterdir() if path.name.startswith(".")]


@pytest.mark.usefixtures("settled")
def test_a_look_grows_with_the_folder_and_no_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: dict[str, int] = {}
    real = {"scandir": os.scandir, "open": open}

    def counting(which: str) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            calls[which] = calls.get(which, 0) + 1
            return real[which](*arguments, **more)

        return call

    for folders in (10, 20, 40):
        root = make(tmp_path / f"{folders} folders", folders)
        look(root)
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", counting("scandir"))
            patch.setattr("builtins.open", counting("open"))
            calls.clear()
            look(root)
        assert calls.get("open", 0) == 0  # pathlib reads the memory by io.open
        assert calls["scandir"] == folders + 4  # each once: these, two classes, the root and whether that is empty
