"""From a project to a bundle, by a bare Python without DVC to a result, and back into the project's cache."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.test_pipeline import change, dvc, environment, make_project, ran
from tests.tools.offline.folders import content
from tumorxai.errors import UserError
from tumorxai.tools.offline import bring_back, bundle, plan, wheels

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
MACHINE = platform.machine()
BASE = getattr(sys, "_base_executable", sys.executable)  # that the environment of the tests was made from
STAGES = ["pretrain", "embed", "linear"]


def files(name: str) -> list[tuple[str, Path]]:
    """An installed package's files, beside its commands, with their paths in the folder of packages."""
    owned = [(str(file), Path(str(file.locate()))) for file in metadata.files(name) or []]
    return [(path, place) for path, place in owned if not path.startswith("..") and place.is_file()]


def repacked(names: dict[str, str], folder: Path) -> None:
    """Wheels of installed packages, as a registry would have them."""
    folder.mkdir()
    minor = PYTHON.replace(".", "")
    for name, version in names.items():
        file = folder / f"{name.replace('-', '_')}-{version}-cp{minor}-cp{minor}-manylinux_2_17_{MACHINE}.whl"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for path, place in files(name):
                if not path.endswith(".pyc"):
                    archive.write(place, path)


def bare(folder: Path) -> Path:
    """A Python with PyTorch, torchvision, timm, NumPy, scikit-learn and what these ask for; nothing else."""
    subprocess.run([BASE, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in wheels._closure(wheels.BARE, {"python_version": PYTHON, "extra": "", "platform_machine": MACHINE}):
        try:
            tops = {Path(path).parts[0] for path, _ in files(name)}
        except metadata.PackageNotFoundError:
            continue
        for top in tops - {"__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(metadata.distribution(name).locate_file(top))))
    return folder / "bin/python"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def bundled(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two runs, with packages for this very Python."""
    folder = tmp_path_factory.mktemp("bundled")
    asked = plan.of_settings(["method=simclr,byol"], ["linear"])
    imports = wheels.imported(project, [(stage, name) for stage in STAGES for name in ("simclr", "byol")])
    repacked(wheels.needed(imports, wheels.BARE, PYTHON, MACHINE), folder / "registry")
    before = content(project)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {
            **environment(project),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(folder / "registry"),
        }.items():
            patched.setenv(name, value)
        sizes = bundle.write(project, asked, folder / "bundle", 2**30, PYTHON, MACHINE, wheels.BARE)
    assert sizes == {path: len(held) for path, held in content(folder / "bundle").items()}
    after = content(project)
    assert {path for path in after if after[path] != before.get(path)} <= {
        path for path in after if path.startswith(".dvc/") or "__pycache__" in path
    }
    return folder / "bundle"


def on_node(bundle: Path, *arguments: str, fails: bool = False) -> str:
    """What `bash run.sh` prints, with nothing of this environment's."""
    done = subprocess.run(
        ["env", "-i", f"PYTHON={bundle.parent / 'bare/bin/python'}", "OMP_NUM_THREADS=1", "bash",
         str(bundle / "run.sh"), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def result(bundled: Path) -> Path:
    bare(bundled.parent / "bare")
    said = on_node(bundled, "--minutes", "0.01")
    assert "left: simclr (pretrain, embed, linear); run again to go on" in said
    said = on_node(bundled, "--side-by-side", "2")
    assert "done: simclr, byol" in said
    said = on_node(bundled)
    assert "pretrain" not in said  # nothing is run again
    return bundled / "result"


@pytest.mark.slow
def test_a_bundle_runs_without_dvc_and_its_result_is_taken_for_dvcs_own(
    project: Path, result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """simclr has the project's parameters: it lies there afterwards. byol comes out of the cache."""
    for name, value in environment(project).items():
        monkeypatch.setenv(name, value)
    summary = json.loads((result / "summary.json").read_text())
    assert summary["node"]["torch"]
    assert (result / "byol/models/pretrain_run.json").exists()
    assert (result / "byol/metrics/linear.json").exists() is False  # the stage scores writes it
    assert not (result / "byol/data").exists()
    brought = bring_back.bring(project, result)
    assert brought.refused == {}
    assert brought.taken == {"byol": STAGES, "simclr": STAGES}
    assert (brought.here, brought.notes) == ("simclr", {})
    assert (project / "models/encoder.safetensors").read_bytes() == (
        result / "simclr/models/encoder.safetensors"
    ).read_bytes()
    assert dvc(project, "status", *STAGES).strip().splitlines()[-1] == "Data and pipelines are up to date."
    assert ran(dvc(project, "repro", "linear")) == []
    output = dvc(project, "repro", "linear", "frozen")
    assert ran(output) == ["frozen"]
    change(project, method="byol")
    assert ran(dvc(project, "repro", "linear")) == []
    assert json.loads((project / "models/encoder.json").read_text())["method"] == "byol"


def changed_copy(result: Path, folder: Path) -> Path:
    """A run of a result, by itself, to be damaged."""
    shutil.copytree(result / "simclr", folder / "simclr")
    return folder


def edit(file: Path, *keys: str, to: Any) -> None:
    held = json.loads(file.read_text())
    place = held
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    file.write_text(json.dumps(held))


@pytest.mark.slow
def test_what_does_not_fit_is_refused_and_nothing_of_it_taken(
    project: Path, result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(project).items():
        monkeypatch.setenv(name, value)
    before = content(project / "models")
    records = "simclr/stages"

    def refused(words: str, folder: Path, **options: bool) -> None:
        brought = bring_back.bring(project, folder, **options)
        assert brought.taken == {}
        assert re.search(words, brought.refused["simclr"]), brought.refused

    folder = changed_copy(result, tmp_path / "weights")
    with open(folder / "simclr/models/encoder.safetensors", "r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"!")
    refused(r"encoder\.safetensors: got [0-9a-f]{64}; expected the SHA-256", folder)

    folder = changed_copy(result, tmp_path / "data")
    edit(folder / records / "pretrain.json", "deps", "data/split.csv", to="0" * 64)
    refused(r"pretrain: got a result of data/split\.csv", folder)

    folder = changed_copy(result, tmp_path / "code")
    edit(folder / records / "linear.json", "code", "files", "stages/linear.py", to="0" * 64)
    refused(r"linear: got a result of other code \(stages/linear\.py\)", folder)

    folder = changed_copy(result, tmp_path / "params")
    text = (folder / "simclr/params.yaml").read_text()
    (folder / "simclr/params.yaml").write_text(text.replace("epochs: 2", "epochs: 0", 1))
    refused(r"epochs: got 0", folder)
    (folder / "simclr/params.yaml").write_text(text.replace("epochs: 2", "epochs: 3", 1))
    refused(r"pretrain: got a result of other pretrain than its params\.yaml has", folder)

    folder = changed_copy(result, tmp_path / "versions")
    edit(folder / records / "pretrain.json", "code", "packages", "torch", to="1.0")
    refused(r"torch 1\.0 \(here", folder)
    assert content(project / "models") == before
    brought = bring_back.bring(project, folder, other_versions=True)
    assert brought.taken == {"simclr": STAGES}
    assert "torch 1.0 (here" in brought.notes["simclr"]


@pytest.mark.slow
def test_damage_on_the_way_and_the_wrong_python_are_messages(bundled: Path, tmp_path: Path) -> None:
    subprocess.run([BASE, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    made = tmp_path / "bundle"
    shutil.copytree(bundled, made, ignore=shutil.ignore_patterns("work", "result"))
    with open(made / "plan.json", "a") as stream:
        stream.write(" ")
    assert "plan.json: got" in on_node(made, fails=True)
    shutil.copyfile(bundled / "plan.json", made / "plan.json")
    edit(made / "manifest.json", "python", to="2.7")
    assert f"got Python {PYTHON}; expected 2.7" in on_node(made, fails=True)
    edit(made / "manifest.json", "python", to=PYTHON)
    said = on_node(made, fails=True)  # a Python without packages
    assert "got a Python without" in said
    assert "torch" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_bundle_that_is_too_large_is_refused(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(project).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(wheels, "download", lambda *_: None)
    asked = plan.of_settings([], ["linear"])
    with pytest.raises(UserError, match=r"expected at most 0\.0 MiB.*the largest: project\.tar\.xz") as refused:
        bundle.write(project, asked, tmp_path / "bundle", 1000, PYTHON, MACHINE, wheels.BARE)
    assert "data/pack.npy of run" in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="expected a new folder"):
        bundle.write(project, asked, tmp_path / "there", 1000, PYTHON, MACHINE, wheels.BARE)


def test_sizes_are_read() -> None:
    assert [bundle.size(text) for text in ("64M", "1.5K", "10", "2G", "3MiB")] == [
        64 * 2**20, 1536, 10, 2**31, 3 * 2**20,
    ]  # fmt: skip
    with pytest.raises(UserError, match="such as 64M"):
        bundle.size("much")


def test_a_folder_without_a_result_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected the result folder of a runner"):
        bring_back.bring(tmp_path, tmp_path)
