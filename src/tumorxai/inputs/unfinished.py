"""Unfinished work that a later run takes up, if it would have computed the same itself.

Each run keeps its own in a folder ``STAGE-RUN-CAUSES``. RUN stands for what was asked: the parameters and the data.
CAUSES stands for what else decides the result to the bit: the code, the packages and the machine. The file beside the
work names these, so that a run which does not take it up can say why.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tumorxai.errors import UserError
from tumorxai.files import read_json, write_json
from tumorxai.inputs import provenance

# Outside the declared outputs: DVC empties those before each run, and `persist` would switch its run cache off.
CHECKPOINTS = Path(".tumorxai/checkpoints")
ABOUT = "causes.json"
NAMED = 3  # causes that are told, of many


def fingerprint(content: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that change when anything in ``content`` (JSON values) does."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def causes(module: str, method: str = "", **machine: Any) -> dict[str, Any]:
    """What decides a result beside parameters and data: SHA-256 of each file, versions of packages, the machine.

    Args:
        module: what computes, as its ``__name__``.
        method: the active method, if it computes.
        machine: of the machine, and of other data, whatever the result's bits hang on.
    """
    found = provenance.running(module, method)
    return {**found["files"], **found["packages"], **machine}


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In words, what two :func:`causes` differ in: files by name, all else with both values."""
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    told = [
        f"{name} changed" if "/" in name else f"{name} was {before.get(name)} and is {now.get(name)}"
        for name in names[:NAMED]
    ]
    return ", ".join(told) + (f", and {len(names) - NAMED} more" if len(names) > NAMED else "")


@dataclass(frozen=True)
class Unfinished:
    """The work of one run.

    Attributes:
        root: folder that holds all unfinished work of a kind.
        name: the stage and the fingerprint of what was asked of it.
        causes: see :func:`causes`.
    """

    root: Path
    name: str
    causes: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where the work lies, if there is any."""
        return self.root / f"{self.name}-{fingerprint(self.causes)}"

    def begin(self) -> Path:
        """The same folder, there and with what makes the work beside it: to be called before any of it is kept.

        Raises:
            UserError: the disk is full or not writable.
        """
        try:
            if not (self.folder / ABOUT).exists():
                write_json(self.folder / ABOUT, self.causes)
        except OSError as error:
            raise UserError(
                f"could not write to {self.folder} ({error}), where unfinished work is kept; free some disk space and "
                "run again"
            ) from None
        return self.folder

    def tell(self) -> None:
        """Say on stderr what else lies there: work that is not taken up, and why, and that of other runs.

        None of it is removed: whoever takes an edit back goes on from it.
        """
        if self.folder.exists() or not self.root.is_dir():
            return
        stage = self.name.split("-")[0]
        apart = self._own()
        for folder in apart:
            about = folder / ABOUT
            why = differing(read_json(about), self.causes) if about.exists() else "it does not say what made it"
            print(
                f"{stage}: begins anew and leaves the unfinished work in {folder}, for {why}; it stays until this run "
                "is complete",
                file=sys.stderr,
            )
        others = [path for path in self.root.iterdir() if path not in apart]
        if others:
            size = sum(file.stat().st_size for path in others for file in (path, *path.rglob("*")) if file.is_file())
            print(
                f"note: {self.root} holds unfinished work of other runs, {len(others)} in all, {size / 1e6:.0f} MB; "
                "delete what you will not go on with",
                file=sys.stderr,
            )

    def discard(self) -> None:
        """Remove all work of this run, of whatever causes: it is complete."""
        for folder in self._own():
            shutil.rmtree(folder)

    def _own(self) -> list[Path]:
        return sorted(self.root.glob(f"{self.name}-*"))
