"""Files are whole or absent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tumorxai import errors, files


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def fail() -> None:
        with files.atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


LEAVE = """
import os, sys
from tumorxai import files
with files.atomic(sys.argv[1]) as temporary:
    temporary.mkdir() if sys.argv[1].endswith("folder") else temporary.write_text("half")
    print(temporary, flush=True)
    sys.stdin.read() if len(sys.argv) > 2 else os._exit(9)
"""


@pytest.mark.parametrize("name", ["a.txt", "folder", "[x]*.txt"])
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert subprocess.run([sys.executable, "-c", LEAVE, str(path)], stdout=subprocess.PIPE).returncode == 9
    assert len(list(tmp_path.iterdir())) == 1
    command = [sys.executable, "-c", LEAVE, str(path), "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living:
        assert living.stdout is not None
        writing = Path(living.stdout.readline().strip())
        files.write_text(path.with_name("other"), "x")
        with files.atomic(path) as temporary:
            temporary.mkdir() if name == "folder" else temporary.write_text("whole")
            assert set(tmp_path.iterdir()) == {temporary, writing, path.with_name("other")}
        living.kill()


def test_names_of_temporary_files_are_unique(tmp_path: Path) -> None:
    with files.atomic(tmp_path / "a") as one, files.atomic(tmp_path / "a") as other:
        assert one != other
        one.touch()
        other.touch()


def test_an_old_file_of_another_machine_is_removed(tmp_path: Path) -> None:
    for age, name in ((0, ".a.00000000-1-00000000.tmp.txt"), (2 * files.DAY, ".a.11111111-1-00000000.tmp.txt")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    files.write_text(tmp_path / "a.txt", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.00000000-1-00000000.tmp.txt", "a.txt"]


def test_round_trips(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"x": np.float64(0.1), "y": np.arange(3), "z": Path("p")})
    assert files.read_json(tmp_path / "a.json") == {"x": 0.1, "y": [0, 1, 2], "z": "p"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    array = np.random.default_rng(0).random((3, 4))
    files.write_array(tmp_path / "a.npy", array)
    assert np.array_equal(files.read_array(tmp_path / "a.npy"), array)
    files.write_csv(tmp_path / "a.csv", pd.DataFrame({"x": array[0]}))
    assert np.array_equal(pd.read_csv(tmp_path / "a.csv", dtype=str)["x"].astype(float), array[0])


def test_a_pickled_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        files.read_array(tmp_path / "a.npy")


def test_a_user_error_ends_with_status_1_and_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise errors.UserError("got a; expected b; do c")

    with pytest.raises(SystemExit) as caught:
        errors.run(main)
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: got a; expected b; do c\n"
