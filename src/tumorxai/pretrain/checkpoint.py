"""Checkpoints of a run that was interrupted: named by what the run is, gone when it is complete."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tumorxai.errors import UserError
from tumorxai.files import atomic

# Outside the declared outputs: DVC empties those before each run, and `persist` would switch its run cache off.
FOLDER = Path(".tumorxai/checkpoints")


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Turn SIGTERM (a preempted job) and SIGINT into an entry of the yielded list, to be looked at between steps."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
            with open(temporary, "rb") as stream:  # on the disk before its name is: a power cut leaves the old one
                os.fsync(stream.fileno())
    except (OSError, RuntimeError) as error:  # torch's zip writer raises RuntimeError on a full disk
        kept = "the one before it is kept; " if path.exists() else ""
        raise UserError(
            f"could not write the checkpoint {path} ({error}); {kept}free some disk space and run again"
        ) from None


def load(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint without pickle's dangers; None when there is none.

    Raises:
        UserError: the file is damaged. To start anew without a word could cost days.
    """
    for leftover in path.parent.glob(f".{path.stem}.*"):  # of a process killed while writing
        leftover.unlink()
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch itself does not look at the checksums
        if damaged is None:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return state
    except Exception as error:  # whatever broken bytes make zipfile, torch and their decoders raise
        damaged = str(error)
    raise UserError(
        f"got a damaged checkpoint {path} ({damaged}); expected one that this run wrote; "
        "delete it to start from the first epoch"
    )


def discard(path: Path) -> None:
    """Remove a checkpoint."""
    path.unlink(missing_ok=True)
