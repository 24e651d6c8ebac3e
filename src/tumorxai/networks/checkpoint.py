"""Checkpoints of a training that may be interrupted: written whole, read without pickle, as often as time allows."""

from __future__ import annotations

import os
import signal
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tumorxai.errors import UserError
from tumorxai.files import atomic

FILE = "checkpoint.pt"  # in the folder of a run's unfinished work
SHARE = 0.02  # of the time of a training that may go into checkpoints, where no parameter says how often they come


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


def stopped(done: int, steps: int) -> UserError:
    """The end of a training that a signal has stopped after some steps, when its checkpoint is written."""
    return UserError(f"stopped by a signal after step {done} of {steps}; the checkpoint is kept; run again to go on")


class Pace:
    """Tells when the next checkpoint is due: at the first occasion, then so that they take ``SHARE`` of the time."""

    def __init__(self) -> None:
        self._next = 0.0  # of time.monotonic()

    def due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._next

    def save(self, path: Path, state: Mapping[str, Any]) -> None:
        """:func:`save`, and measure what it costs."""
        begun = time.monotonic()
        save(path, state)
        ended = time.monotonic()
        self._next = ended + (ended - begun) / SHARE


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
