"""The benchmark of a bare GPU: it runs with few packages, and goes on after a part that fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks import bare
from lightly.models.modules.heads import SimCLRProjectionHead

ROOT = Path(__file__).resolve().parents[2]
# Runs a script where nothing but a few packages, and what they need themselves, can be imported.
FEW = """
import pathlib, runpy, sys
from importlib.machinery import PathFinder

class Few(PathFinder):
    '''Finds what is installed, but for what is refused: to importlib.util.find_spec as well it is not there.'''

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {refused} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Few
sys.argv = {argv}
sys.path.insert(0, str(pathlib.Path(sys.argv[0]).parent))  # as Python does for a script
runpy.run_path(sys.argv[0], run_name="__main__")
"""
ABSENT = {"dvc", "dvclive", "kornia", "lightly", "matplotlib", "pytorch_grad_cam", "qdrant_client", "ruamel"}


def lines(refused: set[str], *arguments: str) -> list[dict[str, object]]:
    script = FEW.format(refused=refused, argv=[str(ROOT / "benchmarks/gpu.py"), *arguments])
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], env={}, cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_every_part_runs_small_on_a_bare_python() -> None:
    found = lines(ABSENT, "--small", "--seconds", "3000")
    parts = {line["part"]: line for line in found if "part" in line}
    assert parts["surroundings"]["device"] == "cpu"
    assert parts["lightly"]["skipped"] == "lightly is not installed"
    assert not [part for part in parts.values() if "failed" in part]
    for name, values in parts.items():
        rates = [value for key, value in values.items() if isinstance(value, float) and key != "seconds"]
        assert name in ("surroundings", "lightly") or min(rates) > 0
    assert set(found[-1]) == set(parts)


@pytest.mark.slow
def test_a_part_that_fails_says_so_and_the_next_one_runs() -> None:
    found = lines(ABSENT | {"sklearn", "pandas"}, "--small", "--only", "vit_cx", "views")  # pandas: fine-tuning alone
    parts = {line["part"]: line for line in found if "part" in line}
    assert "No module named 'sklearn" in str(parts["vit_cx"]["failed"])
    assert parts["views"]["at_once"]


def test_the_head_that_stands_in_is_lightlys() -> None:
    ours, theirs = bare.SimCLRProjectionHead(6, 5, 4), SimCLRProjectionHead(6, 5, 4)
    theirs.layers.load_state_dict(ours.state_dict())
    x = torch.randn(8, 6)
    assert torch.equal(ours(x), theirs(x))
