"""Files are whole or absent."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tumorxai import errors, files
from tumorxai.errors import ChangedError, UserError
from tumorxai.files import Rows, write_array


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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "got no .*expected a JSON object and seed; run it"),
        (b"", "Expecting value"),
        (b'{"seed": 1', "delimiter"),
        (b"[1]", "got a JSON list"),
        (b'{"other": 1}', "got no seed"),
        (b'{"seed": NaN}', "the number NaN"),
        (b'{"seed": "\xff"}', "decode"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_json_that_is_not_what_was_written_is_told_in_words(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.json.*{words}|{words}"):
        files.read_json(tmp_path / "a.json", "seed", remedy="run it")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "got no "),
        (b"", "an empty file"),
        (b"x,y\n1,2\n3,4", "cut off"),
        (b"x\n1\n", "got no column y"),
        (b"x,y\n1,2,3\n", "more values than there are columns"),
        (b"x,y\n1,2\n1,2,3\n", "Expected 2 fields"),
        (b'x,y\n1,"2\n', "EOF inside string"),
        (b"x,y\n1,\xff\n", "decode"),
    ],
)
def test_a_table_that_is_not_what_was_written_is_told_in_words(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=rf"{words}.*; expected a table of comma-separated values|{words}.*a\.csv"):
        files.read_csv(tmp_path / "a.csv", "x", "y")


def test_an_array_that_is_not_what_was_written_is_told_in_words(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with pytest.raises(UserError, match=r"got no .*expected an array float32 \(3, any\); run `dvc repro`"):
        files.read_array(path, np.float32, (3, None))
    files.write_array(path, np.ones((3, 4), dtype=np.float32))
    whole = path.read_bytes()
    assert files.read_array(path, np.float32, (3, None)).shape == (3, 4)
    for kind, shape in ((np.uint8, None), (None, (2, 4)), (None, (3, 4, 1))):
        with pytest.raises(UserError, match=r"got float32 \(3, 4\)"):
            files.read_array(path, kind, shape)
    huge = whole.replace(b"(3, 4)", b"(9999999999, 9999999999)")[: len(whole)]
    for content in (b"", whole[:20], whole[:-1], whole + b"x", b"PK\3\4" + whole, huge):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.npy: got .*expected an array"):
            files.read_array(path)
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    (tmp_path / "a.npz").rename(path)
    with pytest.raises(UserError, match="an archive of arrays"):
        files.read_array(path)


def test_a_pickled_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="Python objects"):
        files.read_array(tmp_path / "a.npy")


def test_a_folder_in_place_of_a_file_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="got Is a directory; expected to be able to read it"):
        files.read_json(tmp_path)


FULL = """
import resource, signal, sys
import numpy as np, pandas as pd, torch
from contextlib import closing
from pathlib import Path
from tumorxai import errors, files
from tumorxai.networks import weights
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
out = Path(sys.argv[1])
errors.run({
    "a.npy": lambda: files.write_array(out, np.zeros(10_000)),
    "a.csv": lambda: files.write_csv(out, pd.DataFrame({"x": np.zeros(10_000)})),
    "a.json": lambda: files.write_json(out, {"x": "y" * 10_000}),
    "a.safetensors": lambda: weights.save({"x": torch.zeros(10_000)}, out, {}),
}[out.name])
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.npy", "a.csv", "a.json", "a.safetensors"])
def test_a_file_that_there_is_no_room_for_is_told_in_words_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path / name)], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert f"error: writing {tmp_path / name}: got " in done.stderr
    assert "run again" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a"), "a: got No space left on device.*free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "a: got Permission denied.*correct the permissions"),
        (OSError("100 requested and 7 written"), "got 100 requested and 7 written"),
        (MemoryError(), "too little memory"),
        (RuntimeError("[enforce fail] can't allocate memory: you tried 9 bytes"), "too little memory"),
        (Exception("io error: Read-only file system (os error 30)"), "Read-only file system.*in a copy of the folder"),
    ],
)
def test_what_the_system_refuses_is_told_in_words(error: Exception, words: str) -> None:
    told = errors.told(error)
    assert told is not None
    assert re.search(words, str(told))


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ("PRAGMA max_page_count = 3; CREATE TABLE b AS SELECT zeroblob(100000) AS x", "is full.*free some space"),
        ("PRAGMA query_only = 1; CREATE TABLE b (x)", "readonly.*in a copy of the folder"),
        ("ATTACH '/nowhere/b' AS b", "unable to open.*correct the permissions"),
    ],
)
def test_what_a_database_is_refused_is_told_in_words(tmp_path: Path, refused: str, words: str) -> None:
    """As DVC passes it on, out of the one in which it keeps its state."""
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        with pytest.raises(sqlite3.OperationalError) as caught:
            database.executescript(f"CREATE TABLE a (x); {refused}")
        assert re.search(f"a database of DVC's: got .*{words}", str(errors.told(caught.value)))
        with pytest.raises(sqlite3.OperationalError) as caught:
            database.execute("SELECT y FROM a")
        assert errors.told(caught.value) is None


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    assert errors.told(ValueError("x")) is None
    assert errors.told(BrokenPipeError(errno.EPIPE, "Broken pipe")) is None
    with pytest.raises(ZeroDivisionError):
        errors.run(lambda: print(1 / 0))


def test_ctrl_c_ends_in_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        errors.run(main)
    assert caught.value.code == 130
    assert capsys.readouterr().err == "error: stopped by Ctrl-C; run again to go on\n"


def test_a_user_error_ends_with_status_1_and_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise errors.UserError("got a; expected b; do c")

    with pytest.raises(SystemExit) as caught:
        errors.run(main)
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: got a; expected b; do c\n"


def test_rows_stay_those_of_the_file_that_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    array = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    write_array(path, array)
    rows = Rows(path, np.int16, (None, 3, 2))
    assert (len(rows), rows.shape) == (4, (4, 3, 2))
    write_array(path, 0 * array)  # as DVC and every stage do it
    np.testing.assert_array_equal([rows[i] for i in range(4)], array)
    with pytest.raises(UserError, match="expected an array int8"):
        Rows(path, np.int8)


@pytest.mark.parametrize("change", ["cut", "overwritten"])
def test_rows_of_a_file_that_is_written_to_are_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.npy"
    write_array(path, np.zeros((4, 3000), np.uint8))
    rows = Rows(path)
    if change == "cut":
        os.truncate(path, 200)
    else:
        write_array(tmp_path / "b.npy", np.ones((4, 3000), np.uint8))
        with path.open("r+b") as stream:
            stream.write((tmp_path / "b.npy").read_bytes())
        os.utime(path, (0, 0))  # a clock ticks slower than this test writes
    with pytest.raises(ChangedError, match="got another file than the one that was opened"):
        rows[3]
