"""The package as others get it: a wheel that was made of the sdist, in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STRAY = (".dvc/cache/files/md5/00/scan", ".dvc/config.local", ".dvc/tmp/lock", "scans/patient.png", "data/pack.npy")


def wheel(folder: Path) -> Path:
    """The wheel, made of the sdist alone; the sdist lies beside it. The clone that it comes from holds STRAY as well.

    Args:
        folder: a new one, for the copy of the clone and what is built.
    """
    clone, dist = folder / "clone", folder / "dist"
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in (*filter(None, listed.split("\0")), *STRAY):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        if name in STRAY:
            (clone / name).touch()
        elif (ROOT / name).is_file():
            shutil.copy(ROOT / name, clone / name)
    _build("sdist", clone, dist)
    shutil.unpack_archive(next(dist.glob("*.tar.gz")), folder / "unpacked")  # tarfile's filters are not in every 3.11
    (unpacked,) = (folder / "unpacked").iterdir()
    _build("wheel", unpacked, dist)
    return next(dist.glob("*.whl"))


def _build(kind: str, source: Path, into: Path) -> None:
    asked = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(into)]
    done = subprocess.run(asked, cwd=source, env=outside(), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def environment(folder: Path) -> Path:
    """A new environment that has every package of this one but the project's own; gives its python.

    Args:
        folder: a new one, for the environment.
    """
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(f"{packages(folder / 'packages')}\n")
    return folder / "venv/bin/python"


def packages(folder: Path) -> Path:
    """A folder of links to every package of this environment but the project's own.

    Args:
        folder: a new one.
    """
    folder.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in Path(place).iterdir():
            if "tumorxai" not in path.name:
                (folder / path.name).symlink_to(path)
    return folder


def outside(python: Path | None = None) -> dict[str, str]:
    """The variables of a shell in which nothing points to this clone, with an environment activated.

    Args:
        python: that of the environment; the tests' own if left out.
    """
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    programs = Path(python or sys.executable).parent
    # Nothing is fetched: the packages that this one needs are there.
    pip = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1"}
    return kept | pip | {"PATH": os.pathsep.join([str(programs), os.environ["PATH"]])}
