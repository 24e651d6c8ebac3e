"""Many images at once are answered as one by one, from wherever they come, and an interrupted call is resumed."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.archives import scanner
from tests.tolerance import TEST_RESNET
from tumorxai.archives import dicom, nifti
from tumorxai.archives.archives import UnreadableError
from tumorxai.errors import UserError
from tumorxai.inputs import provenance
from tumorxai.run import batch
from tumorxai.run.batch import File
from tumorxai.run.case import Workspace


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """70 images of the pack, more than one batch, in two folders, with what is no image."""
    pack = np.load(finished / "data" / "pack.npy")
    where = tmp_path / "scans"
    for i in range(70):
        path = where / ("b" if i % 2 else "a") / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pack[i, 0]).save(path)
    (where / "notes.txt").write_text("seen on Monday")
    (where / "a" / "broken.png").write_bytes(b"no image")
    (where / ".hidden").mkdir()
    shutil.copy(where / "a" / "00.png", where / ".hidden" / "00.png")
    os.mkfifo(where / "b" / "pipe.png")
    return where


def test_a_folder_a_zip_and_a_pattern_are_the_same_images(folder: Path, tmp_path: Path) -> None:
    listed = batch.files([folder])
    assert len(listed) == 71
    assert listed[0] == File(str(folder / "a" / "00.png"), folder / "a" / "00.png")
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        for file in listed:
            archive.write(file.path, file.path.relative_to(folder))
        archive.writestr("__MACOSX/a/._00.png", b"")
    zipped = batch.files([tmp_path / "scans.zip"])
    assert [file.inside for file in zipped] == [file.path.relative_to(folder).as_posix() for file in listed]
    assert batch.files([folder / "*" / "*0.png"]) == [file for file in listed if file.name.endswith("0.png")]
    assert batch.files([folder, folder / "a"]) == listed  # each once


@pytest.mark.parametrize("name", ["empty", "*.nothing"])
def test_nothing_to_ask_about_is_a_message(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="in which there is no image"):
        batch.files([tmp_path / name])


def test_answers_are_those_given_one_by_one(finished: Path, folder: Path, tmp_path: Path) -> None:
    asked = batch.files([folder])
    found = batch.predict(asked, batch.Run(finished))
    assert [row["image"] for row in found] == [file.name for file in asked]
    (broken,) = [row for row in found if "error" in row]
    assert "broken.png, which cannot be read (no image of a known format" in broken["error"]
    opened = Workspace.open(finished)
    for place in (0, 40, 69):
        row = next(row for row in found if row["image"].endswith(f"{place:02}.png"))
        wanted = batch.described(opened.predict(opened.read(Path(row["image"]).read_bytes())))
        assert row["copy_of"] == wanted["copy_of"]
        assert row["predicted"] == wanted["predicted"]
        assert row["probabilities"] == pytest.approx(wanted["probabilities"], abs=10 * TEST_RESNET)
    batch.write(tmp_path / "table.csv", found)
    table = pd.read_csv(tmp_path / "table.csv")
    assert len(table) == 71
    assert table["error"].notna().sum() == 1
    assert table.filter(like="p:").sum(axis=1).round(6).isin([1, 0]).all()
    assert table["copy_of"].notna().sum() == 70
    without = batch.predict(asked[:3], batch.Run(finished, copies=False))
    assert [row["copy_of"] for row in without] == [None] * 3


@pytest.mark.slow
def test_an_interrupted_call_goes_on(
    finished: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    running = provenance.running
    asked, part = batch.files([folder]), tmp_path / "table.csv.part"

    class Stops(batch.Run):
        calls = 0

        def answers(self, *arguments: Any) -> list[dict[str, Any]]:
            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().answers(*arguments)

    with pytest.raises(KeyboardInterrupt):
        batch.predict(asked, Stops(finished, copies=False), part)
    kept = part.read_text().splitlines()
    assert len(kept) == 1 + batch.BATCH - 1  # of the first batch, without the broken image
    part.write_text("\n".join(kept) + '\n{"image": "cut of')  # as a kill may leave it
    shutil.copy(asked[5].path, asked[3].path)  # another image by now

    class Counts(batch.Run):
        images = 0

        def answers(self, pixels: Any, copies: Any) -> list[dict[str, Any]]:
            self.images += len(pixels)
            return super().answers(pixels, copies)

    counting = Counts(finished, copies=False)
    found = batch.predict(asked, counting, part)
    assert counting.images == 71 - 1 - len(kept[1:]) + 1
    assert found[3]["probabilities"] == pytest.approx(found[5]["probabilities"], abs=10 * TEST_RESNET)
    other = Counts(finished)  # it looks for copies: other answers, so that none is taken over
    batch.predict(asked, other, part)
    assert other.images == 70
    assert json.loads(part.read_text().splitlines()[0])["predictor"] == other.fingerprint
    said = capsys.readouterr().err
    assert "begins anew without the 70 answers that it held, for another run or classifier gave them" in said
    file = "src/tumorxai/run/case.py"
    monkeypatch.setattr(provenance, "running", lambda *asked: _edited(running(*asked), file))
    newer = Counts(finished)
    batch.predict(asked, newer, part)
    assert newer.images == 70
    assert f"begins anew without the 70 answers that it held, for {file} changed" in capsys.readouterr().err


def _edited(record: dict[str, Any], file: str) -> dict[str, Any]:
    assert file in record["files"]
    return {**record, "files": {**record["files"], file: "of another content"}}


def test_a_classifier_alone(finished: Path, folder: Path, tmp_path: Path) -> None:
    for ending in ("safetensors", "json"):
        shutil.copy(finished / "models" / f"finetuned.{ending}", tmp_path / f"alone.{ending}")
    found = batch.predict(batch.files([folder / "b"]), batch.Alone(tmp_path / "alone.safetensors", "pad"))
    opened = Workspace.open(finished)
    raw = opened.classifier.probabilities(opened.case(1).pixels[None])[0]
    assert found[0].keys() == {"image", "sha256", "predicted", "uncalibrated_probabilities"}
    shares = list(found[0]["uncalibrated_probabilities"].values())
    np.testing.assert_allclose(shares, raw, atol=10 * TEST_RESNET)
    batch.write(tmp_path / "table.csv", found)
    assert [name for name in pd.read_csv(tmp_path / "table.csv") if name.startswith("uncalibrated_p:")]


def test_names_are_safe_and_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No formula for a spreadsheet, nothing that steers a terminal, and two files stay two."""
    monkeypatch.chdir(tmp_path)
    given = [Path("=1+1.png"), Path("a\x1b[2J.png"), Path("a\x07[2J.png")]
    for path in given:
        path.write_bytes(b"no image")
    found = batch.files([*given, given[1]])
    assert [file.name for file in found] == ["_=1+1.png", "a\ufffd[2J.png", "a\ufffd[2J~2.png"]
    assert [file.path for file in found] == given


