"""What ``benchmarks/copies.py`` counts, in words: its tables, and the page ``results/duplicates.md``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scipy.stats import binomtest

TITLE = "Copies in the public data sets"
ABOUT = """\
What deduplication found at the commit of the record, with its default parameters then: perceptual hashes of the whole
image over eight orientations, each pair confirmed by the correlation of its edges. Since then it also looks at the
image's box without margins, at inverted images and at the most similar edges, and lays each pair over each other; what
that finds of altered slices `python -m benchmarks.altered` prints. The archives were mirrors whose images are
re-encoded to at most 256 px; where a mirror lacks images of the publisher's, the count says so. Nothing is trained, so
that other machines find the same, but for pairs that lie on a threshold.

```sh
python benchmarks/copies.py --into results/duplicates.json archives FOLDER OWNER/SLUG …
python benchmarks/copies.py --into results/duplicates.json planted
make results
```
"""
PLANTED = """\
The phantom, with one altered copy of each original: same bytes, re-encoded (JPEG 30 to 95), resized (0.5 to 2 times),
flipped, rotated by quarter turns, brightness and contrast changed by up to 20 %. Cropped, padded, shifted or inverted
copies, and turns by a few degrees, are not among them: nothing here says that they are found. 95 % Wilson intervals.
"""
FOLDS = """\
The slices come in folds by patient: a near pair across folds is a look-alike, not a copy (or one patient filed twice).
The configured threshold was chosen with these pairs in view; the last row chooses it, for at most 1 % across folds,
without the fold that it is applied to.
"""
ARCHIVES = """\
*turned*: pairs found only in another of the eight orientations. *hash alone*: one orientation, not confirmed. Where
different images look alike when turned, as photographs of the fundus do, `dedupe.similarity` of 0.9 and `dedupe.strict`
of 0.95 suit better.
"""


def interval(hits: int, count: int) -> str:
    """A share with its 95 % Wilson interval, in percent."""
    low, high = binomtest(hits, count).proportion_ci(method="wilson")
    return f"{100 * hits / count:.2f} [{100 * low:.2f}, {100 * high:.2f}]"


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def planted(part: dict[str, Any]) -> list[str]:
    """Recall of planted copies by kind, precision over the pairs that share a group."""
    recall = [[kind, count, interval(hits, count)] for kind, (hits, count) in part["recall"].items()]
    right, pairs = part["precision"]
    return [
        f"{part['originals']:,} originals, {sum(count for _, count in part['recall'].values()):,} planted copies.",
        "",
        *_table(["kind", "copies", "found, %"], recall),
        "",
        f"Precision over {pairs:,} pairs that share a group: {interval(right, pairs)} %.",
    ]


def folds(part: dict[str, Any]) -> list[str]:
    """Confirmed pairs across published folds, by threshold."""
    rows = [
        [
            name,
            row["confirmed"],
            row["crossing"],
            interval(row["crossing"], row["confirmed"]),
            f"{row['kept']} of {row['within']}: {100 * row['share_kept']:.1f}",
        ]
        for name, row in part["rows"].items()
    ]
    heads = ["threshold", "confirmed pairs", "across folds", "%", "pairs of plain pHash within a fold that are kept, %"]
    chosen = [value for row in part["rows"].values() for value in row.get("thresholds", {}).values()]
    return [
        *_table(heads, rows),
        "",
        f"Thresholds chosen without each fold: {min(chosen):.2f} to {max(chosen):.2f}.",
    ]


def archives(part: dict[str, Any]) -> list[str]:
    """What each variant of deduplication finds in some archives, and what they share."""
    lines = [f"- {line}" for line in part["differs"]]
    listed = []
    for name, source in part["sources"].items():
        classes = ", ".join(f"{native} {count}" for native, count in source["classes"].items())
        listed.append([name, source["images"], source["quarantined"], source["distinct_pixels"], classes])
    heads = ["source", "images", "quarantined", "different pixels", "images per class folder"]
    lines += ["", *_table(heads, listed)] if lines else _table(heads, listed)
    plain = part["plain"]
    lines += [
        "",
        f"Plain hash, exact copies included: {plain['pairs']} pairs of images, {plain['groups']} groups, "
        f"the largest of {plain['largest_group']}.",
    ]
    lines += [
        f"Of the publisher's {row['images']} test images of {name}, {row['same_pixels']} have the same pixels as "
        "a training image."
        for name, row in part["published_test"].items()
    ]
    keys = ("near_pairs", "turned", "groups", "largest_group", "conflicting_groups", "conflicting_images")
    found = [[variant, *(row[key] for key in keys)] for variant, row in part["variants"].items()]
    heads = ["variant", "near pairs", "of them turned", "groups", "largest", "conflicts: groups", "images"]
    lines += ["", *_table(heads, found)]
    if len(part["overlap"]) > 1:
        shared = [[name, *row.values()] for name, row in part["overlap"].items()]
        lines += ["", *_table(["images of … with a copy in …", *part["overlap"]], shared)]
    return lines


def page(content: dict[str, Any]) -> str:
    """The page of all parts that have been counted."""
    lines = [f"# {TITLE}", "", ABOUT.rstrip()]
    if "planted" in content:
        lines += ["", "## Copies that were planted", "", PLANTED, *planted(content["planted"])]
    if "folds" in content:
        lines += ["", f"## Look-alikes that were no copies: {content['folds']['source']}", "", FOLDS]
        lines += folds(content["folds"])
    lines += ["", "## Archive by archive", "", ARCHIVES.rstrip()]
    for name, part in content["archives"].items():
        lines += ["", f"### {name}", "", *archives(part)]
    return "\n".join([*lines, "", made(content)]) + "\n"


def made(content: dict[str, Any]) -> str:
    """Which commit, day and versions the parts are of."""
    parts = [content[key] for key in ("planted", "folds") if key in content]
    records = [part["record"] for part in [*parts, *content["archives"].values()]]
    said = dict.fromkeys(
        f"{record['date']}, commit {record['commit']}, Python {record['python']}, "
        + ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        for record in records
    )
    return f"Record: {'; '.join(said)}."
