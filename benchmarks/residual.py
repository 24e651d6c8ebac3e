"""What deduplication misses of archives, by the second auditor: test images with a copy that only this one finds.

    python -m benchmarks.residual FOLDER SOURCE… [--taxonomy native] [--seeds 8]

FOLDER holds OWNER--SLUG.zip files; the SOURCEs are put together, deduplicated and split 70/15/15 without copies
(`grouped`). Residual are images of the test side with a copy on a side that is learned from which no group joins. Of
them so many at most as stand in the last column are false accepts of the second search, in 95 of 100 sets. The interval
is Wilson's of the mean counts, as if of one draw: the draws share their images. Prints Markdown; the last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from tumorxai.audit import second, subjects
from tumorxai.audit.audit import search
from tumorxai.base.dataset import Dataset, read_table
from tumorxai.config import Audit, Split
from tumorxai.files import read_array
from tumorxai.split.split import draw
from tumorxai.tools import splits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("source", nargs="+")
    parser.add_argument("--taxonomy", default="native")
    parser.add_argument("--seeds", type=int, default=8)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        data = Path(place)
        splits.prepare(asked.folder, splits.Images(asked.source, taxonomy=asked.taxonomy), data)
        table, grouped = (read_table(data / f"{name}.csv") for name in ("catalogue", "groups"))
        pairs = pd.read_csv(data / "pairs.csv")
        joined = table.assign(**grouped[["group", "label", "status"]], side="")
        dataset = Dataset(np.array(read_array(data / "pack.npy")), joined, ())
    seen = search(dataset, Audit(second_limit=10**6), 0)
    rows = []
    print("| seed | test images | missed by deduplication | false accepts explain at most |\n|---|---|---|---|")
    for seed in range(asked.seeds):
        side = draw(table, grouped, Split(protocol="grouped"), seed)["side"].to_numpy()
        found = second.crossing(joined, seen, pairs, side, subjects.LEARNED, "test")
        rows.append([found[name] for name in ("images", "missed", "explained")])
        print("|", " | ".join(map(str, [seed, *rows[-1]])), "|", flush=True)
    images, missed = np.mean(rows, axis=0)[:2]
    low, high = binomtest(round(missed), round(images)).proportion_ci(method="wilson")
    print(f"\nmean: {missed:.1f} of {images:.0f}: {100 * missed / images:.2f} % [{100 * low:.2f}, {100 * high:.2f}]")
    print(json.dumps({"sources": asked.source, "rows": rows, "both": second.recaptured(seen, pairs)}))


if __name__ == "__main__":
    main()
