"""Unfinished work is taken up by what would have made the same, and by nothing else; none goes or stays unsaid."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
from benchmarks import kills

from tumorxai.errors import UserError
from tumorxai.files import read_json, write_text
from tumorxai.inputs import provenance, unfinished
from tumorxai.inputs.unfinished import Unfinished

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    "pretrain": "tumorxai.pretrain.pretrain",
    "finetune": "tumorxai.train.finetune",
    "labels_finetune": "tumorxai.train.cells",
}


def work(folder: Path, name: str = "finetune-1", **causes: Any) -> Unfinished:
    return Unfinished(folder, name, {"src/a.py": "aa", "torch": "2.1", "threads": 2, **causes})


def begun(one: Unfinished) -> Path:
    """A file of it, ten bytes long."""
    write_text(one.begin() / "work", "0123456789")
    return one.folder / "work"


def test_the_same_run_finds_its_work_and_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = begun(work(tmp_path))
    again = work(tmp_path)
    again.tell()
    assert again.folder / "work" == file
    assert read_json(again.folder / unfinished.ABOUT) == again.causes
    again.discard()
    assert list(tmp_path.iterdir()) == []
    again.tell()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("causes", "why"),
    [
        ({"src/a.py": "bb"}, "src/a.py changed"),
        ({"src/b.py": "bb"}, "src/b.py changed"),
        ({"torch": "2.2"}, "torch was 2.1 and is 2.2"),
        ({"threads": 1, "src/a.py": "bb"}, "src/a.py changed, threads was 2 and is 1"),
        (dict.fromkeys(("src/a.py", "src/b.py", "src/c.py", "src/d.py", "src/e.py"), "bb"), "src/c.py changed, and 2"),
    ],
)
def test_another_cause_begins_anew_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], causes: dict[str, Any], why: str
) -> None:
    file, now = begun(work(tmp_path)), work(tmp_path, **causes)
    now.tell()
    assert not (now.folder / "work").exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"finetune: begins anew and leaves the unfinished work in {file.parent}, for ")
    assert why in line
    assert file.exists()  # whoever takes the edit back goes on from it
    begun(now)
    now.discard()
    assert list(tmp_path.iterdir()) == []


def test_work_of_other_runs_stays_and_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other, old = begun(work(tmp_path, "finetune-2")), tmp_path / "0123456789abcdef.pt"
    old.write_bytes(b"0" * 3_000_000)  # as an earlier version named its checkpoints
    own = work(tmp_path)
    own.tell()
    (line,) = capsys.readouterr().err.splitlines()
    assert "unfinished work of other runs, 2 in all, 3 MB; delete what you will not go on with" in line
    begun(own)
    own.discard()
    assert other.exists()
    assert old.exists()


def _fill_the_disk(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
    with pytest.raises(UserError, match=r"could not write to .*free some disk space and run again"):
        work(folder).begin()


def test_a_full_disk_ends_in_words(tmp_path: Path) -> None:
    process = kills.CONTEXT.Process(target=_fill_the_disk, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("stage", MODULES)
def test_the_causes_are_what_the_stage_depends_on(stage: str) -> None:
    """As data/inputs/code/STAGE.json has it, but for what only calls it."""
    recorded = provenance.record(ROOT, stage, "simclr")
    for caller in (f"stages/{stage}.py", "src/tumorxai/inputs/script.py", "src/tumorxai/train/labels.py"):
        recorded["files"].pop(caller, None)
    assert provenance.running(MODULES[stage], "simclr") == recorded
    found = unfinished.causes(MODULES[stage], "simclr", threads=3)
    assert found == {**recorded["files"], **recorded["packages"], "threads": 3}


def test_an_edit_of_what_computes_is_another_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "src"
    shutil.copytree(ROOT / "src/tumorxai", copy / "tumorxai", ignore=shutil.ignore_patterns("__pycache__"))
    before = {stage: unfinished.causes(module, "simclr") for stage, module in MODULES.items()}
    monkeypatch.setattr(provenance, "INSTALLED", copy)

    def changed() -> set[str]:
        return {stage for stage, module in MODULES.items() if unfinished.causes(module, "simclr") != before[stage]}

    assert changed() == set()  # wherever the same code lies
    for name, concerned in {
        "networks/losses.py": {"pretrain"},
        "methods/byol.py": set(),
        "methods/simclr.py": {"pretrain"},
        "train/training.py": {"finetune", "labels_finetune"},
        "train/cells.py": {"labels_finetune"},
        "networks/views.py": set(MODULES),
    }.items():
        file = copy / "tumorxai" / name
        text = file.read_text()
        file.write_text(text + "\n# another\n")
        assert changed() == concerned, name
        file.write_text(text)
