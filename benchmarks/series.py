"""How well likely series are found: on Cheng's slices, whose folds hold whole patients, with the folds hidden.

    python -m benchmarks.series ARCHIVE [--into results/patients.json]    # cheng--figshare-1512427.zip

A threshold is chosen on three folds, the least at which found series are precise enough, and judged on the other two,
for all ten choices of three. Precision is that of pairs of images in one found series: pairs across folds are wrong,
and as many again in proportion are wrong within a fold by chance. Recall is that of pairs of one fold at most three
numbers apart; some of these are of two series that follow each other, and no method finds all. Prints Markdown; the
last line is one JSON object. With --into the figures take their place in that file.
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmarks.record import keep
from numpy.typing import NDArray

from tumorxai.patients import crossing, frames, make_registry, series

STEPS = np.round(np.arange(-0.02, 0.0801, 0.005), 3)
PRECISE = 0.8
ROWS = (
    "precision, folds left out",
    "recall, folds left out",
    f"precision, all folds, least excess {series.LEAST:g} as in use",
    f"recall, all folds, least excess {series.LEAST:g} as in use",
    "near pairs that are of two series by the order",
)


class Found(NamedTuple):
    """What a threshold finds: precision of pairs in a series, recall of near pairs, series of two and more, largest."""

    precision: float
    recall: float
    series: int
    largest: int


def judge(vectors: frames.Floats, fold: NDArray[np.int64], number: NDArray[np.int64], least: float) -> Found:
    """Find series and hold them against folds and numbers."""
    nobody, count = [""] * len(fold), len(fold)
    joined = series.join(count, series.links(vectors, np.arange(count), least), nobody, np.full(count, -1))
    sizes = np.bincount(joined, minlength=count)
    table = np.zeros((count, fold.max() + 1), dtype=np.int64)
    np.add.at(table, (joined, fold), 1)
    together, within = (int((n * (n - 1) // 2).sum()) for n in (sizes, table))
    folds = np.bincount(fold)
    by_chance = 1 - (folds * (folds - 1)).sum() / (count * (count - 1))  # share of all pairs that cross folds
    wrong = (together - within) / by_chance
    a, b = crossing.near(fold.astype(str).astype(object), number)
    return Found(
        1 - wrong / max(1, together), float((joined[a] == joined[b]).mean()), int((sizes > 1).sum()), int(sizes.max())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--into", type=Path, metavar="FILE", help="JSON file that receives the figures as well")
    asked = parser.parse_args()
    slices = make_registry.read(asked.archive)
    vectors = series.features(slices.images)
    print("| least excess | precision | recall | series | largest |\n|---|---|---|---|---|")
    for least in STEPS:
        found = judge(vectors, slices.fold, slices.number, least)
        print(
            f"| {least:g} | {100 * found.precision:.1f} | {100 * found.recall:.1f} | {found.series} | {found.largest} |"
        )
    print("\n| chosen on folds | least excess | precision there | on the others: precision | recall | largest |")
    print("|---|---|---|---|---|---|")
    rows = []
    for chosen in combinations(np.unique(slices.fold).tolist(), 3):
        inside = np.isin(slices.fold, chosen)
        tried = [judge(vectors[inside], slices.fold[inside], slices.number[inside], least) for least in STEPS]
        place = next(place for place, found in enumerate(tried) if found.precision >= PRECISE)
        held = judge(vectors[~inside], slices.fold[~inside], slices.number[~inside], STEPS[place])
        rows.append((float(STEPS[place]), tried[place], held))
        print(
            f"| {chosen} | {STEPS[place]:g} | {100 * tried[place].precision:.1f} | {100 * held.precision:.1f} | "
            f"{100 * held.recall:.1f} | {held.largest} |"
        )
    precision, recall = (np.array([getattr(held, name) for _, _, held in rows]) for name in ("precision", "recall"))
    a, b = crossing.near(slices.fold.astype(str).astype(object), slices.number)
    runs = series.by_order(slices.number, slices.apart, vectors)
    apart = float((runs[a] != runs[b]).mean())
    print(f"\nnear pairs that are of two series by the order: {100 * apart:.1f} %")
    configured = judge(vectors, slices.fold, slices.number, series.LEAST)
    result: dict[str, Any] = {
        "configured": {"least": series.LEAST, **configured._asdict()},
        "chosen": [least for least, _, _ in rows],
        "held_out": {
            name: {"mean": values.mean(), "low": values.min(), "high": values.max()}
            for name, values in (("precision", precision), ("recall", recall))
        },
    }
    if asked.into:
        held = [[*values.values()] for values in result["held_out"].values()]
        every = [[value, None, None] for value in (configured.precision, configured.recall)]
        rows = dict(zip(ROWS, [*held, *every, [apart, None, None]], strict=True))
        keep(asked.into, "series", rows, result)
    print(f"\n{json.dumps(result)}")


if __name__ == "__main__":
    main()
