"""Unpacks a bundle on a node and runs it. Nothing but Python's own library is imported until that is done.

bash run.sh --minutes 55
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent


def refuse(text: str) -> NoReturn:
    """End with a message."""
    print(f"error: {text}", file=sys.stderr)
    sys.exit(1)


def checked() -> dict[str, object]:
    """What the bundle says of itself, after a look at all of its bytes and at this Python."""
    manifest: dict[str, object] = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    files = manifest["files"]
    assert isinstance(files, dict)  # noqa: S101 - for the checker of types
    for name, wanted in files.items():
        file = HERE / name
        found = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no file"
        if found != wanted:
            refuse(f"{file}: got {found}; expected the SHA-256 {wanted}; copy the bundle again")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here != manifest["python"]:
        refuse(
            f"got Python {here}; expected {manifest['python']}, for which the bundle's packages are; name it by "
            f"PYTHON=/path/python, or make the bundle with --python {here}"
        )
    return manifest


def unpack(manifest: dict[str, object], folder: Path) -> None:
    """Write project, packages and data to a folder, once; what ran there before stays."""
    mark, own = folder / "bundle", hashlib.sha256((HERE / "manifest.json").read_bytes()).hexdigest()
    if mark.exists() and mark.read_text(encoding="utf-8") == own:
        return
    for name in ("project", "lib"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    with tarfile.open(HERE / "project.tar.xz") as archive:
        for member in archive:  # tarfile's own filters are not in every Python that the project runs on
            inside = member.isfile() and not Path(member.name).is_absolute() and ".." not in Path(member.name).parts
            content = archive.extractfile(member) if inside else None
            if content is None:
                refuse(f"got {member.name!r} in project.tar.xz; expected files of the project alone; make it anew")
            place = folder / "project" / member.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.read())
    for wheel in sorted(HERE.glob("wheels/*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "lib")  # its SHA-256 has been looked at # noqa: S202 # nosec B202
    for inner in (*folder.glob("lib/*.data/purelib"), *folder.glob("lib/*.data/platlib")):
        shutil.copytree(inner, folder / "lib", dirs_exist_ok=True)
    offline = folder / "project/src/tumorxai/tools/offline"
    shutil.copyfile(offline / "dvclive.py", folder / "lib/dvclive.py")
    shutil.copyfile(HERE / "plan.json", folder / "plan.json")
    sys.path[:0] = [str(folder / "project/src"), str(folder / "lib")]
    absent = [name for name in manifest["imports"] if not found(name)]  # type: ignore[attr-defined]
    if absent:
        refuse(
            f"got a Python without {', '.join(absent)}; expected it, or its wheel in the bundle; name the Python by "
            "PYTHON=/path/python, or make the bundle with the right --has"
        )
    packing = importlib.import_module("tumorxai.tools.offline.packing")
    for name, (kind, wanted) in manifest["packed"].items():  # type: ignore[attr-defined]
        if not (folder / "files" / wanted).exists():
            packing.unpack(HERE / name, kind, folder / "files" / wanted, wanted)
    mark.write_text(own, encoding="utf-8")


def found(name: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(name) is not None


def main() -> None:
    """The command."""
    began = time.monotonic()  # what unpacking takes is a part of the time
    parser = argparse.ArgumentParser(description="Run the list of runs in this folder; run again, it goes on.")
    parser.add_argument("--minutes", help="after which all has stopped; default: no limit")
    parser.add_argument("--side-by-side", default="1", help="runs at once; 0: as many as fit into the memory")
    parser.add_argument("--work", type=Path, default=HERE / "work", help="folder to unpack and run in")
    parser.add_argument("--result", type=Path, default=HERE / "result", help="folder for what the runs leave")
    given = parser.parse_args()
    folder = given.work.resolve()
    unpack(checked(), folder)
    own = [str(folder / "project/src"), str(folder / "lib"), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "tumorxai.tools.offline.runner", str(folder)]
    command += ["--result", str(given.result.resolve()), "--side-by-side", given.side_by_side, "--began", str(began)]
    command += ["--minutes", given.minutes] if given.minutes else []
    sys.stdout.flush()
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": os.pathsep.join(own)})  # noqa: S606


if __name__ == "__main__":
    main()
