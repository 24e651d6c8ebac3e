"""The API keeps what its schema promises, whatever it is asked; docs/page.md has the command for thousands of cases."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_api_keeps_its_schema(server: str, tmp_path: Path) -> None:
    command = [
        f"{Path(sys.executable).parent}/schemathesis", "run", f"{server}/api/openapi.json", "--max-examples", "5",
        "--phases", "coverage,fuzzing", "--suppress-health-check", "all", "--seed", "1",
    ]  # fmt: skip
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.serve.hooks", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "generated" in done.stdout
