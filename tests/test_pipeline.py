"""The pipeline itself: its lists are exact, and a real `dvc repro` on tiny data does what the README says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.intervals import outside
from tumorxai import config
from tumorxai.inputs import provenance
from tumorxai.inputs.stage import after

ROOT = Path(__file__).resolve().parents[1]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PLOTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "plots/dvc.yaml").read_text())["plots"]

METHOD_DEPENDENT = [name for name, stage in STAGES.items() if "method" in stage.get("params", [])]
METHOD_DEPENDENT += [name for name in after(STAGES, "pretrain") if name not in METHOD_DEPENDENT]
TRAINED = {"pretrain", "embed", "finetune", "supervised", "labels_finetune", "labels_supervised"}


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - {"inputs"}))
def test_a_stage_lists_every_parameter_that_its_code_reads(stage: str) -> None:
    """`params.block.field` in the script and in the files that take the whole tree."""
    listed = set(STAGES[stage].get("params", []))
    read = set()
    for file in provenance.files(ROOT, stage, "simclr"):
        read |= set(re.findall(r"\bparams\.([a-z_]+(?:\.[a-z_]+)?)", (ROOT / file).read_text()))
    fields = set(config.Params.model_fields)
    for key in read:
        block = key.split(".")[0]
        if block not in fields or block == "methods" or key.startswith(("finetune", "supervised")):
            continue
        assert block in listed or key in listed or any(item.startswith(f"{key}.") for item in listed), f"{stage}: {key}"


def test_nothing_is_trained_again_for_what_is_read_after_training() -> None:
    after = {"linear", "frozen", "calibration", "robustness", "foreign", "review", "explain", "search", "report"}
    for stage in TRAINED:
        assert not {item.split(".")[0] for item in STAGES[stage].get("params", [])} & after, stage


def make_project(folder: Path) -> Path:
    """A git repository with the project in it, set to tiny data."""
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc")
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (folder / "plots").mkdir()
    shutil.copy(ROOT / "plots/dvc.yaml", folder / "plots")
    for name in ("src", "stages", "presets"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["method"] = "simclr"
    params["data"].update(image_size=32)
    params["split"].update(train=0.7, test=0.15)
    params["data"]["phantom"].update(patients=28, slices=2, sequences=1)
    params["model"]["backbone"] = "test_resnet"
    params["pretrain"].update(epochs=2, batch_size=16, warmup_epochs=1)
    params["finetune"].update(epochs=2, batch_size=8)
    params["supervised"].update(epochs=2, batch_size=8)
    params["frozen"].update(shots=[1, 2], shot_draws=3, fractions=[0.5, 1.0], draws=2)
    params["labels"].update(fractions=[0.5], draws=1, steps=4)
    params["robustness"].update(images=8, grades=[3])
    params["foreign"].update(images=6)
    params["explain"].update(methods=["grad_cam"], classifiers=["finetuned"], images=2, scored=8, perturbed=4, steps=2)
    params["explain"].update(removals=3, draws=1, stages=1, random_labels=0)
    params["methods"] = {"simclr": {"hidden": 32}, "byol": {"hidden": 32}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for command in ("init -q", "config user.email a@b.c", "config user.name a", "add -A", "commit -qm start"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))


def environment(project: Path, **more: str) -> dict[str, str]:
    """As in an activated environment, with the project's own code."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(project / "src"), "CUDA_VISIBLE_DEVICES": "", **more}


