"""The curves that a node writes without DVC are DVCLive's, byte for byte."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tools.offline.folders import content
from tumorxai.pretrain import curves
from tumorxai.tools.offline import dvclive

POINTS = [{"loss": 1 / 3, "rank": 7.0}, {"loss": float("nan"), "rank": 1e-9}, {"loss": 2.5e10, "rank": float("inf")}]


def drawn(folder: Path, history: list[dict[str, float]], points: list[dict[str, float]]) -> dict[str, bytes]:
    with curves.Curves(folder, history) as made:
        for signals in points:
            made.add(signals)
    return content(folder)


@pytest.mark.skipif(importlib.util.find_spec("dvclive") is None, reason="DVCLive is not installed")
def test_curves_are_those_of_dvclive(tmp_path: Path, monkeypatch: Any) -> None:
    """A fresh run, and one that goes on in a folder that holds the curves of a run before."""
    for number, (history, points) in enumerate([([], POINTS), (POINTS[:1], POINTS[1:]), (POINTS, []), ([], [])]):
        for folder in ("theirs", "ours"):
            old = tmp_path / folder / str(number) / "plots/metrics/old.tsv"
            old.parent.mkdir(parents=True)
            old.write_text("step\told\n")
        theirs = drawn(tmp_path / "theirs" / str(number), history, points)
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, "dvclive", dvclive)
            ours = drawn(tmp_path / "ours" / str(number), history, points)
        assert ours == theirs
        assert ("plots/metrics/loss.tsv" in ours) == bool(history or points)
