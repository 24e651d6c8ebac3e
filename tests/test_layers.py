"""Imports point downwards only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "tumorxai"
LEVEL = {
    "errors": 0, "config": 1, "files": 1, "bootstrap": 1, "presets": 2, "provenance": 2, "stage": 3, "scores": 2,
    "pictures": 2, "data": 2, "views": 2, "encoders": 2, "losses": 2, "schedules": 2, "monitors": 2, "checkpoint": 2,
    "batches": 2, "curves": 2, "distributed": 2, "probe": 2,
    "methods": 3, "export": 3, "lite0": 3,
    "view_sheet": 4, "loop": 4, "pretrain": 4, "evaluate": 4, "explain": 4, "search": 4,
    "case": 5, "report": 5, "serve": 6, "compare": 5, "papers": 6, "doctor": 5, "cli": 7,
}  # fmt: skip


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
    own = path.relative_to(SRC).with_suffix("").parts[0]
    if own == "__init__":
        return
    for name in imported(path):
        other = name.split(".")[0]
        if other.startswith("__"):
            continue
        assert LEVEL[other] <= LEVEL[own], f"{own} imports {other}, which is above it"
        if own == "methods" and path.stem != "__init__":
            assert other != "methods", f"{path.stem} imports another method"


def test_config_and_data_need_no_torch() -> None:
    modules = ["tumorxai.config", "tumorxai.files", "tumorxai.methods"]
    modules += [f"tumorxai.data.{path.stem}" for path in sorted((SRC / "data").glob("*.py")) if path.stem != "__init__"]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
