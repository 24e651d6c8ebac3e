"""Checkpoints: whole or refused, on a full disk as well."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from benchmarks import kills

from tumorxai.errors import UserError
from tumorxai.networks import checkpoint


def _fill_the_disk(path: Path, limit: int) -> None:
    """Write a small checkpoint, then a large one under a limit that stands for a full disk."""
    checkpoint.save(path, {"weights": torch.zeros(10), "step": 1})
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with pytest.raises(UserError, match="the one before it is kept; free some disk space"):
        checkpoint.save(path, {"weights": torch.zeros(1_000_000), "step": 2})


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    process = kills.CONTEXT.Process(target=_fill_the_disk, args=(tmp_path / "a.pt", 100_000))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
    state = checkpoint.load(tmp_path / "a.pt")
    assert state is not None
    assert state["step"] == 1


@pytest.mark.parametrize("damage", ["cut short", "one byte", "empty"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"weights": torch.arange(1000), "step": 1})
    content = bytearray(path.read_bytes())
    if damage == "one byte":
        content[content.index(torch.arange(100, 104).numpy().tobytes())] ^= 1
    path.write_bytes({"cut short": content[:2000], "empty": b""}.get(damage, content))
    with pytest.raises(UserError, match=r"damaged checkpoint .*a\.pt.*delete it to start from the first epoch"):
        checkpoint.load(path)


def test_what_a_killed_process_left_behind_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".a.123.tmp.pt").write_bytes(b"half")
    assert checkpoint.load(tmp_path / "a.pt") is None
    assert not list(tmp_path.iterdir())
