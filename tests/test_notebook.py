"""The notebook: what a reader would run, from an empty folder to an answered question."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "demo.ipynb"


def content() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return read


def cells() -> list[str]:
    return ["".join(cell["source"]) for cell in content()["cells"] if cell["cell_type"] == "code"]


def test_it_is_a_notebook_without_outputs() -> None:
    notebook = content()
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":  # outputs would be of one machine, and pictures of images
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    text = " ".join(" ".join("".join(cell["source"]).split()) for cell in notebook["cells"])
    assert "Not a medical device, not for diagnosis" in text


@pytest.mark.parametrize("place", range(len(cells())))
def test_a_cell_is_plain_python(place: int) -> None:
    """Without commands that only a notebook has, so that the test below runs what a notebook runs."""
    compile(cells()[place], f"cell {place}", "exec")


@pytest.mark.slow
def test_it_runs_from_the_first_cell_to_the_last(tmp_path: Path) -> None:
    (tmp_path / "cells.py").write_text("\n\n".join(cells()), encoding="utf-8")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    for role in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{role}_NAME": "notebook", f"GIT_{role}_EMAIL": "notebook@localhost"}
    run = [sys.executable, "cells.py"]
    done = subprocess.run(run, cwd=tmp_path, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    assert "The split: patients apart" in done.stdout
    assert "metrics/finetune.json" in done.stdout
    assert "already in the data: a copy of image 0" in done.stdout
    assert (tmp_path / "project/report/index.html").stat().st_size > 100_000
