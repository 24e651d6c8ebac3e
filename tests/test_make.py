"""The Makefile's ways of installing."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def dry(*arguments: str) -> list[str]:
    env = {name: value for name, value in os.environ.items() if name not in ("CPU", "MAKEFLAGS", "MAKEOVERRIDES")}
    asked = ["make", "-n", "-B", *arguments]
    done = subprocess.run(asked, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def blocks(text: str) -> dict[str, str]:
    """The lines of each pinned package, by its name."""
    return {
        found.partition("==")[0]: found for found in re.findall(r"^[a-z0-9].*\n(?: .*\n)*", text, flags=re.MULTILINE)
    }


def test_without_cuda_torch_alone_goes_unchecked() -> None:
    line = next(line for line in dry("setup", "CPU=1") if line.startswith("awk "))
    made = subprocess.run(["bash", "-c", line.partition(">")[0]], cwd=ROOT, capture_output=True, text=True, check=True)
    whole, cpu = blocks((ROOT / "requirements.lock").read_text(encoding="utf-8")), blocks(made.stdout)
    assert whole["torch"].startswith(cpu["torch"].rstrip("\n"))
    assert [name for name, block in cpu.items() if "--hash" not in block] == ["torch", "torchvision"]
    assert all(cpu[name] == whole[name] for name in cpu.keys() - {"torch", "torchvision"})
    gone = whole.keys() - cpu.keys()
    assert {"triton", "nvidia-cublas"} <= gone
    assert all(re.match(r"cuda-|nvidia-|triton$", name) for name in gone)
    assert "nvidia-ml-py" in cpu  # asks a driver how busy a card is: dvclive needs it


def test_by_default_everything_is_checked() -> None:
    lines = dry("setup")
    assert any("--require-hashes -r requirements.lock" in line for line in lines)
    assert not any(line.startswith("awk ") for line in lines)


def test_programs_are_let_write_bytecode_and_wait_by_the_shell_or_by_us() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MAKE"))}
    for own, spins in ({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"):
        done = subprocess.run(
            ["make", "-f", "-", "shown"], input="include Makefile\nshown:\n\t@env\n", cwd=ROOT, text=True, check=True,
            env=env | {"PYTHONDONTWRITEBYTECODE": "1"} | own, stdout=subprocess.PIPE,
        )  # fmt: skip
        found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
        assert "PYTHONDONTWRITEBYTECODE" not in found
        assert (found["OMP_WAIT_POLICY"], found["GOMP_SPINCOUNT"]) == ("passive", spins)


def test_an_audit_that_could_not_ask_about_a_package_is_no_audit() -> None:
    """Without `--strict` pip-audit names packages that its service does not know, and ends as if all were well."""
    line = next(line for line in dry("security") if " pip-audit --requirement" in line)
    assert {"requirements.lock", "--require-hashes", "--strict"} <= set(line.split())
