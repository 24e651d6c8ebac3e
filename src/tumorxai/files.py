"""Files that are either whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tumorxai.errors import ChangedError, DamagedError, MissingError, UserError

if TYPE_CHECKING:
    import pandas as pd  # slow to load, and needed by no command that writes no table

MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]  # each container has a name of its own
DAY = 24 * 3600.0  # seconds
REPRO = "run `dvc repro`"


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success, remove it on failure.

    The temporary file keeps the suffix, so that writers which look at it (matplotlib, numpy) still work. What a killed
    process has left of the same file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.stem)}.*.tmp{glob.escape(path.suffix)}"):
        if _abandoned(left, path):
            _remove(left)
    # Two containers may have the same number for a process, and one process several threads.
    token = f"{MACHINE}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.stem}.{token}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # on a disk that may only be read nothing can be removed, nor is there anything
            _remove(temporary)
        error.add_note(f"writing {path}")  # few of the errors of a full disk name the file
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _abandoned(temporary: Path, path: Path) -> bool:
    """Whether nobody is writing it any more: its process on this machine has ended, or it is more than a day old."""
    found = re.fullmatch(
        rf"\.{re.escape(path.stem)}\.([0-9a-f]{{8}})-(\d+)-[0-9a-f]{{8}}\.tmp{re.escape(path.suffix)}", temporary.name
    )
    try:
        if found and found[1] == MACHINE:
            os.kill(int(found[2]), 0)
            return False
        return time.time() - temporary.stat().st_mtime > DAY
    except ProcessLookupError:
        return True
    except OSError:  # gone by now, or a process of another user's
        return False


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays as the Python numbers and lists that JSON knows."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} does not go into JSON")


def write_json(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write indented JSON; a NaN or an infinity raises ``ValueError``, because JSON has neither."""
    text = json.dumps(content, indent=2, default=_plain, allow_nan=False)
    write_text(path, text + "\n")


@contextmanager
def reading(path: Path | str, expected: str, remedy: str = REPRO) -> Iterator[None]:
    """Turn whatever broken bytes make a library raise into one message; put nothing but the reading inside.

    Args:
        path: of the file that is read.
        expected: what it should hold.
        remedy: what to do.

    Raises:
        MissingError: it is not there.
        DamagedError: it holds something else; a ``ValueError`` that is raised inside says what.
        UserError: the system does not let us read it.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise MissingError(f"got no {path}; expected {expected}; {remedy}") from None
    except OSError as error:
        if error.errno is None:  # of a library
            raise DamagedError(f"{path}: got {error}; expected {expected}; {remedy}") from None
        raise UserError(
            f"{path}: got {error.strerror}; expected to be able to read it; correct its permissions or its disk"
        ) from None
    except MemoryError:
        raise DamagedError(f"{path}: got more than memory holds; expected {expected}; {remedy}") from None
    except Exception as error:  # each library has its own, and a damaged file can reach any of them
        said = " ".join(str(error).split())[:300] or type(error).__name__
        said = f"no {error}" if isinstance(error, KeyError) else said
        raise DamagedError(f"{path}: got {said}; expected {expected}; {remedy}") from None


def read_json(path: Path | str, *keys: str, remedy: str = REPRO) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: of the file.
        keys: that it must have.
        remedy: what to do if it cannot be read.

    Raises:
        UserError: see :func:`reading`.
    """
    with reading(path, " and ".join(["a JSON object", *keys]), remedy):
        content = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_no_number)
        if not isinstance(content, dict):
            raise ValueError(f"a JSON {type(content).__name__}")
        if missing := [key for key in keys if key not in content]:
            raise ValueError(f"no {', '.join(missing)}")
        return content


def _no_number(name: str) -> Any:
    raise ValueError(f"the number {name}, which JSON does not have")


def read_csv(path: Path | str, *columns: str, remedy: str = REPRO, **options: Any) -> pd.DataFrame:
    """Read a table that :func:`write_csv` wrote.

    Args:
        path: of the file.
        columns: that it must have.
        remedy: what to do if it cannot be read.
        options: of ``pandas.read_csv``.

    Raises:
        UserError: see :func:`reading`; also for a table whose last line is cut off, or whose lines differ in length.
    """
    import pandas as pd

    with reading(path, "a table of comma-separated values", remedy):
        with open(path, "rb") as stream:
            if not stream.read(1):
                raise ValueError("an empty file")
            stream.seek(-1, os.SEEK_END)
            if stream.read() != b"\n":
                raise ValueError("a last line that is cut off")
        table: pd.DataFrame = pd.read_csv(path, **options)
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("lines of more values than there are columns")
        if missing := [name for name in columns if name not in table]:
            raise ValueError(f"no column {', '.join(missing)}")
        return table


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path | str, table: pd.DataFrame) -> None:
    """Write a table without its index, floats so that they read back exactly."""
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def write_array(path: Path | str, array: NDArray[Any]) -> None:
    """Write one ``.npy`` file, without pickle."""
    with atomic(path) as temporary:
        np.save(temporary, array, allow_pickle=False)


