"""Checkpoints of a run that was interrupted: named by what the run is, gone when it is complete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tumorxai.errors import UserError
from tumorxai.files import atomic

# Outside the declared outputs: DVC empties those before each run, and `persist` would switch its run cache off.
FOLDER = Path(".tumorxai/checkpoints")


def fingerprint(content: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that change when anything in ``content`` (JSON values) does."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers and their dictionaries; the last good checkpoint stays until the new one is whole.

    Raises:
        UserError: the disk is full or not writable.
    """
    try:
        with atomic(path) as temporary:
            torch.save(dict(state), temporary)
    except (OSError, RuntimeError) as error:  # torch's zip writer raises RuntimeError on a full disk
        raise UserError(
            f"could not write the checkpoint {path} ({error}); free some disk space and run again"
        ) from None


def load(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint without pickle's dangers; None when there is none."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def discard(path: Path) -> None:
    """Remove a checkpoint, and what a process killed while writing one left behind."""
    for file in [path, *path.parent.glob(f".{path.stem}.*")]:
        file.unlink(missing_ok=True)
