"""The explorer's map is kept for as long as the same code would draw the same."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tumorxai.base.dataset import Dataset
from tumorxai.inputs import provenance
from tumorxai.serve.explorer import CACHE, Explorer


def drawn(explorer: Explorer) -> None:
    """Wait for the map that is drawn in the background."""
    until = time.monotonic() + 120
    while explorer.map().kind != "t-SNE":
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_map_that_other_code_has_drawn_is_drawn_anew(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, vectors = Dataset.load(finished / "data"), np.load(finished / "models" / "embeddings.npy")

    def explorer() -> Explorer:
        return Explorer(tmp_path, dataset, vectors, 1000)

    first = explorer()
    assert first.map().kind == "principal components"
    drawn(first)
    (kept,) = (tmp_path / CACHE).iterdir()
    assert explorer().map().kind == "t-SNE"

    running, file = provenance.running, "src/tumorxai/serve/explorer.py"

    def edited(*asked: Any) -> dict[str, Any]:
        found = running(*asked)
        assert file in found["files"]
        return {**found, "files": {**found["files"], file: "of another content"}}

    monkeypatch.setattr(provenance, "running", edited)
    second = explorer()
    assert second.map().kind == "principal components"
    drawn(second)
    (anew,) = (tmp_path / CACHE).iterdir()
    assert anew != kept
