"""What a stage computes with: nothing that counts is left out, nothing else is taken in, and no change goes unseen."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tumorxai.explain.methods import METHODS
from tumorxai.inputs import provenance
from tumorxai.report.sections import SECTIONS

ROOT = Path(__file__).resolve().parents[2]
# What the parameters are checked with reaches a stage through them, as config itself does.
CHECKED = {"tumorxai/explain/__init__.py", "tumorxai/explain/methods.py"}
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "inputs")


def names(stage: str, method: str = "simclr") -> set[str]:
    return {path.as_posix().removeprefix("src/tumorxai/") for path in provenance.files(ROOT, stage, method)}


LOADED = """
import importlib.util, json, sys
found = {}
for stage in sys.argv[1:]:
    for name in [name for name in sys.modules if name.split(".")[0] == "tumorxai"]:
        del sys.modules[name]
    spec = importlib.util.spec_from_file_location("script", f"stages/{stage}.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    own = [module for name, module in sys.modules.items() if name.split(".")[0] == "tumorxai"]
    found[stage] = [module.__file__ for module in own if module.__file__]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_all_that_is_really_imported_is_there() -> None:
    """An independent look: Python itself says what each stage's script has loaded."""
    command = [sys.executable, "-c", LOADED, *STAGES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for stage, paths in json.loads(done.stdout.splitlines()[-1]).items():
        loaded = {Path(file).relative_to(ROOT / "src").as_posix() for file in paths}
        listed = {path.as_posix().removeprefix("src/") for path in provenance.files(ROOT, stage, "simclr")}
        inits = {file for file in loaded if file.endswith("__init__.py")}
        empty = {file for file in inits if len(ast.parse((ROOT / "src" / file).read_text()).body) == 1}  # a docstring
        assert loaded - provenance.APART - CHECKED - empty <= listed, stage


def test_a_stage_hangs_on_its_own_code_alone() -> None:
    pretrain, supervised = names("pretrain"), names("supervised")
    assert {
        "stages/pretrain.py",
        "pretrain/loop.py",
        "networks/losses.py",
        "methods/__init__.py",
        "methods/simclr.py",
    } <= pretrain
    assert "methods/byol.py" not in pretrain
    assert "methods/byol.py" in names("pretrain", "byol")
    assert not {name for name in supervised if name.startswith(("methods/", "explain/", "report/", "pretrain/"))}
    sections = {f"report/section_{name}.html.j2" for name in SECTIONS}
    assert sections | {"report/template.html.j2", "report/style.css", "report/claim.md.j2"} <= names("report")
    explain = names("explain")
    assert {
        "explain/methods.py",
        *(f"explain/{row.function.split(':')[0].split('.')[-1]}.py" for row in METHODS.values()),
    } <= explain
    assert "archives/sources.yaml" not in names("fetch")  # editing a note must not fetch again


def test_only_packages_that_compute_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name}-1.0+cpu")
    used = provenance.files(ROOT, "pretrain", "simclr")
    found = provenance.packages(ROOT, used)
    assert {"torch", "timm", "lightly", "numpy"} <= found.keys()
    assert not {"matplotlib", "pandas", "tqdm", "pydantic"} & found.keys()
    assert found["torch"] == "torch-1.0"  # a build of the same release is no other input
    assert "torch" not in provenance.packages(ROOT, provenance.files(ROOT, "dedupe", "simclr"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    provenance.write(tmp_path, "simclr")
    return tmp_path


def test_records_say_the_same_wherever_the_project_lies(project: Path, tmp_path: Path) -> None:
    for stage in STAGES:
        text = (project / provenance.RECORDS / f"{stage}.json").read_text()
        assert json.loads(text) == provenance.record(ROOT, stage, "simclr")
        assert str(tmp_path) not in text


def test_an_edit_changes_the_stages_that_it_concerns(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(provenance.changed(project, stage, "simclr") for stage in STAGES)
    file = project / "src/tumorxai/networks/losses.py"
    file.write_text(file.read_text() + "\n# another\n")
    concerned = {stage for stage in STAGES if provenance.changed(project, stage, "simclr")}
    assert concerned == {"pretrain", "views"}
    assert provenance.changed(project, "pretrain", "simclr") == ["src/tumorxai/networks/losses.py"]
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == "scikit-learn" else real(name))
    concerned = {stage for stage in STAGES if "scikit-learn" in provenance.changed(project, stage, "simclr")}
    assert {"linear", "audit", "explain"} <= concerned
    assert not {"pretrain", "finetune", "fetch", "report"} & concerned


def test_every_stage_depends_on_its_record_in_dvc_yaml() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert sorted(set(stages) - {"inputs"}) == STAGES
    for name in STAGES:
        assert f"{provenance.RECORDS}/{name}.json" in stages[name]["deps"]