def test_of_scans_the_middle_slice_is_asked_about(tmp_path: Path) -> None:
    """A DICOM file of several frames, without an ending, a NIfTI volume and one that is damaged."""
    (tmp_path / "IM0001").write_bytes(scanner.dicom(np.stack([scanner.brain(seed) for seed in range(5)])))
    (tmp_path / "a.nii.gz").write_bytes(scanner.volume())
    (tmp_path / "cut.dcm").write_bytes(scanner.dicom()[:-900])
    one, other, cut = batch.files([tmp_path / name for name in ("IM0001", "a.nii.gz", "cut.dcm")])
    assert batch.contents(one) == dicom.picture((tmp_path / "IM0001").read_bytes(), 2)
    assert batch.contents(other) == nifti.pictures((tmp_path / "a.nii.gz").read_bytes(), 1)[0][1]
    with pytest.raises(UnreadableError, match="cannot be decoded"):
        batch.contents(cut)


def test_folders_and_zips_give_what_a_run_would_take_and_name_the_rest(tmp_path: Path) -> None:
    """A scan without an ending and a linked folder are taken; links to nowhere and out of it are refused by name."""
    where = tmp_path / "mine"
    (where / "in").mkdir(parents=True)
    (tmp_path / "store").mkdir()
    Image.new("L", (20, 20)).save(tmp_path / "store" / "a.png")
    (where / "in" / "IM0001").write_bytes(scanner.dicom())
    (where / "in" / "old.zip").write_bytes(b"PK")
    (where / "labels.csv").write_text("file,label\n")
    (where / "notes.txt").write_text("x")
    (where / "empty").mkdir()
    (where / "link").symlink_to(tmp_path / "store")
    (where / "lost.png").symlink_to("nowhere")
    (where / "out.png").symlink_to(tmp_path / "store" / "a.png")
    said: list[str] = []
    asked = batch.files([where], said)
    assert [(file.path.relative_to(where).as_posix(), bool(file.refused)) for file in asked] == [
        ("in/IM0001", False), ("link/a.png", False), ("lost.png", True), ("out.png", True),
    ]  # fmt: skip
    assert batch.contents(asked[0]) == dicom.picture(scanner.dicom())
    with pytest.raises(UnreadableError, match="leads nowhere"):
        batch.contents(asked[2])
    for words in ("archives inside", "in/old.zip", "followed: link", "no images, passed over"):
        assert words in " ".join(said)
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for name in ("in/IM0001", "in/old.zip", "labels.csv"):
            archive.write(where / name, name)
    said.clear()
    zipped = batch.files([tmp_path / "mine.zip"], said)
    assert [file.inside for file in zipped] == ["in/IM0001"]
    assert batch.contents(zipped[0]) == batch.contents(asked[0])
    assert "in/old.zip" in " ".join(said)
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("old.zip", b"PK")
    with pytest.raises(UserError, match=r"no image.*archives inside.*old\.zip"):
        batch.files([tmp_path / "none.zip"])
