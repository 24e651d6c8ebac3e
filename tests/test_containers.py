"""Dockerfile, compose.yaml and the development container: what they name exists, and nothing is open to others."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.cli.parser import get_main_parser

from tumorxai import config

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


def instructions() -> list[list[str]]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]


def copied() -> list[str]:
    """Paths that the Dockerfile takes from the project's folder."""
    found = []
    for name, rest in instructions():
        if name == "COPY":
            found += [word for word in rest.split() if not word.startswith("--")][:-1]
    return found


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return content


def test_what_the_image_takes_is_there_and_reaches_the_builder() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in rules  # nothing but what is named: no data, no weights, no keys
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    assert let_in == set(copied())
    for path in copied():
        assert (ROOT / path).exists(), path


def test_the_image_has_what_the_wheel_and_the_pipeline_need() -> None:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = tables["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        *wheel["force-include"],
        *wheel["packages"],
        tables["project"]["readme"],
        *tables["project"]["license-files"],
    }
    for path in needed:
        assert any(fnmatch.fnmatch(path, given) or path.startswith(f"{given}/") for given in copied()), path


def test_the_image_runs_make_demo_without_rights() -> None:
    found = instructions()
    assert [rest for name, rest in found if name == "USER"] == ["1000"]
    assert json.loads(next(rest for name, rest in found if name == "CMD")) == ["make", "demo"]
    asked = re.findall(
        r"\bmake ([a-z-]+)", " ".join(rest for name, rest in found if name == "RUN" and "apt" not in rest)
    )
    assert asked == ["setup"]
    assert {"demo", *asked} <= TARGETS


def test_hadolint_finds_nothing() -> None:
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    program = shutil.which("hadolint", path=search)
    assert program is not None, "no hadolint; `make setup` installs it"
    done = subprocess.run([program, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_compose_publishes_for_this_machine_alone() -> None:
    services = compose()["services"]
    assert services.keys() == {"qdrant", "app"}
    ports = [port for service in services.values() for port in service["ports"]]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)
    for service in services.values():
        assert "privileged" not in service
        assert all(volume.split(":")[0] in compose()["volumes"] for volume in service["volumes"])


def test_compose_asks_for_what_there_is() -> None:
    command = compose()["services"]["app"]["command"]
    assert command[:2] == ["bash", "-c"]
    subprocess.run(["bash", "-n"], input=command[2], text=True, check=True)
    run, serve = (shlex.split(part) for part in command[2].split("&&"))
    parsed = get_main_parser().parse_args(run[1:])
    (override,) = parsed.set_param
    key, _, url = override.partition("=")
    assert key == "search.url"
    host = config.Search(url=url).url.split("/")[2].split(":")[0]
    assert host in compose()["services"]
    assert serve[:3] == ["exec", "tumorxai", "serve"]
    assert serve[serve.index("--port") + 1] == compose()["services"]["app"]["ports"][0].rsplit(":", 1)[1]


def test_the_server_is_one_that_keeps_the_encoders_fingerprint() -> None:
    version = re.fullmatch(r"qdrant/qdrant:v(\d+)\.(\d+)\.\d+", compose()["services"]["qdrant"]["image"])
    assert version is not None
    assert (int(version[1]), int(version[2])) >= (1, 16)  # docs/search.md


def development() -> dict[str, dict[str, Any]]:
    """The development containers by their folders: the one that is offered first has the name of none."""
    found = sorted((ROOT / ".devcontainer").rglob("devcontainer.json"))
    return {
        path.parent.relative_to(ROOT / ".devcontainer").as_posix(): json.loads(path.read_text(encoding="utf-8"))
        for path in found
    }


@pytest.mark.parametrize("folder", development())
def test_a_development_container_sets_up_what_make_does(folder: str) -> None:
    content = development()[folder]
    program, target, *variables = shlex.split(content["postCreateCommand"])
    assert program == "make"
    assert target in TARGETS
    assert all(variable.split("=")[0] in ("CPU", "PYTHON") for variable in variables)
    python = re.search(r"python:(\d+\.\d+)", content["image"])
    assert python is not None
    assert f"python:{python[1]}" in DOCKERFILE


def test_the_development_containers_differ_in_the_gpu_alone() -> None:
    """A container's file can take in no other, so that what both have stands twice."""
    plain, cuda = (dict(content) for content in (development()["."], development()["cuda"]))
    assert development().keys() == {".", "cuda"}
    assert plain.pop("postCreateCommand") == "make setup CPU=1"
    assert cuda.pop("postCreateCommand") == "make setup"
    assert cuda.pop("hostRequirements") == {"gpu": "optional"}
    assert plain.pop("name") != cuda.pop("name")
    assert plain == cuda
