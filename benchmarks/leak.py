"""What the leak of archives is made of, and what it is worth under other thresholds of deduplication.

    python -m benchmarks.leak FOLDER SOURCE… [--taxonomy native] [--seeds 20] [--sensitivity]
    python -m benchmarks.leak FOLDER --preset presets/firildak.yaml

FOLDER holds OWNER--SLUG.zip files; the SOURCEs are put together and split 70/15/15, or a preset says which and how.
Accuracy of the nearest neighbour on 32 x 32 pixels, in percent, mean and standard deviation over the split's seeds.
Prints Markdown; the last line is JSON. With --into results/leak.json --name NAME the figures take their place there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from benchmarks.record import keep

from tumorxai.audit.leak import PARTS, Neighbours, take_apart
from tumorxai.base.dataset import Dataset, read_table
from tumorxai.base.pixels import pixels
from tumorxai.catalogue import catalogue
from tumorxai.config import Audit, Data, Dedupe, Split
from tumorxai.dedupe import groups
from tumorxai.files import read_array
from tumorxai.patients import patients

VARIANTS = {
    "as configured": {},
    "similarity 0.5": {"similarity": 0.5},
    "similarity 0.7": {"similarity": 0.7},
    "strict 0.65": {"strict": 0.65},
    "strict 0.97": {"strict": 0.97},
}
TRAINED = [part.replace("_", " ") for part in PARTS]
PAGE: dict[str, Any] = {
    "title": "What the leak is made of",
    "about": [
        "![Accuracy of the pixel neighbour on each set of images under each way to split](leak.png)",
        "Accuracy of the nearest neighbour on 32 x 32 pixels, which has learned nothing, in percent: mean ± standard "
        "deviation over 20 seeds of the split. Sides are 70, 15 and 15 %, or in Firildak's own sizes where said.",
        "*Copies removed*: a random split, without the copies of test images in training. *Others removed*: the same, "
        "but without as many other groups of copies, or all of them where there are no more. *Grouped*: copies and "
        "declared patients or folds on one side. "
        "*Patients*: what a registry tells of patients, and series, as well.",
    ],
    "commands": [
        "python -m benchmarks.leak --into results/leak.json --name NAME FOLDER OWNER/SLUG …",
        "python -m benchmarks.leak --into results/leak.json --name NAME FOLDER --preset presets/firildak.yaml",
        "make results",
    ],
    "tables": {
        "parts": {
            "title": "By images",
            "corner": "images",
            "columns": dict.fromkeys(
                [
                    "random", "copies removed", "others removed", "grouped", "patients",
                    "groups, images trained on: random", *(f"the same: {part}" for part in TRAINED[1:]),
                ],
                "",
            ),
        },
        "sensitivity": {
            "title": "By the thresholds of deduplication",
            "text": "What counts as a copy decides what copies are worth: `dedupe.similarity` for pairs in place, "
            "`dedupe.strict` for those that had to be moved.",
            "corner": "images, thresholds",
            "columns": dict.fromkeys(
                ["groups", "random", "copies removed", "others removed", "grouped", "patients"], ""
            ),
        },
    },
}  # fmt: skip


def shown(parts: dict[str, Any], name: str) -> str:
    if name not in parts:
        return "–"
    spread = "" if parts[name]["sd"] is None else f" ± {100 * parts[name]['sd']:.1f}"
    few = f", {parts[name]['draws']} draws" if parts[name]["draws"] < parts["random"]["draws"] else ""
    return f"{100 * parts[name]['accuracy']:.1f}{spread}{few}"


def trained_on(parts: dict[str, Any], name: str) -> str:
    """Groups and images in training."""
    return f"{parts[name]['train_groups']:.0f}, {parts[name]['train_images']:.0f}" if name in parts else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("source", nargs="*")
    parser.add_argument("--preset", type=Path, help="take data, dedupe and the sides' sizes of this file")
    parser.add_argument("--taxonomy", default="native")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sensitivity", action="store_true", help="also with other thresholds of deduplication")
    parser.add_argument("--into", type=Path, metavar="FILE", help="JSON file that receives the figures as well")
    parser.add_argument("--name", help="what the images are called there")
    asked = parser.parse_args()
    name = asked.name or ", ".join(asked.source) or str(asked.preset)
    blocks: dict[str, Any] = {"data": {"sources": asked.source, "taxonomy": asked.taxonomy}}
    if asked.preset:
        blocks = yaml.safe_load(asked.preset.read_text(encoding="utf-8"))
    split = Split.model_validate(blocks.get("split", {}))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        settings = Data.model_validate(blocks["data"])
        for line in catalogue.build(asked.folder, settings, root, root / "catalogue.json", root):
            print(line)
        listed, packed = read_table(root / "catalogue.csv"), read_array(root / "pack.npy")
        empty = listed.assign(side="", status="keep", group=0)
        neighbours = Neighbours(pixels(Dataset(packed, empty, ()), Audit().canary_size))
        heads = [*PARTS, *(f"groups and images in training, {part}" for part in PARTS)]
        print("\n| deduplication | groups |", " | ".join(heads), "|")
        print("|---" * (len(heads) + 2) + "|")
        for variant in VARIANTS if asked.sensitivity else ["as configured"]:
            dedupe = Dedupe.model_validate(blocks.get("dedupe", {}) | VARIANTS[variant])
            groups.run(dedupe, root, asked.folder, root / "dedupe.json", root)
            patients.run(root, asked.folder, root / "patients.json")
            settled, told = read_table(root / "groups.csv"), read_table(root / "patients.csv")
            table = listed.assign(
                **settled[["group", "label", "status"]], subject=told["patient"], **told[["series", "known"]]
            )
            labels = pd.Categorical(table["label"]).codes.astype("int64")
            found = take_apart(table, labels, neighbours, split, asked.seeds, 0)
            if found is None:
                print(f"| {variant} | no random split can be drawn |")
                continue
            parts = found["parts"]
            cells = [shown(parts, part) for part in PARTS]
            cells += [trained_on(parts, part) for part in PARTS]
            print("|", " | ".join(map(str, [variant, table["group"].nunique(), *cells])), "|", flush=True)
            if asked.into:
                if variant == "as configured":
                    keep(asked.into, "parts", {name: cells}, {name: found}, PAGE)
                if asked.sensitivity:
                    row = [str(table["group"].nunique()), *cells[: len(PARTS)]]
                    keep(asked.into, "sensitivity", {f"{name}, {variant}": row}, {f"{name}, {variant}": found}, PAGE)
    print(json.dumps({name: found}))


if __name__ == "__main__":
    main()
