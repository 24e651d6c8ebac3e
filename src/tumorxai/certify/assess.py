"""All that is found out about a split whose sides are known."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from typing import Any, NamedTuple

import pandas as pd

from tumorxai.audit import second, subjects, verdict
from tumorxai.certify import judge, sides
from tumorxai.certify.gather import Gathered
from tumorxai.certify.sides import Sides
from tumorxai.config import Dedupe

PACKAGES = ("tumorxai", "numpy", "pandas", "pillow", "scipy")  # what the outcome may depend on
SETTINGS = Dedupe(conflicts="keep")  # images under two labels are what a reviewer wants to see


class Audited(NamedTuple):
    """What was found.

    Attributes:
        summary: for ``audit.json``.
        table: N images with ``side``, ``group``, ``patient`` and ``pixels_sha256``.
        across: see :func:`tumorxai.certify.judge.across`.
        left_out: ``source``, ``path`` and ``reason``.
        split: where the sides came from.
    """

    summary: dict[str, Any]
    table: pd.DataFrame
    across: pd.DataFrame
    left_out: pd.DataFrame
    split: Sides


def assess(found: Gathered, given: Sides, name: str) -> Audited:
    """Numbers and verdict of images whose sides are known.

    Args:
        found: the images.
        given: the sides; of every image of ``found``.
        name: what the data are called.

    Raises:
        UserError: no readable image is on the training or on the test side.
    """
    dataset = found.dataset([given.side[path] for path in found.table["path"]])
    table = dataset.table
    sides.check(table["side"], given.origin)
    crossed, side = judge.crossings(table, found.pairs), table["side"].to_numpy()
    seen = judge.search(dataset)
    again = second.crossing(table, seen, found.pairs, side, subjects.LEARNED, "test")
    evidence = judge.evidence(table, found.pairs, again["missed"], again["explained"])
    judged = verdict.judge(evidence)
    across = judge.across(table, judge.copies(found.pairs, table["group"].to_numpy(), seen))
    counted = pd.crosstab(table["side"], table["label"])
    summary = {
        "data": name,
        "verdict": judged["level"],
        "sentence": judged["sentence"],
        "evidence": judged["evidence"],
        "split": given.origin,
        "images": len(table),
        "sides": {str(side): {str(k): int(v) for k, v in row.items()} for side, row in counted.iterrows() if side},
        "without_side": int((table["side"] == "").sum()),
        "unmatched_rows": len(given.unmatched),
        "left_out": dict(Counter(found.left_out["reason"])),
        "distinct_pixels": int(table["pixels_sha256"].nunique()),
        "groups_of_copies": int((table["group"].value_counts() > 1).sum()),
        "crossings": crossed,
        "two_labels": {kind: int((across["what"] == kind).sum()) for kind in judge.KINDS if "two" in kind},
        "second": again,
        "pixel_neighbour": judge.pixel_neighbour(dataset),
        "detector": SETTINGS.model_dump(),
        "versions": versions(),
    }
    return Audited(summary, table, across, found.left_out, given)


def versions() -> dict[str, str]:
    """Of the packages that decode images and find copies."""
    return {name: version(name) for name in PACKAGES}
