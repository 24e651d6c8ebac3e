"""Files that are either whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd  # slow to load, and needed by no command that writes no table


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success, remove it on failure.

    The temporary file keeps the suffix, so that writers which look at it (matplotlib, numpy) still work.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


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
