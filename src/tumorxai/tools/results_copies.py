"""What ``benchmarks/copies.py`` counts, in words: its tables, and the page ``results/duplicates.md``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scipy.stats import binomtest

TITLE = "Copies in the public data sets"
ABOUT = """\
What deduplication finds with its default parameters, at the commit of the record. The archives were mirrors whose
images are re-encoded to at most 256 px; where a mirror lacks images of the publisher's, the count says so. Nothing is
trained, so that other machines find the same, but for pairs that lie on a threshold.

```sh
python -m benchmarks.copies --into results/duplicates.json archives FOLDER OWNER/SLUG …
python -m benchmarks.copies --into results/duplicates.json planted
python -m benchmarks.altered --into results/duplicates.json folds FOLDER cheng/figshare-1512427
python -m benchmarks.altered --into results/duplicates.json altered FOLDER cheng/figshare-1512427
make results
```
"""
PLANTED = """\
The phantom, with one altered copy of each original: same bytes, re-encoded (JPEG 30 to 95), resized (0.5 to 2 times),
flipped, rotated by quarter turns, brightness and contrast changed by up to 20 %. 95 % Wilson intervals.
"""
ALTERED = """\
Slices of Cheng's archive, altered, each as a JPEG of quality 90 beside all 3,064 originals; a slice has one copy.
Found: paired with its original. Across folds: pairs with an original of another fold, which should be another
patient's; false are those that are not of a patient who stands in both folds (below). 95 % Wilson intervals.
imagededup's CNN and SelfClean compare features of EfficientNet-Lite0 with ImageNet's weights here, as their own
networks come from hubs; SelfClean ranks pairs: once its automatic cut is taken, once as many pairs as there are copies.
"""
FOLDS = """\
The slices come in folds by patient: an accepted pair across folds is false, unless one patient stands in both. Some do:
the second auditor, which shares nothing with the detector, finds slices of two folds that show one head, and their
neighbours in step (`python -m benchmarks.persons ARCHIVE`). Seen side by side they are one head with one lesion, often
before and after an operation. The registry takes the series of such slices for one, which a split by patients keeps on
one side; these series are listed here. Pairs of two examinations are no copies, but they do not join strangers.
"""
RULE = """\
A threshold is chosen on some folds as the least at which the upper end of the 95 % interval of the false share stays
within {limit:.1f} %, and judged on the pairs of the other folds, in every way to choose two or three folds of five.
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


def altered(part: dict[str, Any]) -> list[str]:
    """Recall of altered slices by kind, pairs across folds, and what other tools find of the same."""
    rows, others = [], list(dict.fromkeys(tool for tools in part["kinds"].values() for tool in tools if tool != "ours"))
    for kind, tools in part["kinds"].items():
        own = tools["ours"]
        row = [kind, own["copies"], interval(own["found"], own["copies"]), own["crossing"], own["false"]]
        told = [tools.get(tool) for tool in others]
        rows.append(row + [f"{100 * one['found'] / one['copies']:.1f}, {one['false']}" if one else "" for one in told])
    heads = ["altered", "copies", "found, %", "pairs across folds", "of them false"]
    return _table([*heads, *(f"{tool}: found, %, and false pairs" for tool in others)], rows)


def folds(part: dict[str, Any]) -> list[str]:
    """Who stands in several folds, thresholds chosen on some folds and judged on the others, and those in use."""
    columns = sorted({name for person in part["persons"] for name in person if name != "class"})
    listed = [[person["class"], *(person.get(name, "") for name in columns)] for person in part["persons"]]
    chosen = [way for ways in part["ways"].values() for way in ways if "others" in way]
    heads = ["chosen on folds", "`similarity`", "`strict`", "false there", "false on the others", "%", "across folds"]
    return [
        f"{len(part['persons'])} patients with {part['slices']} slices, by the numbers of the files:",
        "",
        *_table(["class", *columns], listed),
        "",
        RULE.format(limit=100 * part["limit"]),
        *_table(heads, [_way(way) for way in chosen]),
        "",
        *(_held_out(size, ways) for size, ways in part["ways"].items()),
        "",
        _in_use(part["configured"], chosen),
    ]


def _way(way: dict[str, Any]) -> list[Any]:
    there, others = way["there"], way["others"]
    return [
        ", ".join(map(str, way["chosen_on"])),
        f"{way['similarity']:.2f}",
        f"{way['strict']:.2f}",
        f"{there['false']} of {there['accepted']}",
        f"{others['false']} of {others['accepted']}",
        interval(others["false"], others["accepted"]),
        others["crossing"],
    ]


def _held_out(size: str, ways: list[dict[str, Any]]) -> str:
    """In words, what the thresholds chosen on so many folds do on the others."""
    done = [way["others"] for way in ways if "others" in way]
    few = f"Chosen on {size} folds: in {len(ways) - len(done)} of {len(ways)} ways the pairs are too few to tell"
    if not done:
        return f"- {few}."
    false, accepted = (sum(way[key] for way in done) for key in ("false", "accepted"))
    worst = max(way["false"] / way["accepted"] for way in done)
    return (
        f"- {few}; in the others {false} of {accepted} accepted pairs of the folds left out are false, at most "
        f"{100 * worst:.2f} % in one way."
    )


def _in_use(own: dict[str, Any], chosen: list[dict[str, Any]]) -> str:
    """In words, how the configured thresholds stand to the chosen ones, and what they accept."""
    stricter = all(own[name] >= max(way[name] for way in chosen) for name in ("similarity", "strict"))
    than = "stricter than every one of these" if stricter else "not stricter than every one of these"
    return (
        f"In use are {own['similarity']} and {own['strict']}, {than}: aligned slices of two examinations of one "
        f"patient come close, and are no copies. Of all folds {own['accepted']} pairs are accepted: {own['false']} are "
        f"false ({interval(own['false'], own['accepted'])} %), and {own['crossing']} cross folds "
        f"({interval(own['crossing'], own['accepted'])} %)."
    )


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
    if "altered" in content:
        lines += ["", "## Slices that were altered", "", ALTERED, *altered(content["altered"])]
    if "folds" in content:
        lines += ["", "## Pairs of two patients, and the thresholds", "", FOLDS, *folds(content["folds"])]
    lines += ["", "## Archive by archive", "", ARCHIVES.rstrip()]
    for name, part in content["archives"].items():
        lines += ["", f"### {name}", "", *archives(part), "", f"Counted at commit {part['record']['commit']}."]
    return "\n".join([*lines, "", made(content)]) + "\n"


def made(content: dict[str, Any]) -> str:
    """Which commit, day and versions the parts are of."""
    parts = [content[key] for key in ("planted", "altered", "folds") if key in content]
    records = [part["record"] for part in [*parts, *content["archives"].values()]]
    said = dict.fromkeys(
        f"{record['date']}, commit {record['commit']}, Python {record['python']}, "
        + ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        for record in records
    )
    return f"Record: {'; '.join(said)}."
