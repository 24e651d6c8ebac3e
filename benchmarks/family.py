"""Which public archives hold which others' images, as a table and a picture.

    python -m benchmarks.family FOLDER_OR_ZIP…

Writes what `tumorxai family` finds to results/family.json, from which `make results` makes the page, and the picture
to results/family.png.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.record import keep

from tumorxai.certify import family

PAGE: dict[str, Any] = {
    "title": "Which archives hold which others' images",
    "about": [
        "![Archives as circles; an arrow leads to the one that holds at least half of the other's images](family.png)",
        "Copies are what deduplication joins with its default thresholds. Who holds whose images does not tell who was "
        "first: for that, look at the dates of publication. The archives were mirrors, images re-encoded to at most "
        "256 px, so that *identical* pixels are rarer than in the archives as published.",
    ],
    "commands": ["python -m benchmarks.family FOLDER_OR_ZIP…", "make results"],
    "tables": {
        "archives": {
            "title": "The archives",
            "corner": "archive",
            "columns": {"images": 0, "different pixels": 0, "groups of copies": 0, "left out": 0},
        },
        "kinship": {
            "title": "Each two with copies of each other",
            "text": "*Two labels*: groups of copies in both whose images mean different classes.",
            "corner": "first, second",
            "columns": {
                "of the first in the second": 0, "share": "%", "of the second in the first": 0, "share of it": "%",
                "identical pairs": 0, "similar pairs": 0, "groups in both": 0, "two labels": 0,
            },
        },
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, nargs="+")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = family.write(asked.archive, Path(folder))
        shutil.copy(Path(folder) / "family.png", "results/family.png")
    into = Path("results/family.json")
    archives = {
        row["source"]: [row[key] for key in ("images", "distinct", "groups", "left_out")] for row in found["archives"]
    }
    keys = ("a_in_b", "a_share", "b_in_a", "b_share", "exact", "near", "shared", "two_labels")
    pairs = {f"{row['a']}, {row['b']}": [row[key] for key in keys] for row in found["kinship"]}
    keep(into, "archives", archives, {}, PAGE)
    keep(into, "kinship", pairs, {}, PAGE)


if __name__ == "__main__":
    main()
