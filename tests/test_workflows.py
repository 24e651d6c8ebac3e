"""The workflows on GitHub: they parse, ask for few rights, and run what there is to run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import installed
from tumorxai.pretrain import loggers

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
EXPRESSION = re.compile(r"\$\{\{.*?\}\}")
UV_PROGRAM = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
EVERY = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def parse(path: Path) -> dict[str, Any]:
    """BaseLoader: YAML's own reading of the key `on` is true."""
    content: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    return content


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in parse(path)["jobs"].values():
        yield from job["steps"]


def scripts(path: Path) -> list[str]:
    return [step["run"] for step in steps(path) if "run" in step]


def targets(script: str) -> Iterator[str]:
    """What a script asks of make."""
    for line in script.splitlines():
        words = shlex.split(line) or [""]
        if words[0] == "make":
            yield from (word for word in words[1:] if "=" not in word)


def test_each_purpose_has_its_workflow() -> None:
    assert {path.stem for path in FILES} >= {"ci", "demo", "docs", "release", "weekly"}


@EVERY
def test_a_workflow_has_its_parts_and_asks_for_few_rights(path: Path) -> None:
    workflow = parse(path)
    assert workflow.keys() >= {"name", "on", "permissions", "jobs"}
    assert workflow["name"] == path.stem
    assert workflow["permissions"] == {"contents": "read"}  # more is asked for by single jobs, by name
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        assert job["timeout-minutes"]
        assert job["steps"]
        assert isinstance(job.get("permissions", {}), dict)


@EVERY
def test_an_action_is_pinned_by_its_commit(path: Path) -> None:
    for step in steps(path):
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", step["uses"]), step["uses"]


@EVERY
def test_what_make_is_asked_for_exists(path: Path) -> None:
    asked = {target for script in scripts(path) for target in targets(script)}
    assert asked <= TARGETS, asked - TARGETS
    assert asked


def test_what_make_is_asked_for_is_found() -> None:
    assert list(targets("set -e\nmake PYTHON=python check test\n")) == ["check", "test"]


