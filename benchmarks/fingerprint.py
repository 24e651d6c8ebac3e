"""How long a look at an unchanged folder takes: the pipeline takes one at every `dvc repro`.

    python benchmarks/fingerprint.py [FILES [FOLDERS]]

Makes small files (100,000 in 10,000 folders) in a temporary folder and looks at them for the first time, again, and
after a change of one file. The times depend on the machine; each is one look, in a process that has loaded everything,
but for the one that says so. Prints Markdown; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tumorxai.archives.places import CACHE, cached
from tumorxai.config import PathSource
from tumorxai.inputs import fingerprint

SIZE = 2000  # bytes of a file

LOOK = (
    "import sys; from tumorxai.config import PathSource; from tumorxai.inputs.fingerprint import fingerprints; "
    "print(fingerprints([PathSource(path=sys.argv[1])], {}))"
)


def make(root: Path, files: int, folders: int) -> None:
    for number in range(folders):
        folder = root / f"class_{number % 10}" / f"patient_{number:05d}"
        folder.mkdir(parents=True)
        for image in range(number, files, folders):
            (folder / f"{image:06d}.png").write_bytes(image.to_bytes(8, "little") * (SIZE // 8))


def timed(root: Path) -> tuple[float, dict[str, Any]]:
    started = time.perf_counter()
    found = fingerprint.fingerprints([PathSource(path=str(root))], {})
    return time.perf_counter() - started, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=int, nargs="?", default=100_000)
    parser.add_argument("folders", type=int, nargs="?", default=10_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ[CACHE] = str(Path(temporary, "cache"))
        root = Path(temporary, "images")
        make(root, asked.files, asked.folders)
        time.sleep(2 * fingerprint.SETTLED / 1e9)  # or else the youngest files would be read once more
        first, before = timed(root)
        again = []
        for _ in range(3):
            seconds, found = timed(root)
            again.append(seconds)
            assert found == before  # noqa: S101
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", LOOK, str(root)], check=True, stdout=subprocess.DEVNULL)
        process = time.perf_counter() - started
        next(root.rglob("*.png")).write_bytes(b"other")
        changed, found = timed(root)
        assert found != before  # noqa: S101
        size = sum(path.stat().st_size for path in cached("fingerprints").iterdir())
    result = {
        "files": asked.files,
        "folders": asked.folders,
        "first_s": round(first, 2),
        "unchanged_s": [round(seconds, 2) for seconds in again],
        "unchanged_process_s": round(process, 2),
        "one_changed_s": round(changed, 2),
        "cache_bytes": size,
    }
    print("| look | seconds |\n|---|---|")
    print(f"| first, every file read | {first:.2f} |")
    print(f"| again, nothing changed, median of {len(again)} | {sorted(again)[1]:.2f} |")
    print(f"| the same in a new process, imports included | {process:.2f} |")
    print(f"| one file changed | {changed:.2f} |")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
