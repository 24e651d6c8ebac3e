"""What runners leave of a stage beside its outputs, and how both are told apart from others."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tumorxai.files import read_json, sha256

FORMAT = 1  # of plans and of records
RECORDS = "stages"  # folder of a run's records, STAGE.json


def identity(plan: Mapping[str, Any], name: str) -> str:
    """Sixteen hexadecimal digits of what a run is: its parameters, its data, its code and how its stages are called."""
    run = plan["runs"][name]
    content = [run["params"], run["inputs"], {stage: plan["stages"][stage] for stage in run["stages"]}]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def files_of(root: Path, path: str) -> list[str]:
    """The files that a path under ``root`` is, or that lie in it, sorted; none where there is nothing."""
    if not (root / path).is_dir():
        return [path] if (root / path).is_file() else []
    return sorted(file.relative_to(root).as_posix() for file in (root / path).rglob("*") if file.is_file())


def digests(root: Path, paths: Sequence[str]) -> dict[str, str]:
    """SHA-256 of every file that paths are or hold, by its path under ``root``."""
    return {file: sha256(root / file) for path in paths for file in files_of(root, path)}


def link(file: Path, place: Path, copied: bool = False) -> None:
    """Give a file, which nobody changes in place, a second name; where the disk cannot, or if asked to, copy it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    if copied:
        shutil.copyfile(file, place)
        return
    try:
        os.link(file.resolve(), place)
    except OSError:
        shutil.copyfile(file, place)


def remove(root: Path, paths: Sequence[str]) -> None:
    """Remove files and folders."""
    for path in paths:
        if (root / path).is_dir() and not (root / path).is_symlink():
            shutil.rmtree(root / path)
        else:
            (root / path).unlink(missing_ok=True)


def keep(file: Path, files: Path) -> str:
    """Put a file into a folder under its SHA-256, once; the SHA-256."""
    name = sha256(file)
    if not (files / name).exists():
        link(file, files / name)
    return name


def finished(result: Path, stage: str, own: str) -> bool:
    """Whether a run's folder holds all that a stage left, as its record says.

    Args:
        result: of the run.
        stage: name.
        own: the run's identity: the outputs of another run of that name do not count.
    """
    path = result / RECORDS / f"{stage}.json"
    if not path.exists():
        return False
    record = read_json(path)
    same = record.get("identity") == own and record.get("format") == FORMAT
    return same and all(
        (result / file).is_file() and sha256(result / file) == name for file, name in record["outs"].items()
    )
