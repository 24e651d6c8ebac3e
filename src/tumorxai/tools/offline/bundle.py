"""A folder that runs a list of runs where there is neither a network nor DVC: code, data, packages, checksums.

    python -m tumorxai.tools.offline.bundle build/bundle --paper firildak --only joint-random joint-grouped
    python -m tumorxai.tools.offline.bundle build/bundle -S method=simclr,byol -S seed=0,1,2

There, `bash run.sh --minutes 55` runs it; here, `tumorxai bring-back` takes the result in.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tumorxai.errors import UserError, run
from tumorxai.files import atomic, sha256, write_json, write_text
from tumorxai.inputs import provenance
from tumorxai.tools import papers, project
from tumorxai.tools.offline import packing, plan, wheels
from tumorxai.tools.offline.records import files_of

LIMIT = "64M"
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
RUN = """#!/usr/bin/env bash
# Runs the list of runs in this folder without a network: bash run.sh --minutes 55 (--help says what else).
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "${PYTHON:-python3}" "$here/unpack.py" "$@"
"""


def write(
    root: Path, asked: Sequence[plan.Asked], out: Path, limit: int, python: str, machine: str, has: Sequence[str]
) -> dict[str, int]:
    """Write the folder.

    Args:
        root: the project's folder.
        asked: the runs.
        out: folder to write; it must not be there.
        limit: bytes that it may take.
        python: version of the node's, such as ``3.12``.
        machine: the node's, such as ``x86_64``.
        has: packages that the node has.

    Returns:
        Bytes of each file.

    Raises:
        UserError: the folder is there, a run is not valid, a stage at home fails, wheels are not to be had, or the
            folder would be larger than ``limit``.
    """
    if out.exists():
        raise UserError(f"got {out}, which is there; expected a new folder; choose another name, or remove it")
    with atomic(out) as made:
        content = made / "content"
        planned = plan.prepare(root, asked, content, offline=True)
        packed: dict[str, list[str]] = {}
        names = {name for each in planned["runs"].values() for name in each["inputs"].values()}
        for name in sorted(names):
            place = made / "files" / name
            packed[f"files/{name}"] = [packing.pack(content / name, place), name]
        shutil.rmtree(content)
        write_json(made / "plan.json", planned)
        _write_project(root, made / "project.tar.xz")
        runs = {(stage, one["method"]) for one in planned["runs"].values() for stage in one["stages"]}
        imports = wheels.imported(root, runs)
        wheels.download(
            wheels.needed(imports, has, python, machine), root / "requirements.lock", python, machine, made / "wheels"
        )
        shutil.copyfile(Path(__file__).with_name("unpack.py"), made / "unpack.py")
        write_text(made / "run.sh", RUN)
        sizes = {path: (made / path).stat().st_size for path in files_of(made, ".")}
        if (total := sum(sizes.values())) > limit:
            largest = sorted(sizes, key=lambda path: -sizes[path])[:5]
            raise UserError(
                f"got a bundle of {megabytes(total)}; expected at most {megabytes(limit)}; leave out runs, lower "
                "data.image_size, name what the node has by --has, or raise --limit; the largest: "
                + ", ".join(f"{_what(path, planned)} {megabytes(sizes[path])}" for path in largest)
            )
        tops = {name.split(".")[0] for name in imports} - set(sys.stdlib_module_names) - {"tumorxai"}
        write_json(
            made / "manifest.json",
            {
                "python": python,
                "machine": machine,
                "imports": sorted(tops & wheels.at_hand(tops)),
                "packed": packed,
                "files": {path: sha256(made / path) for path in sizes},
            },
        )
    return sizes | {"manifest.json": (out / "manifest.json").stat().st_size}


def _what(path: str, planned: dict[str, Any]) -> str:
    """A file's name for readers: of packed data, the path that a run knows it by."""
    for name, one in planned["runs"].items():
        for own, content in one["inputs"].items():
            if path == f"files/{content}":
                return f"{own} of {name}"
    return path


def _write_project(root: Path, out: Path) -> None:
    """Write the package and what a project has beside it; the same content is the same file."""
    source = provenance.code_root(root)
    places = [(source / "tumorxai", "src/tumorxai"), *((root / name, name) for name in project.FILES)]
    with tarfile.open(out, "w:xz") as archive:
        for place, name in places:
            for file in files_of(place.parent, place.name):
                inner = Path(name).parent / file
                if "__pycache__" in inner.parts:
                    continue
                content = (place.parent / file).read_bytes()
                entry = tarfile.TarInfo(inner.as_posix())
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))


def megabytes(count: int) -> str:
    """Bytes for readers."""
    return f"{count / 2**20:.1f} MiB"


def size(text: str) -> int:
    """Bytes of ``64M``.

    Raises:
        UserError: it is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)i?B?", text.strip())
    if not found:
        raise UserError(f"got the size {text!r}; expected a number with K, M or G, such as {LIMIT}")
    return int(float(found[1]) * UNITS[found[2]])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--paper", help="a file of papers/")
    parser.add_argument("--only", nargs="+", default=[], metavar="RUN", help="of the paper; default: all")
    parser.add_argument("-S", "--set", action="append", default=[], metavar="KEY=VALUE[,VALUE]", help="repeatable")
    parser.add_argument("--stages", nargs="+", default=plan.DEFAULT, metavar="STAGE", help="without --paper")
    parser.add_argument("--limit", default=LIMIT, help="largest size of the folder; default: %(default)s")
    parser.add_argument("--python", default="3.12", help="the node's; default: %(default)s")
    parser.add_argument("--machine", default="x86_64", help="the node's, with Linux; default: %(default)s")
    parser.add_argument("--has", nargs="+", default=list(wheels.BARE), metavar="PACKAGE", help="what the node has")
    given = parser.parse_args()
    if given.paper:
        asked = plan.of_paper(papers.describe(given.paper), given.only, given.set)
    else:
        asked = plan.of_settings(given.set, given.stages)
    sizes = write(Path(), asked, given.out, size(given.limit), given.python, given.machine, given.has)
    by_folder = {part: sum(own for path, own in sizes.items() if path.startswith(part)) for part in ("files", "wheels")}
    print(f"{given.out}: {len(asked)} runs, {megabytes(sum(sizes.values()))}", end=" ")
    print(f"(data {megabytes(by_folder['files'])}, packages {megabytes(by_folder['wheels'])})")
    print(f"next: copy it to the node, `bash {given.out.name}/run.sh --minutes 55`, and bring the folder result/ back")


if __name__ == "__main__":
    run(main)