@contextmanager
def growing(path: Path | str, kind: Any, shape: Sequence[int]) -> Iterator[Callable[[NDArray[Any]], int]]:
    """Write the ``.npy`` file that :func:`write_array` would, part by part; memory holds no more than a part.

    NumPy pads the header so that the first axis can grow in place.

    Args:
        path: of the file.
        kind: type of its values.
        shape: of a row.

    Yields:
        What adds rows, of shape (rows, *shape), and returns the place of the first.
    """
    count = 0
    with atomic(path) as temporary, open(temporary, "wb") as stream:

        def add(rows: NDArray[Any]) -> int:
            nonlocal count
            if rows.dtype != kind or rows.shape[1:] != tuple(shape):
                raise ValueError(f"got {rows.dtype} {rows.shape[1:]}; expected {np.dtype(kind)} {tuple(shape)}")
            stream.write(rows.tobytes())
            count += len(rows)
            return count - len(rows)

        def write_header() -> None:
            descr = np.lib.format.dtype_to_descr(np.dtype(kind))
            stream.seek(0)
            np.lib.format.write_array_header_1_0(
                stream, {"descr": descr, "fortran_order": False, "shape": (count, *shape)}
            )

        write_header()
        yield add
        write_header()


def read_array(
    path: Path | str, kind: Any = None, shape: Sequence[int | None] | None = None, remedy: str = REPRO
) -> NDArray[Any]:
    """Open an ``.npy`` file memory-mapped, read-only, without pickle.

    Args:
        path: of the file.
        kind: type of its values; None for any.
        shape: its size along each axis, None along one where any will do; None for any shape.
        remedy: what to do if it cannot be read.

    Raises:
        UserError: see :func:`reading`; also where it is of another kind or shape, or longer than it says.
    """
    told = f"{np.dtype(kind)} " if kind is not None else ""
    told += f"({', '.join('any' if side is None else str(side) for side in shape)})" if shape is not None else ""
    with reading(path, f"an array {told}".rstrip(), remedy):
        with open(path, "rb") as stream:  # NumPy takes any other file for a pickle, and says how to load it unsafely
            magic = stream.read(len(np.lib.format.MAGIC_PREFIX))
        if magic != np.lib.format.MAGIC_PREFIX:
            raise ValueError("an archive of arrays" if magic.startswith(b"PK") else "no array of NumPy's")
        with np.errstate(over="raise"):  # of a size that is as damaged as the file
            array: np.memmap[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.offset + array.nbytes != os.path.getsize(path):
            raise ValueError("bytes behind the last value")
        fits = shape is None or (
            array.ndim == len(shape) and all(b in (None, a) for a, b in zip(array.shape, shape, strict=True))
        )
        if not fits or (kind is not None and array.dtype != kind):
            raise ValueError(f"{array.dtype} {array.shape}")
        return array


class Rows:
    """Rows of an ``.npy`` file, each read when it is asked for, for processes that live long.

    A file that is cut short ends a process that has mapped it (SIGBUS), and one that is overwritten gives it rows of
    another run. One that is replaced, as :func:`atomic` and DVC do it, stays at hand as it was.

    Args:
        path: of the file.
        kind: see :func:`read_array`.
        shape: likewise.

    Attributes:
        shape: of the array.

    Raises:
        UserError: see :func:`read_array`.
    """

    def __init__(self, path: Path | str, kind: Any = None, shape: Sequence[int | None] | None = None) -> None:
        array = read_array(path, kind, shape)
        self.shape: tuple[int, ...] = array.shape
        self._path, self._kind = path, array.dtype
        self._offset = os.path.getsize(path) - array.nbytes
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - as long as this lives
        self._about = self._now()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> NDArray[Any]:
        """One row, a copy.

        Raises:
            ChangedError: the file was cut or overwritten.
        """
        found = np.empty(self.shape[1:], self._kind)
        size = os.preadv(self._file.fileno(), [found.data.cast("B")], self._offset + row * found.nbytes)
        if size != found.nbytes or self._now() != self._about:
            raise ChangedError(
                f"{self._path}: got another file than the one that was opened; expected it to stay as it is while it "
                "is shown; when `dvc repro` has ended, start again"
            )
        return found

    def _now(self) -> tuple[int, int]:
        about = os.fstat(self._file.fileno())
        return about.st_size, about.st_mtime_ns


def sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
