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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd  # slow to load, and needed by no command that writes no table

MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]  # each container has a name of its own
DAY = 24 * 3600.0  # seconds


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
    finally:
        _remove(temporary)


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


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object."""
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return content


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


def read_array(path: Path | str) -> NDArray[Any]:
    """Open an ``.npy`` file memory-mapped, read-only, without pickle."""
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