def dvc(project: Path, *arguments: str, fails: bool = False, **more: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=project,
        env=environment(project, **more),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def ran(output: str) -> list[str]:
    """Stages that ran, without the one that looks for changes every time."""
    return [name for name in re.findall(r"Running stage '(\w+)'", output) if name != "inputs"]


def metrics(project: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((project / "metrics").glob("*.json"))}


def change(project: Path, **blocks: Any) -> None:
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for name, value in blocks.items():
        if isinstance(value, dict):
            params[name].update(value)
        else:
            params[name] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.mark.slow
def test_the_road_from_nothing_to_a_report(project: Path) -> None:
    """One scenario, because each step stands on the one before."""
    assert set(ran(dvc(project, "repro"))) == STAGES.keys() - {"inputs"}
    report = (project / "report/index.html").read_text()
    assert "not for diagnosis" in report
    assert "simulated" in report.lower()
    first = metrics(project)
    assert set(first) == {
        Path(file).name for stage in STAGES.values() for each in stage.get("metrics", []) for file in each
    }
    shown = [json.loads(content) for content in first.values()]
    assert sum(map(len, shown)) <= 60
    assert all(isinstance(value, int | float | None) for file in shown for value in file.values())  # flat
    assert json.loads((project / "details/dedupe.json").read_text())["exact_pairs"] > 0
    assert outside(project / "details") == []
    said = dvc(project, "metrics", "show")
    assert "failed" not in said
    assert max(map(len, said.splitlines())) < 400

    assert ran(dvc(project, "repro")) == []
    assert set(dvc(project, "status").split()) == {"inputs:", "always", "changed"}

    subprocess.run(["git", "add", "-A"], cwd=project, check=True)
    subprocess.run(["git", "commit", "-qm", "simclr"], cwd=project, check=True)
    tracked = subprocess.run(["git", "ls-files"], cwd=project, check=True, capture_output=True, text=True).stdout
    assert "metrics/linear.json" in tracked
    assert "data/pack.npy" not in tracked
    assert "report/index.html" not in tracked
    assert not [name for name in tracked.split() if name.endswith((".png", ".csv", ".tsv"))]

    before = (project / "params.yaml").read_text()
    change(project, frozen={"shots": [1]}, calibration={"bins": 3})
    assert ran(dvc(project, "repro")) == ["frozen", "scores", "report"]
    (project / "params.yaml").write_text(before)
    assert ran(dvc(project, "repro")) == []  # out of the run cache
    assert metrics(project) == first

    output = dvc(project, "exp", "run", "-S", "method=byol")
    assert sorted(ran(output)) == sorted(METHOD_DEPENDENT)
    difference = json.loads(dvc(project, "metrics", "diff", "--json").splitlines()[-1])
    assert isinstance(difference["metrics/pretrain.json"]["loss"]["diff"], float)
    assert "metrics/supervised.json" not in difference
    drawn = json.loads(dvc(project, "plots", "diff", "--json").splitlines()[-1])["data"]
    assert set(drawn) == {name for item in PLOTS for name in item}  # curves and confusion matrices, no picture

    output = dvc(project, "exp", "run", "-S", "method=simclr")
    assert ran(output) == []
    assert metrics(project) == first


def test_no_lock_of_a_pipeline_is_ignored_by_git(project: Path) -> None:
    """`dvc exp apply` looks beside every dvc.yaml and refuses one that is, even if there is none."""
    locks = [str(path.with_name("dvc.lock").relative_to(project)) for path in project.rglob("dvc.yaml")]
    assert "plots/dvc.lock" in locks
    done = subprocess.run(["git", "check-ignore", *locks], cwd=project, text=True, capture_output=True)
    assert (done.stdout, done.returncode) == ("", 1)


ONE_AFTER_THE_OTHER = """
import runpy, sys
for name in sys.argv[1:]:
    runpy.run_path(f"stages/{name}.py")["main"]()
"""


@pytest.mark.slow
def test_the_same_seed_gives_the_same_metrics_in_a_fresh_folder_without_dvc(project: Path, tmp_path: Path) -> None:
    """All in one process: 21 that start cost more than what they compute, and none may hang on what ran before it."""
    again = make_project(tmp_path)
    stages = [name for name in STAGES if name not in ("views", "review", "report")]  # which have no metrics
    subprocess.run(
        [sys.executable, "-c", ONE_AFTER_THE_OTHER, *stages],
        cwd=again,
        env=environment(again, TUMORXAI_CACHE=str(tmp_path / "cache")),
        check=True,
    )
    assert metrics(again) == metrics(project)


@contextmanager
def changed(project: Path, setting: dict[str, Any]) -> Iterator[None]:
    before = (project / "params.yaml").read_text()
    change(project, **setting)
    try:
        yield
    finally:
        (project / "params.yaml").write_text(before)


@pytest.mark.slow
def test_a_mistake_ends_dvc_in_one_message(project: Path) -> None:
    with changed(project, {"method": "simclear"}):
        output = dvc(project, "repro", fails=True)
    assert "expected one of" in output
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "stage", "words"),
    [
        ({"pretrain": {"epochs": -1}}, "inputs", "pretrain.epochs: got -1"),
        ({"data": {"sources": ["nobody/nothing"]}}, "fetch", "nobody/nothing"),
        ({"model": {"backbone": "resnet19"}}, "pretrain", "did you mean"),
    ],
)
def test_a_mistake_ends_a_stage_in_one_message(project: Path, setting: dict[str, Any], stage: str, words: str) -> None:
    """The script that DVC starts, by itself: nothing but the mistake is new to the test before."""
    with changed(project, setting):
        done = subprocess.run(
            [sys.executable, f"stages/{stage}.py"], cwd=project, capture_output=True, text=True,
            env=environment(project, TUMORXAI_CACHE=str(project / "cache")),
        )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_dag_is_drawn(project: Path) -> None:
    drawn = dvc(project, "dag")
    assert all(stage in drawn for stage in STAGES)
