"""What lies outside DVC's graph is an input all the same: edited data, code and packages rerun what hangs on them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.test_pipeline import dvc, environment, make_project, ran

pytestmark = pytest.mark.slow
CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")


def draw(folder: Path, first: int, count: int) -> None:
    """Images that are no copies of each other."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        pixels = np.random.default_rng(seed).integers(0, 255, (6, 6), dtype=np.uint8)
        Image.fromarray(pixels).resize((48, 48), Image.Resampling.BICUBIC).save(folder / f"{seed}.png")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for number, name in enumerate(CLASSES):
        draw(folder / name, 100 * number, 8)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, scans: Path) -> Path:
    folder = make_project(tmp_path_factory.mktemp("project"))
    sources(folder, [{"path": str(scans)}])
    return folder


def sources(project: Path, value: list[Any]) -> None:
    file = project / "params.yaml"
    params = yaml.safe_load(file.read_text())
    params["data"]["sources"] = value
    file.write_text(yaml.safe_dump(params, sort_keys=False))


def repro(project: Path, cache: Path, **more: str) -> list[str]:
    return ran(dvc(project, "repro", "split", TUMORXAI_CACHE=str(cache), **more))


def counts(project: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((project / "details/catalogue.json").read_text())["labels"]
    return found


def test_edits_of_a_folder_are_seen_and_nothing_else(project: Path, scans: Path, tmp_path: Path) -> None:
    assert repro(project, tmp_path) == ["fetch", "catalogue", "dedupe", "patients", "split"]
    for file in scans.rglob("*.png"):  # touched, and a note beside the images
        os.utime(file, (1e9, 1e9))
    (scans / "README.txt").write_text("notes")
    assert repro(project, tmp_path) == []

    for one, other in (("glioma", "aside"), ("pituitary", "glioma"), ("aside", "pituitary")):  # relabelled in place
        (scans / one).rename(scans / other)
    draw(scans / "glioma", 1000, 2)
    assert counts(project)["glioma"] == 8
    assert repro(project, tmp_path) == ["fetch", "catalogue", "dedupe", "patients", "split"]
    assert counts(project)["glioma"] == 10

    aside = scans.with_name("aside")
    scans.rename(aside)  # as a disk that is not plugged in
    assert repro(project, tmp_path) == []
    aside.rename(scans)  # the next test finds it back


def test_another_archive_in_the_mirror_is_seen(project: Path, scans: Path, tmp_path: Path) -> None:
    assert repro(project, tmp_path) == []  # the folder is back
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    archive = mirror / "someone--scans.zip"
    before = (project / "params.yaml").read_text()
    sources(project, ["someone/scans"])
    settings = {"TUMORXAI_MIRROR": str(mirror)}
    try:
        shutil.make_archive(str(archive.with_suffix("")), "zip", scans)
        assert repro(project, tmp_path, **settings)[0] == "fetch"
        draw(scans / "no_tumor", 2000, 3)
        shutil.make_archive(str(archive.with_suffix("")), "zip", scans)
        assert repro(project, tmp_path, **settings) == ["fetch", "catalogue", "dedupe", "patients", "split"]
    finally:
        (project / "params.yaml").write_text(before)


def test_another_version_of_a_package_that_computes_is_seen(project: Path, tmp_path: Path) -> None:
    """scipy, which some stages compute with; a tool of another version concerns none."""
    for name, version in (("scipy", "99.0"), ("ruff", "99.0")):
        place = tmp_path / "site" / f"{name}-{version}.dist-info"
        place.mkdir(parents=True)
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    repro(project, tmp_path)
    path = f"{project / 'src'}{os.pathsep}{tmp_path / 'site'}"
    again = repro(project, tmp_path, PYTHONPATH=path)
    assert again == ["fetch", "dedupe", "patients", "split"]  # the phantom is painted with it; decoding needs none
    record = json.loads((project / "data/inputs/code/split.json").read_text())
    assert record["packages"]["scipy"] == "99.0"
    assert repro(project, tmp_path) == []  # back: out of the run cache


def test_code_edited_while_a_stage_runs_is_noticed_by_the_next_repro(project: Path, tmp_path: Path) -> None:
    script = project / "stages/split.py"
    text = script.read_text()
    slow = "    import sys, time\n    print('here', flush=True)\n    sys.stdin.close()\n    time.sleep(4)\n"
    script.write_text(text.replace("def main() -> None:\n", f"def main() -> None:\n{slow}"))
    module = next((project / "src/tumorxai").glob("*/split.py"))
    running = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "split"], cwd=project,
        env=environment(project, TUMORXAI_CACHE=str(tmp_path)), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert running.stdout is not None
    lines = []
    for line in running.stdout:
        lines.append(line)
        if line.strip() == "here":
            module.write_text(module.read_text() + "\n# edited\n")
    assert running.wait() == 0, "".join(lines)
    assert "changed while split ran" in "".join(lines)
    assert repro(project, tmp_path) == ["split"]
    assert repro(project, tmp_path) == []
