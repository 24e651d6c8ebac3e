"""A project for experiments beside an installed package: the pipeline, its scripts, parameters and presets.

The wheel holds these files under ``tumorxai/project`` (pyproject.toml, force-include); a clone is itself such a folder.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import yaml

from tumorxai.errors import UserError
from tumorxai.files import write_text
from tumorxai.inputs import git
from tumorxai.tools import presets

PACKAGE = Path(__file__).resolve().parents[1]
FILES = ("dvc.yaml", "params.yaml", "stages", "plots/dvc.yaml", "presets", ".dvcignore", ".gitignore")
PRESET = "demo"
# What is to be done before the first run, by how git holds the project: experiments are compared with a commit.
COMMIT = 'git add -A . && git commit -m "A new project" && '
NEXT = {"new": COMMIT, "within": COMMIT, "none": ""}
# Depended on where the package's code lies in the project; elsewhere provenance records it instead.
OWN_CODE = "src/"


def origin() -> Path:
    """Folder that FILES are taken from: in an installed package its own, in a clone the clone.

    Raises:
        UserError: neither is there.
    """
    for folder in (PACKAGE / "project", PACKAGE.parents[1]):
        if all((folder / name).exists() for name in FILES):
            return folder
    raise UserError(
        f"got a package at {PACKAGE} without the files of a project; expected tumorxai from a wheel or a clone; "
        "install it again"
    )


def create(folder: Path) -> str:
    """Write a project and make it a repository of git, where there is git, and of DVC.

    The parameters are those of the preset ``demo``. Within another repository of git, DVC's is a part of that; git's
    own is not made again.

    Args:
        folder: absent or empty.

    Returns:
        How git holds it: ``new``, ``within`` another repository, or ``none`` without git.

    Raises:
        UserError: it is no empty folder, or the package lacks the files.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"got {folder}, which is not empty; expected a new or an empty folder; choose another name")
    source = origin()
    folder.mkdir(parents=True, exist_ok=True)
    if git.ask(folder, "rev-parse", "--is-inside-work-tree") is not None:
        held = "within"
    else:
        held = "none" if git.ask(folder, "init", "--quiet") is None else "new"
    _copy(source, folder)
    _dvc(folder, held)
    return held


def _copy(source: Path, made: Path) -> None:
    """Put FILES into ``made``, the pipeline without what a project of its own code alone has."""
    for name in FILES:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, made / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source / name, made / name)
    pipeline = made / "dvc.yaml"
    write_text(pipeline, without_own_code(pipeline.read_text(encoding="utf-8")))
    presets.apply(PRESET, made / "presets", made / "params.yaml")


def without_own_code(text: str) -> str:
    """A ``dvc.yaml`` whose stages depend on no file of ``src/``, otherwise as it was, comments too."""
    for stage in yaml.safe_load(text)["stages"].values():
        for path in stage.get("deps", []):
            if path.startswith(OWN_CODE):
                text = text.replace(f" {path},", "")  # tests/tools/test_project.py: no other form is in use
    return text


def _dvc(made: Path, held: str) -> None:
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)  # it would print between our lines, and into our JSON
    with Repo.init(str(made), no_scm=held == "none", subdir=held == "within") as repo, repo.config.edit("repo") as own:
        own["core"] |= {"analytics": False, "check_update": False}
