"""Files are whole or absent."""

from __future__ import annotations

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
