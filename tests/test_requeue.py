"""A cluster takes a job off its node, and puts it on again: the script of docs/howto/gpu.md, in real processes."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks import kills
from benchmarks.sharing import only

from tests.test_pipeline import change, dvc, environment, make_project, ran
from tumorxai.files import read_json

ROOT = Path(__file__).resolve().parents[1]
JOB = "4711"


def script() -> str:
    """The job's script, without what belongs to one cluster."""
    page = (ROOT / "docs/howto/gpu.md").read_text(encoding="utf-8")
    found = re.search(r"```sh\n(#!/bin/bash\n#SBATCH.*?)```", page, re.DOTALL)
    assert found
    lines = [line for line in found[1].splitlines() if not line.startswith(("source ", "export "))]
    assert len(lines) == len(found[1].splitlines()) - 2
    return "\n".join(lines) + "\n"


def submit(project: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the job; what it asks of the cluster is added to ``log`` as well."""
    tools = project.parent / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "scontrol").write_text('#!/bin/sh\necho "scontrol $*"\n')
    (tools / "dvc").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dvc "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    (project.parent / "job.sh").write_text(script())
    own = environment(project, SLURM_JOB_ID=JOB, SHELL="/bin/sh")  # which may stay between DVC and the stage
    own["PATH"] = f"{tools}:{own['PATH']}"
    with log.open("wb") as words:
        return subprocess.Popen(
            ["bash", str(project.parent / "job.sh")], cwd=project, env=own, stdout=words, stderr=subprocess.STDOUT
        )


@pytest.mark.slow
def test_a_job_that_is_told_to_stop_is_queued_again_and_ends_as_if_undisturbed(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = make_project(tmp_path / "whole")
    change(whole, pretrain={"epochs": 50, "checkpoint_epochs": 1})
    only(whole, "inputs", "pretrain")
    shutil.copytree(toy, whole / "data")
    (whole / "data/audited.json").write_text("{}")
    dvc(whole, "repro", "inputs")
    project, log = tmp_path / "job" / "project", tmp_path / "log"
    shutil.copytree(whole, project, symlinks=True)
    assert ran(dvc(whole, "repro")) == ["pretrain"]

    job = submit(project, log)
    while not kills.checkpointed(project):
        assert job.poll() is None, log.read_text()
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)  # the batch script alone, as `--signal=B:TERM` has it
    assert job.wait(120) != 0
    said = log.read_text()
    assert re.search(r"stopped by a signal after step \d+ of \d+; the checkpoint is kept", said)
    assert said.rstrip().endswith(f"scontrol requeue {JOB}")
    assert "Traceback" not in said
    assert not (project / "models/encoder.safetensors").exists()
    kept = kills.checkpointed(project)
    assert kept

    job = submit(project, log)
    assert job.wait(300) == 0, log.read_text()
    assert ran(log.read_text()) == ["pretrain"]
    assert "scontrol" not in log.read_text()
    assert read_json(project / "models/pretrain_run.json")["resumed_from_step"] == kept
    for name in ("models/encoder.safetensors", "details/pretrain.json", "metrics/pretrain.json"):
        assert (project / name).read_bytes() == (whole / name).read_bytes(), name
