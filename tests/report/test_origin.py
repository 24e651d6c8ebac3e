"""A run is called by the commit and the preset that it really is of."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.files import write_text
from tumorxai.report.origin import origin

PRESET = {"data": {"sources": [{"path": "/home/someone/patients"}]}, "methods": {"simclr": {"hidden": 32}}}
PARAMS = config.Params(preset="demo").model_dump() | {
    "data": config.Data().model_dump() | PRESET["data"],
    "methods": {"simclr": {"hidden": 32}, "byol": {"hidden": 32}},
}  # fmt: skip


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_text(tmp_path / "params.yaml", yaml.safe_dump(PARAMS))
    write_text(tmp_path / "presets/demo.yaml", yaml.safe_dump(PRESET))
    write_text(tmp_path / "src/code.py", "x = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "start")
    return tmp_path


def change(project: Path, **values: object) -> None:
    write_text(project / "params.yaml", yaml.safe_dump(PARAMS | values))


def test_a_clean_tree_is_its_commit(project: Path) -> None:
    write_text(project / "dvc.lock", "a run writes this\n")
    found = origin(project)
    assert found.commit_words == found.commit
    assert len(found.commit or "") == 12
    assert found.preset_words == "demo"


def test_changed_parameters_are_named_and_paths_are_not_told(project: Path) -> None:
    change(project, seed=7, data=PARAMS["data"] | {"sources": [{"path": "/home/other/patients"}]})
    found = origin(project)
    assert found.commit_words == f"{found.commit} with uncommitted changes (data.sources changed; seed: 0 -> 7)"
    assert found.preset_words == "demo, changed (data.sources changed; seed: 0 -> 7)"


def test_settings_of_other_methods_do_not_count(project: Path) -> None:
    change(project, methods={"simclr": {"hidden": 32}, "byol": {"hidden": 64}})
    found = origin(project)
    assert found.preset_words == "demo"
    assert found.params == []
    assert "in what this run does not read" in found.commit_words


def test_a_preset_stands_for_the_defaults_too(project: Path) -> None:
    change(project, pretrain=PARAMS["pretrain"] | {"epochs": 3})
    assert origin(project).preset_words == "demo, changed (pretrain.epochs: 30 -> 3)"


def test_a_wrong_preset_is_named(project: Path) -> None:
    write_text(project / "presets/demo.yaml", "pretrain: {epoch: 3}\n")
    with pytest.raises(UserError, match=r"demo\.yaml is not valid:\n  pretrain\.epoch: unknown parameter"):
        origin(project)


def test_edited_and_new_code_is_named(project: Path) -> None:
    write_text(project / "src/code.py", "x = 2\n")
    write_text(project / "src/new.py", "")
    assert origin(project).commit_words.endswith("with uncommitted changes (src/code.py; src/new.py)")


def test_without_git_and_without_a_preset(tmp_path: Path) -> None:
    write_text(tmp_path / "params.yaml", yaml.safe_dump(PARAMS | {"preset": "mine"}))
    found = origin(tmp_path)
    assert found.commit is None
    assert found.commit_words == "unknown, not in a git repository"
    assert found.preset_words == "mine (no preset of that name)"
