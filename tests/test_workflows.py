"""The workflows on GitHub: they parse, ask for few rights, and run what there is to run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
EXPRESSION = re.compile(r"\$\{\{.*?\}\}")
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
