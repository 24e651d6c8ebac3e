"""A stage's script: whose code it runs, and that ending it at once loses nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "import sys\nfrom tumorxai.inputs.script import run\n"


def execute(folder: Path, text: str, **more: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(SCRIPT + text)
    surroundings = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DVC_STAGE")}
    command = [sys.executable, "script.py"]
    return subprocess.run(
        command, cwd=folder, env={**surroundings, **more}, capture_output=True, text=True, check=False
    )


def test_an_experiment_in_a_copy_runs_the_copys_code(tmp_path: Path) -> None:
    """The installed package is the original's; what was edited there since must not run here."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for more in ({}, {"PYTHONPATH": str(ROOT / "src")}):
        done = execute(tmp_path, "import tumorxai\nrun(lambda: print(tumorxai.__file__))\n", **more)
        assert done.stdout.strip() == str(tmp_path / "src/tumorxai/__init__.py"), done.stderr


ENDINGS = """
import atexit, threading, time
def late():
    time.sleep(0.3)
    print("thread")
def main():
    atexit.register(print, "registered")
    threading.Thread(target=late).start()
    sys.stdout.write("no newline ")
    ACTION
run(main)
"""


@pytest.mark.parametrize(
    ("action", "status", "message"),
    [
        ("pass", 0, ""),
        ("raise KeyboardInterrupt", 130, "error: stopped by Ctrl-C"),
        ("from tumorxai.errors import UserError; raise UserError('got it')", 1, "error: got it"),
        ("1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_what_is_under_way_at_the_end_is_waited_for(tmp_path: Path, action: str, status: int, message: str) -> None:
    done = execute(tmp_path, ENDINGS.replace("ACTION", action))
    assert done.returncode == status
    assert done.stdout == "no newline thread\nregistered\n"
    assert message in done.stderr


def test_output_that_cannot_be_written_is_no_success(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full, a disk that is full, on this system")
    (tmp_path / "script.py").write_text(f"{SCRIPT}run(lambda: print('lost'))\n")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "script.py"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode != 0
