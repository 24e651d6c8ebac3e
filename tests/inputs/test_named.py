"""A preset's name alone, as `dvc exp run -S preset=…` sets it, is refused."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tumorxai.errors import UserError
from tumorxai.inputs import named
from tumorxai.tools import presets

ROOT = Path(__file__).resolve().parents[2]


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "start")
    return tmp_path


def change(project: Path, old: str, new: str) -> None:
    text = (project / "params.yaml").read_text()
    assert old in text
    (project / "params.yaml").write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("name", ["sartaj", "external", "tumorxai", "firildak"])
def test_a_name_without_its_values_is_refused(project: Path, name: str) -> None:
    change(project, "preset: demo", f"preset: {name}")
    with pytest.raises(UserError, match=rf"preset {name} with none of the \d+ values.*`tumorxai preset {name} && dvc"):
        named.check(project)


def test_so_is_one_with_values_that_are_not_its_own(project: Path) -> None:
    change(project, "preset: demo", "preset: sartaj")
    change(project, "epochs: 30", "epochs: 5")
    with pytest.raises(UserError, match=r"committed demo, such as method simclr"):
        named.check(project)


def test_the_preset_itself_runs_changed_or_not(project: Path) -> None:
    named.check(project)
    presets.apply("sartaj", project / "presets", project / "params.yaml")
    named.check(project)
    change(project, "[sartajbhuvaji/brain-tumor-classification-mri]", "[phantom]")
    named.check(project)


def test_a_name_of_ones_own_is_free(project: Path) -> None:
    change(project, "preset: demo", "preset: mine")
    named.check(project)


def test_what_is_committed_was_meant(project: Path) -> None:
    change(project, "preset: demo", "preset: sartaj")
    git(project, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qam", "named")
    named.check(project)


def test_without_a_readable_commit_nothing_is_said(project: Path) -> None:
    change(project, "preset: demo", "preset: sartaj")
    written = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text("seed: [")
    git(project, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qam", "broken")
    (project / "params.yaml").write_text(written)
    named.check(project)
    shutil.rmtree(project / ".git")
    named.check(project)
