"""What is read is of this run, or is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from tumorxai.errors import UserError
from tumorxai.files import write_text
from tumorxai.inputs import identity, stage

PIPELINE = {
    "stages": {
        "split": {"outs": ["data/split.csv"]},
        "train": {"deps": ["data/split.csv"], "outs": ["details/train.json", "plots"]},
        "report": {"deps": ["details", "plots"], "outs": ["report.html"]},
    }
}


def entry(root: Path, path: str) -> dict[str, str]:
    return {"path": path, "hash": "md5", "md5": identity.on_disk(root / path)}


def record(root: Path) -> None:
    """What DVC writes at the end of `dvc repro`."""
    stages = {
        name: {
            "deps": [entry(root, path) for path in one.get("deps", []) if path == "data/split.csv"],
            "outs": [entry(root, path) for path in one["outs"] if (root / path).exists()],
        }
        for name, one in PIPELINE["stages"].items()
    }
    write_text(root / "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": stages}))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_text(tmp_path / "dvc.yaml", yaml.safe_dump(PIPELINE))
    write_text(tmp_path / "data/split.csv", "mine\n")
    write_text(tmp_path / "details/train.json", "{}\n")
    write_text(tmp_path / "plots/one/loss.tsv", "1\n")
    write_text(tmp_path / "plots/two.tsv", "2\n")
    record(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"), [("train", "data/split.csv"), ("report", "details/train.json"), ("report", "plots/one/loss.tsv")]
)
def test_a_file_of_another_run_put_in_place_is_refused(project: Path, name: str, file: str) -> None:
    ran: list[str] = []
    stage.by_hand(lambda: ran.append(name), name, project)
    write_text(project / file, "of another run\n")
    with pytest.raises(UserError, match=r"got other bytes than the stage \w+ has left.*expected.*run `dvc repro`"):
        stage.by_hand(lambda: ran.append("wrongly"), name, project)
    assert ran == [name]


def test_a_file_replaced_while_a_stage_reads_it_is_refused(project: Path) -> None:
    with pytest.raises(UserError, match=r"split\.csv replaced while a stage read it"):
        stage.by_hand(lambda: write_text(project / "data/split.csv", "late\n"), "train", project)


def test_what_nothing_is_recorded_of_is_read(project: Path) -> None:
    write_text(project / "data/split.csv", "by hand\n")
    (project / "dvc.lock").unlink()
    stage.by_hand(lambda: None, "train", project)
    record(project)
    (project / "details/train.json").unlink()
    stage.by_hand(lambda: None, "report", project)  # its reader says what is missing


def test_half_a_new_run_is_no_run(project: Path) -> None:
    identity.check_run(project, ["details"])
    write_text(project / "data/split.csv", "drawn anew\n")
    content = yaml.safe_load((project / "dvc.lock").read_text())
    content["stages"]["split"]["outs"] = [entry(project, "data/split.csv")]
    write_text(project / "dvc.lock", yaml.safe_dump(content))
    identity.check_run(project, ["data/split.csv"])
    with pytest.raises(UserError, match=r"got what train made of an older data/split\.csv"):
        identity.check_run(project, ["details"])
    (project / "details/train.json").unlink()
    identity.check_run(project, ["details"])


def test_what_a_removed_stage_has_left_counts_no_more(project: Path) -> None:
    content = yaml.safe_load((project / "dvc.lock").read_text())
    content["stages"]["zeal"] = {"outs": [{"path": "data/split.csv", "hash": "md5", "md5": "0" * 32}]}
    write_text(project / "dvc.lock", yaml.safe_dump(content))
    identity.check_run(project, ["data", "details"])


@pytest.mark.parametrize("text", ["[", "stages: 3\n", "stages: {split: {outs: [{hash: md5, md5: a}]}}\n"])
def test_a_lock_that_is_none_is_told(project: Path, text: str) -> None:
    write_text(project / "dvc.lock", text)
    with pytest.raises(UserError, match=r"dvc\.lock: got \w+ on reading it.*git checkout dvc\.lock"):
        identity.check(project, ["details"])


def test_what_is_written_to_shows(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"1234")
    before = identity.state([tmp_path, tmp_path / "nothing"])
    assert identity.changed(before) == []
    os.truncate(file, 2)
    assert identity.changed(before) == [file]
    file.unlink()
    assert identity.changed(before) == [file]
