"""A flipped bit shows, in the workspace and in the cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tumorxai.errors import UserError
from tumorxai.tools.verify import verify

PIPELINE = """
stages:
  make:
    cmd: mkdir -p b/c && printf 1 >b/é.txt && printf 2 >b/c/x && printf 3 >a && printf 4 >m.json
    outs: [a, b]
    metrics: [m.json: {cache: false}]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    for command in (["init", "--no-scm", "-q"], ["repro", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True)
    return tmp_path


def flip(path: Path) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
def test_bytes_are_those_recorded_or_named(project: Path) -> None:
    assert verify(project) == []
    for name in ("a", "b/c/x", "m.json"):
        flip(project / name)
        (wrong,) = verify(project)
        assert (wrong.path, wrong.found) == (name.split("/")[0], "other bytes than dvc.lock records")
        flip(project / name)
    objects = [path for path in (project / ".dvc/cache/files/md5").rglob("*") if path.is_file()]
    assert len(objects) == 4  # a, the two files in b, and the list of them
    for path in objects:
        flip(path)
        assert str(path) in [wrong.path for wrong in verify(project)]
        flip(path)
    objects[0].unlink()  # a remote may have it
    assert verify(project) == []
    (project / "a").unlink()
    assert [(wrong.path, wrong.found) for wrong in verify(project)] == [("a", "nothing")]


def test_a_project_that_has_not_run_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a pipeline that has run"):
        verify(tmp_path)
    (tmp_path / "dvc.lock").write_text("[")
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    with pytest.raises(UserError, match="no lock of DVC's"):
        verify(tmp_path)
