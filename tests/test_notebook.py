"""The notebook: what a reader would run, from an empty folder to an answered question."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import installed

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


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of an environment without the package, as on Colab."""
    return installed.environment(tmp_path_factory.mktemp("environment"))


def run(python: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "cells.py").write_text("\n\n".join(cells()), encoding="utf-8")
    env = installed.outside(python)
    for role in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{role}_NAME": "notebook", f"GIT_{role}_EMAIL": "notebook@localhost"}
    return subprocess.run([str(python), "cells.py"], cwd=folder, env=env, text=True, capture_output=True, check=False)


@pytest.mark.slow
def test_without_the_package_it_asks_for_a_wheel(python: Path, tmp_path: Path) -> None:
    done = run(python, tmp_path)
    assert done.returncode == 1
    assert "expected the wheel of `make dist`; upload it there" in done.stderr


@pytest.mark.slow
def test_it_runs_from_the_first_cell_to_the_last(python: Path, tmp_path: Path) -> None:
    """The whole pipeline to the report, by the package that the first cell installed from the wheel beside it."""
    folder = tmp_path / "content"
    folder.mkdir()
    shutil.copy(installed.wheel(tmp_path / "built"), folder)
    done = run(python, folder)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    assert "The split: patients apart" in done.stdout
    assert "metrics/finetune.json" in done.stdout
    assert "already in the data: a copy of image 0" in done.stdout
    assert (folder / "project/report/index.html").stat().st_size > 100_000