@EVERY
def test_a_script_is_bash_into_which_nothing_is_pasted(path: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    for script in scripts(path):
        # A title of a pull request could be a command: what GitHub knows comes by `env`.
        assert not EXPRESSION.search(script), script
        subprocess.run([bash, "-n"], input=script, text=True, check=True)


@EVERY
def test_shellcheck_finds_nothing(path: Path) -> None:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("no shellcheck; install it to look through the scripts: `sudo apt-get install shellcheck`")
    for script in scripts(path):
        done = subprocess.run([program, "--shell=bash", "-"], input=script, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout


def test_every_python_of_the_package_is_tested() -> None:
    said = set(re.findall(r'Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    assert (
        set(parse(ROOT / ".github/workflows/ci.yml")["jobs"]["check-and-test"]["strategy"]["matrix"]["python"]) == said
    )


def test_newer_actions_and_packages_are_proposed() -> None:
    updates = parse(ROOT / ".github/dependabot.yml")["updates"]
    assert {one["package-ecosystem"] for one in updates} >= {"github-actions", "pip"}


@EVERY
def test_pull_requests_never_run_with_rights_of_the_base(path: Path) -> None:
    assert "pull_request_target" not in parse(path)["on"]


@EVERY
def test_what_make_is_asked_for_is_a_road_that_make_finds(path: Path) -> None:
    """Every call, as it stands there, run dry: make finds a rule for each file on the way, and the lines are bash."""
    for script in scripts(path):
        for line in script.splitlines():
            if line.startswith("make "):
                dry = subprocess.run(
                    ["make", "--dry-run", *shlex.split(line)[1:]], cwd=ROOT, text=True, capture_output=True, check=False
                )
                assert dry.returncode == 0, dry.stderr
                assert dry.stdout.strip()
                subprocess.run(["bash", "-n"], input=dry.stdout, text=True, check=True)


# What GitHub gives the steps, and programs that only GitHub's machines can let do their work, or that only a weekly run
# installs: these are recorded.
GIVEN = {"GITHUB_STEP_SUMMARY": "summary.md", "BASE": "HEAD", "GH_TOKEN": "none", "GH_REPO": "a/b", "NUMBER": "7"}
ELSEWHERE = ("gh", "pipx", "mlflow", "wandb", "pytest")
# uv is recorded as well, and does its work where a new environment is made, which then has the packages of this one but
# the project's own; nothing is fetched.
UV = """
case "$*" in
  "venv "*) {uv} "$@" --python {python} && for site in "$2"/lib/python3*/site-packages; do
    echo {packages} >"$site/packages.pth"
  done ;;
  "pip install --python build/fresh "*) {uv} "$@" --offline --no-deps ;;
esac
"""
REAL = ("dist",)  # what make is let do; the other calls take minutes, or an index


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone of the last commit with the files of this folder, an environment, and recorders for ELSEWHERE."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    for name in ("pyproject.toml", "CITATION.cff", "Makefile"):
        shutil.copy(ROOT / name, clone)
    (clone / ".venv").symlink_to(Path(sys.executable).parents[1])
    (tmp_path / "bin").mkdir()
    uv = UV.format(uv=UV_PROGRAM, python=sys.executable, packages=installed.packages(tmp_path / "packages"))
    for name, work in {**dict.fromkeys(ELSEWHERE, ""), "uv": uv}.items():
        recorder = tmp_path / "bin" / name
        recorder.write_text(f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >>"{tmp_path}/calls"\n{work}')
        recorder.chmod(0o755)
    return clone


def played(path: Path, checkout: Path) -> list[str]:
    """Run every step of a workflow in order, of the calls of make those of REAL alone; gives what was recorded."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    search = os.pathsep.join([str(checkout.parent / "bin"), installed.outside()["PATH"]])
    env = installed.outside() | GIVEN | {"GITHUB_REF_NAME": f"v{version}", "PATH": search}
    for script in scripts(path):
        rest = "\n".join(filter(None, map(let_do, script.splitlines())))
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", rest],
            cwd=checkout, env=env, text=True, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{rest}\n{done.stdout}{done.stderr}"
    calls = checkout.parent / "calls"
    return calls.read_text().splitlines() if calls.exists() else []


def let_do(line: str) -> str:
    """A line of a script as it is played: make takes the environment as ready and finds the recorders first."""
    if not line.startswith("make "):
        return line
    if not set(targets(line)) <= set(REAL):
        return ""
    return line.replace("make ", 'make --old-file=.venv/.ready PATH="$PATH" ', 1)


@pytest.mark.slow
@EVERY
def test_every_step_runs(path: Path, checkout: Path) -> None:
    """As GitHub runs it, in a clone: make does its work elsewhere, and neither GitHub nor the index is asked."""
    calls = played(path, checkout)
    summary = checkout / "summary.md"
    match path.stem:
        case "demo":
            assert calls == ["gh pr comment 7 --body-file scores.md --edit-last --create-if-none"]
            assert (checkout / "scores.md").read_text() == summary.read_text()
            assert summary.read_text().startswith("### The demo's scores against HEAD\n")
        case "release":
            bill, fresh, install, publish, release = calls
            wheel, sdist = sorted(f"dist/{file.name}" for file in (checkout / "dist").iterdir())
            assert sdist.endswith(".tar.gz")
            assert bill.startswith("uv tool run --from cyclonedx-bom==")
            assert fresh == "uv venv build/fresh"
            assert install == f"uv pip install --python build/fresh --torch-backend cpu {wheel}"
            assert publish.endswith(f" uv publish --trusted-publishing always {wheel} {sdist}")
            assert release.startswith("gh release create v")
            assert release.endswith(f" --generate-notes {wheel} {sdist}")
        case "weekly":
            install, *versions, test = calls
            assert versions == [f"{name} --version" for name in loggers.LOGGERS]
            assert install == f"uv pip install --python .venv {' '.join(loggers.LOGGERS)}"
            assert test == "pytest -rs tests/pretrain/test_loggers.py"
            assert (ROOT / test.split()[-1]).exists()
            assert summary.exists()
        case _:
            assert calls == []


@pytest.mark.slow
def test_a_tag_of_another_version_is_not_released(checkout: Path) -> None:
    citation = checkout / "CITATION.cff"
    citation.write_text(re.sub(r"^version: .*$", "version: 9.9.9", citation.read_text(), flags=re.MULTILINE))
    with pytest.raises(AssertionError, match="grep"):
        played(ROOT / ".github/workflows/release.yml", checkout)


def test_uv_knows_how_it_is_asked_to_publish() -> None:
    (asked,) = (script for script in scripts(ROOT / ".github/workflows/release.yml") if "uv publish" in script)
    told = subprocess.run([UV_PROGRAM, "publish", "--help"], text=True, capture_output=True, check=True).stdout
    for option in re.findall(r"--[a-z-]+", asked.split("uv publish")[1]):
        assert option in told
