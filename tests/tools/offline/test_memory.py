"""How many runs start beside each other."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tumorxai.tools.offline import memory
from tumorxai.tools.offline.memory import SETTLE, Slots


def test_a_number_is_kept_to() -> None:
    slots = Slots(2)
    assert [slots.free(running) for running in (0, 1, 2, 3)] == [True, True, False, False]


def test_as_many_start_as_the_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 bytes 10 are taken by others, and a run takes 20: the fourth would leave too little for a fifth."""
    now, running = [0.0], [0]
    monkeypatch.setattr(memory.os, "cpu_count", lambda: 64)
    slots = Slots(0, lambda: (100 - 10 - 20 * running[0], 10 + 20 * running[0]), lambda: now[0])
    started = []
    for _ in range(20):
        if slots.free(running[0]):
            running[0] += 1
            started.append(now[0])
        now[0] += SETTLE / 2
    # A free 30 = 1.5 x 20 is needed: 70 with one, 50 with two, 30 with three running, 10 with four.
    assert running[0] == 4
    assert all(later - earlier >= SETTLE for earlier, later in pairwise(started))


def test_one_run_always_starts_and_no_more_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.os, "cpu_count", lambda: 2)
    now = [0.0]
    slots = Slots(0, lambda: (0, 100), lambda: now[0])
    assert slots.free(0)
    now[0] += 2 * SETTLE
    slots = Slots(0, lambda: (10**9, 0), lambda: now[0])
    assert slots.free(0)
    now[0] += 2 * SETTLE
    assert slots.free(1)
    now[0] += 2 * SETTLE
    assert not slots.free(2)


def test_the_machines_memory_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    free, used = memory.memory()
    assert free > 0
    assert used > 0


def test_the_visible_card_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By its driver's tool, which says mebibytes; where it fails, the machine's memory counts."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\n[ "$1" = --id=3 ] && echo "81000, 559"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    assert memory.memory() == (81000 * 2**20, 559 * 2**20)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert memory.memory() != (81000 * 2**20, 559 * 2**20)
