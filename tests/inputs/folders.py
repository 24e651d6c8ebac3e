"""Small folders and archives of a user's own, and a look at them."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

from tumorxai.config import PathSource
from tumorxai.inputs import fingerprint


def make(root: Path, folders: int = 4, images: int = 3) -> Path:
    for number in range(folders):
        folder = root / f"class {number % 2}" / f"patient_{number}"
        folder.mkdir(parents=True)
        for image in range(images):
            (folder / f"{image}.png").write_bytes(b"%d %d" % (number, image))
    (root / "labels.csv").write_text("file,patient\n")
    (root / "README.md").write_text("mine")
    return root


def look(place: Path, before: dict[str, Any] | None = None) -> Any:
    (entry,) = fingerprint.fingerprints([PathSource(path=str(place), name="it")], before or {}).values()
    return entry


def zipped(path: Path, content: bytes = b"x") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("glioma/a.png", content)
    return path


# What is a change, and what is none


def same_size_and_time(root: Path) -> None:
    path = root / "class 0/patient_0/0.png"
    times = path.stat()
    path.write_bytes(b"9 9")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
