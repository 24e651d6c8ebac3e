"""What the leak of archives is made of, and what it is worth under other thresholds of deduplication.

    python benchmarks/leak.py FOLDER SOURCE… [--taxonomy native] [--seeds 20] [--sensitivity]
    python benchmarks/leak.py FOLDER --preset presets/firildak.yaml

FOLDER holds OWNER--SLUG.zip files; the SOURCEs are put together and split 70/15/15, or a preset says which and how.
Accuracy of the nearest neighbour on 32 x 32 pixels, in percent, mean and standard deviation over the split's seeds.
Prints Markdown; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from tumorxai.audit.leak import PARTS, Neighbours, take_apart
from tumorxai.base.dataset import Dataset, read_table
from tumorxai.base.pixels import pixels
from tumorxai.catalogue import catalogue
from tumorxai.config import Audit, Data, Dedupe, Split
from tumorxai.dedupe import groups
from tumorxai.files import read_array

VARIANTS = {
    "as configured": {},
    "similarity 0.5": {"similarity": 0.5},
    "similarity 0.7": {"similarity": 0.7},
    "strict 0.65": {"strict": 0.65},
    "strict 0.97": {"strict": 0.97},
}


def shown(parts: dict[str, Any], name: str) -> str:
    if name not in parts:
        return "–"
    spread = "" if parts[name]["sd"] is None else f" ± {100 * parts[name]['sd']:.1f}"
    return f"{100 * parts[name]['accuracy']:.1f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("source", nargs="*")
    parser.add_argument("--preset", type=Path, help="take data, dedupe and split of this file")
    parser.add_argument("--taxonomy", default="native")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sensitivity", action="store_true", help="also with other thresholds of deduplication")
    asked = parser.parse_args()
    blocks: dict[str, Any] = {"data": {"sources": asked.source, "taxonomy": asked.taxonomy}}
    if asked.preset:
        blocks = yaml.safe_load(asked.preset.read_text(encoding="utf-8"))
    split = Split.model_validate(blocks.get("split", {}))
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for line in catalogue.build(
            asked.folder, Data.model_validate(blocks["data"]), root, root / "catalogue.json", root
        ):
            print(line)
        listed, packed = read_table(root / "catalogue.csv"), read_array(root / "pack.npy")
        empty = listed.assign(side="", status="keep", group=0)
        neighbours = Neighbours(pixels(Dataset(packed, empty, ()), Audit().canary_size))
        print("\n| deduplication | groups |", " | ".join(PARTS.values()), "| groups in training, random | grouped |")
        print("|---" * (len(PARTS) + 4) + "|")
        for variant in VARIANTS if asked.sensitivity else ["as configured"]:
            groups.write(
                root,
                asked.folder,
                root / "dedupe.json",
                root,
                Dedupe.model_validate(blocks.get("dedupe", {}) | VARIANTS[variant]),
            )
            settled = read_table(root / "groups.csv")
            table = listed.assign(**settled[["group", "label", "status"]])
            labels = pd.Categorical(table["label"]).codes.astype("int64")
            found = take_apart(table, labels, neighbours, split, asked.seeds, 0)
            if found is None:
                print(f"| {variant} | no random split can be drawn |")
                continue
            parts = result[variant] = found["parts"]
            row = [variant, table["group"].nunique(), *(shown(parts, part) for part in PARTS)]
            row += [f"{parts[part]['train_groups']:.0f}" if part in parts else "–" for part in ("random", "grouped")]
            print("|", " | ".join(map(str, row)), "|", flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
