"""What the doctor says of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tumorxai.tools import doctor


@pytest.mark.parametrize(("content", "whole"), [("", False), ('{"data/x": {"wri', False), ("{}", True), (None, True)])
def test_a_list_of_dvcs_that_a_kill_cut_off_is_told(tmp_path: Path, content: str | None, whole: bool) -> None:
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / "dvc.yaml").touch()
    if content is not None:
        (tmp_path / ".dvc/tmp/rwlock").write_text(content)
    found = doctor._dvc(tmp_path)
    assert (found.state != "fail") == whole
    assert whole or found.advice.startswith(f"remove {tmp_path / '.dvc/tmp/rwlock'} while no `dvc` runs")
