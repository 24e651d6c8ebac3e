"""`tumorxai init`: a project beside an installed package runs as a clone does."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import tumorxai
from tests import installed
from tumorxai import config
from tumorxai.cli import app
from tumorxai.errors import UserError
from tumorxai.inputs import provenance
from tumorxai.tools import project

ROOT = Path(__file__).resolve().parents[2]
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "inputs")


def stages(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return found


@pytest.fixture
def made(tmp_path: Path) -> Path:
    project.create(tmp_path / "new")
    return tmp_path / "new"


def test_a_project_is_a_clone_without_code(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == [
        ".dvc", ".dvcignore", ".git", ".gitignore", "dvc.yaml", "params.yaml", "plots", "presets", "stages"
    ]  # fmt: skip
    for name in ("stages", "presets"):
        for path in (ROOT / name).glob("*.*"):
            assert (made / name / path.name).read_bytes() == path.read_bytes()
    assert (made / "plots/dvc.yaml").read_bytes() == (ROOT / "plots/dvc.yaml").read_bytes()
    assert config.load(made / "params.yaml").preset == "demo"
    own, cloned = stages(made), stages(ROOT)
    for stage in cloned.values():
        stage["deps"] = [path for path in stage.get("deps", []) if not path.startswith("src/")]
    for stage in own.values():
        stage.setdefault("deps", [])
        assert not any(path.startswith("src/") for path in stage["deps"])
    assert own == cloned


def test_the_same_code_is_the_same_input(made: Path) -> None:
    for stage in STAGES:
        installed, cloned = (provenance.record(root, stage, "simclr") for root in (made, ROOT))
        # The clone's report depends on this file by dvc.yaml.
        extra = {"src/tumorxai/archives/sources.yaml"} if stage == "report" else set()
        assert installed["files"].keys() - cloned["files"].keys() == extra
        assert cloned["files"].items() <= installed["files"].items()
        assert installed["packages"] == cloned["packages"]


def test_dvc_knows_it_and_tells_nobody(made: Path) -> None:
    from dvc.repo import Repo

    with Repo(str(made)) as repo:
        assert repo.config["core"]["analytics"] is False
        assert {stage.name for stage in repo.index.stages} >= {"inputs", *STAGES}


def test_within_a_repository_it_is_a_part_of_that(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert project.create(tmp_path / "deep/new") == "within"
    assert (tmp_path / "deep/new/.dvc").is_dir()
    assert not (tmp_path / "deep/new/.git").exists()


def test_without_git_it_works_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project.git, "ask", lambda *_: None)
    assert project.create(tmp_path / "new") == "none"
    assert not (tmp_path / "new/.git").exists()
    assert "no_scm = True" in (tmp_path / "new/.dvc/config").read_text()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "scan.png").touch()
    for taken in (tmp_path, tmp_path / "scan.png"):
        with pytest.raises(UserError, match="not empty"):
            project.create(taken)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.png"]


def test_a_package_without_the_files_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "PACKAGE", tmp_path / "src/tumorxai")
    with pytest.raises(UserError, match="without the files of a project"):
        project.create(tmp_path / "new")


def test_the_command_says_what_comes_next(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["init", str(tmp_path / "one")])
    assert done.exit_code == 0, done.output
    assert done.output.count("\n") == 1
    assert "git commit" in done.output
    done = CliRunner().invoke(app, ["init", str(tmp_path / "two"), "--json"])
    assert json.loads(done.output) == {"folder": str(tmp_path / "two"), "git": "new"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed.wheel(tmp_path_factory.mktemp("built"))


@pytest.mark.slow
def test_the_sdist_holds_what_it_should_and_nothing_that_lies_around(built: Path) -> None:
    with tarfile.open(next(built.parent.glob("*.tar.gz"))) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    known = set(subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines())
    assert held - known == {"PKG-INFO"}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"} <= held


@pytest.mark.slow
def test_the_installed_package_alone_runs_a_pipeline(built: Path, tmp_path: Path) -> None:
    """The first stages, in an environment that has the wheel of the sdist, and no clone in sight."""
    python = installed.environment(tmp_path)

    def run(program: str, *words: str, cwd: Path = tmp_path) -> str:
        command, env = [str(python.with_name(program)), *words], installed.outside(python)
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("python", "-m", "pip", "install", "--quiet", str(built))
    package = Path(run("python", "-c", "import tumorxai; print(tumorxai.__file__)").strip()).parent
    assert package.is_relative_to(tmp_path / "venv")
    assert run("tumorxai", "--version").split()[-1] == tumorxai.__version__
    run("tumorxai", "init", "new")
    new = tmp_path / "new"
    params = yaml.safe_load((new / "params.yaml").read_text())
    params["data"] |= {
        "image_size": 32,
        "phantom": {"patients": 4, "slices": 1, "sequences": 1, "copies": 0.5, "seed": 0},
    }
    (new / "params.yaml").write_text(yaml.safe_dump(params))
    run("python", "-m", "dvc", "repro", "catalogue", cwd=new)
    assert len((new / "data/catalogue.csv").read_text().splitlines()) == 1 + 6  # 4 images and 2 copies
    assert "up to date" in run("python", "-m", "dvc", "status", "catalogue", cwd=new)
    module = package / "catalogue/catalogue.py"
    module.write_text(module.read_text() + "\n# another release\n")
    run("python", "-m", "dvc", "repro", "inputs", cwd=new)
    changed = json.loads(run("python", "-m", "dvc", "status", "catalogue", "--json", cwd=new))
    assert changed == {"catalogue": [{"changed deps": {"data/inputs/code/catalogue.json": "modified"}}]}
