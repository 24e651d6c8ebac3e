"""Imports point downwards only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "tumorxai"
# Stages in the order of the road: one may use what an earlier one has, never the other way round.
ROAD = (
    "fetch", "catalogue", "dedupe", "patients", "split", "audit", "pretrain", "probe", "train", "result", "robustness",
    "review", "explain", "search", "report",
)  # fmt: skip
LEVEL = {
    "errors": 0, "config": 1, "files": 1, "base": 2, "archives": 2, "networks": 3, "inputs": 3, "methods": 4,
    **{name: 10 + place for place, name in enumerate(ROAD)}, "certify": 29, "run": 30, "serve": 31, "tools": 32,
    "cli": 33,
    "run.commands": 33,  # a part of the command
    "explain.methods": 0,  # a table that the parameters are checked against: it imports nothing of the project
}  # fmt: skip


def level(name: str) -> int:
    """Of a module by its dotted name inside the package: its own if it has one, else its package's."""
    parts = name.split(".")
    return LEVEL.get(".".join(parts[:2]), LEVEL[parts[0]])


def imported(path: Path) -> set[str]:
    """Names of the project's modules that a file imports, anywhere in it, relative to the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            if module == "tumorxai":
                found |= {alias.name for alias in node.names}
            elif module.startswith("tumorxai."):
                found |= {f"{module.removeprefix('tumorxai.')}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("tumorxai.") for a in node.names if a.name.startswith("tumorxai.")}
    return found


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda path: str(path.relative_to(SRC)))
def test_imports_point_downwards(path: Path) -> None:
    parts = path.relative_to(SRC).with_suffix("").parts
    own = parts[0]
    if own == "__init__":
        return
    for name in imported(path):
        other = name.split(".")[0]
        if other.startswith("__"):
            continue
        assert level(name) <= level(".".join(parts)), f"{own} imports {other}, which is above it"
        if own == "methods" and path.stem != "__init__":
            assert other != "methods", f"{path.stem} imports another method"


@pytest.mark.parametrize(
    "package",
    ["base", "archives", "inputs", "catalogue", "dedupe", "patients", "split", "audit", "result", "certify"],
)
def test_what_needs_numpy_alone_imports_no_torch(package: str) -> None:
    modules = ["tumorxai.config", "tumorxai.files", "tumorxai.methods"]
    modules += [
        f"tumorxai.{package}.{path.stem}" for path in sorted((SRC / package).glob("*.py")) if path.stem != "__init__"
    ]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_top_of_the_package_is_small() -> None:
    assert {path.stem for path in SRC.glob("*.py")} - {"__init__"} == {"cli", "errors", "files"}
