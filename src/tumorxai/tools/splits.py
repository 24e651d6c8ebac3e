"""Honest splits of the public sets, as lists for others to train and test by.

    python -m tumorxai.tools.splits FOLDER [--to splits] [--only NAME …]

FOLDER holds OWNER--SLUG.zip files. Each list is `splits/NAME.csv`, drawn by the protocol `patients` with default sizes
and seed 0; `splits/README.md` says what its columns are, how to use and how to cite it. No image is written.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tumorxai import config
from tumorxai.base.dataset import read_table
from tumorxai.catalogue import catalogue
from tumorxai.config import Data, Dedupe, Params
from tumorxai.dedupe import groups
from tumorxai.errors import known, run
from tumorxai.files import write_csv
from tumorxai.patients import patients
from tumorxai.split import split

SARTAJ = "sartajbhuvaji/brain-tumor-classification-mri"
SHREYAG = "shreyag1103/brain-mri-scans-for-brain-tumor-classification"
DUBAIL = "thomasdubail/brain-tumors-256x256"
CLASSES_44 = "fernando2rad/brain-tumor-mri-images-44c"
CHENG = "cheng/figshare-1512427"
COLUMNS = ["pixels_sha256", "source", "file", "label", "group", "patient", "series", "known", "side"]


class Images(NamedTuple):
    """What a list is of: archives, how their classes are called, and what becomes of images under two labels."""

    sources: list[str]
    taxonomy: str = "four_class"
    conflicts: str = "drop"


SETS = {
    "sartaj": Images([SARTAJ]),
    "firildak": Images([SARTAJ, SHREYAG, DUBAIL]),
    "cheng": Images([CHENG]),
    "seventeen": Images([CLASSES_44], taxonomy="seventeen"),
}


def prepare(folder: Path, images: Images, data: Path, workers: int | None = None) -> None:
    """Catalogue, deduplicate and tell patients, as the stages of these names do.

    Args:
        folder: of the archives.
        images: which.
        data: folder that receives the tables and the packed pixels.
        workers: processes that decode; all cores if None.
    """
    settings = Data.model_validate({"sources": images.sources, "taxonomy": images.taxonomy})
    catalogue.build(folder, settings, data, data / "catalogue.json", data, workers)
    dedupe = Dedupe.model_validate({"conflicts": images.conflicts})
    groups.run(dedupe, data, folder, data / "dedupe.json", data, workers)
    patients.run(data, folder, data / "patients.json", workers)


def listed(data: Path, params: Params) -> pd.DataFrame:
    """Draw the split of what :func:`prepare` left, and list every image with its side."""
    split.run(params, data, data / "split.json", data / "sides.csv")
    table, told = read_table(data / "catalogue.csv"), read_table(data / "patients.csv")
    drawn = read_table(data / "split.csv")
    every = table.assign(
        file=table["path"], **told[["patient", "series", "known"]], **drawn[["group", "label", "side"]]
    )
    return every[COLUMNS]


def main() -> None:
    """Read the arguments and write the lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--to", type=Path, default=Path("splits"))
    parser.add_argument("--only", nargs="+", default=list(SETS), metavar="NAME", help=f"of {', '.join(SETS)}")
    given = parser.parse_args()
    for name in given.only:
        images = SETS[known("list", name, SETS)]
        with tempfile.TemporaryDirectory() as place:
            prepare(given.folder, images, Path(place))
            table = listed(Path(place), config.Params())
        write_csv(given.to / f"{name}.csv", table)
        sides = ", ".join(f"{count} {side}" for side, count in table["side"].value_counts().items())
        print(f"{given.to / name}.csv: {sides}")


if __name__ == "__main__":
    run(main)
