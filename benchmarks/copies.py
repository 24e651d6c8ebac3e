"""What deduplication finds: in archives of real images, against known truth, and how far its threshold generalises.

    python benchmarks/copies.py archives FOLDER SOURCE…    counts, plain hash against confirmed, overlap, conflicts
    python benchmarks/copies.py planted                    recall and precision on the phantom's planted copies
    python benchmarks/copies.py folds FOLDER SOURCE        confirmed pairs across published folds, threshold held out

FOLDER holds OWNER--SLUG.zip files. Prints Markdown; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from tumorxai.archives.sources import archive_name
from tumorxai.base.dataset import read_table
from tumorxai.catalogue import catalogue
from tumorxai.config import Data, Dedupe, Phantom
from tumorxai.dedupe import groups, hashing
from tumorxai.fetch import phantom
from tumorxai.files import read_json

VARIANTS = {
    "as configured": Dedupe(),
    "one orientation": Dedupe(orientations=1),
    "unconfirmed": Dedupe(confirm=False),
    "hash alone": Dedupe(confirm=False, orientations=1),
}


class Loaded(NamedTuple):
    """Catalogued images: their table and counts, thumbnails of the different pixels, and each image's pixels."""

    table: pd.DataFrame
    counts: dict[str, Any]
    thumbnails: hashing.Thumbnails
    pixels: groups.Index


def load(archives: Path, names: list[str], taxonomy: str = "native") -> Loaded:
    """Catalogue and decode sources."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        settings = Data.model_validate({"sources": names, "taxonomy": taxonomy})
        for line in catalogue.build(archives, settings, root, root / "catalogue.json", root):
            print(line)
        table, counts = read_table(root / "catalogue.csv"), read_json(root / "catalogue.json")
    pixels, distinct = pd.factorize(table["pixels_sha256"])[0].astype(np.int64), ~table["pixels_sha256"].duplicated()
    files = [(archives / archive_name(source), path) for source, path in table.loc[distinct, ["source", "path"]].values]
    return Loaded(table, counts, hashing.thumbnails(files), pixels)


def in_archives(folder: Path, names: list[str], taxonomy: str) -> dict[str, Any]:
    """Counts of what each variant finds, the overlap of the sources, and the label conflicts."""
    loaded = load(folder, names, taxonomy)
    rows, result = [], dict[str, Any]()
    for variant, settings in VARIANTS.items():
        found = groups.find(loaded.thumbnails, loaded.pixels, settings)
        settled = groups.resolve(loaded.table["label"], found.group, settings.conflicts)
        result[variant] = counts = groups.summarise(loaded.table, found, settled, settings)
        turned = counts["near_pairs"] - counts["near_pairs_by_orientation"]["as is"]
        row = [counts["near_pairs"], turned, counts["groups"], counts["largest_group"], *counts["conflicts"].values()]
        rows.append([variant, *row])
    counts = result["as configured"]
    print("| source | images | quarantined | different pixels | images per class folder |\n|---|---|---|---|---|")
    for name, source in counts["sources"].items():
        listed = loaded.counts["sources"][name]
        classes = ", ".join(f"{native} {entry['count']}" for native, entry in listed["classes"].items())
        print(f"| {name} | {source['images']} | {listed['quarantined']} | {source['distinct_pixels']} | {classes} |")
    alone = result["hash alone"]["hash_alone"]
    print(f"\nplain hash, exact copies included: {alone['pairs']} pairs of images, ", end="")
    print(f"{alone['groups']} groups, the largest of {alone['largest_group']}\n")
    print("| variant | near pairs | of them turned | groups | largest | conflicts: groups | images |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print("|", " | ".join(map(str, row)), "|")
    if len(names) > 1:
        print(
            "\n| images of … with a copy in … |", " | ".join(counts["overlap"]), "|\n" + "|---" * (len(names) + 1) + "|"
        )
        for name, row in counts["overlap"].items():
            print(f"| {name} |", " | ".join(str(count) for count in row.values()), "|")
    return result


def interval(hits: int, count: int) -> str:
    """A share with its 95% Wilson interval, in percent."""
    low, high = binomtest(hits, count).proportion_ci(method="wilson")
    return f"{100 * hits / count:.2f} [{100 * low:.2f}, {100 * high:.2f}]"


def planted(patients: int) -> dict[str, Any]:
    """Recall by kind: a copy counts as found when it shares a group with its original. Precision over grouped pairs."""
    with tempfile.TemporaryDirectory() as folder:
        archives = Path(folder)
        phantom.write_archive(archives / archive_name("phantom"), Phantom(patients=patients, slices=1, copies=1.0))
        loaded = load(archives, ["phantom"])
        with zipfile.ZipFile(archives / archive_name("phantom")) as opened, opened.open("annotations.csv") as stream:
            truth = pd.read_csv(stream, keep_default_na=False).set_index("file").loc[loaded.table["path"]].reset_index()
    found = groups.find(loaded.thumbnails, loaded.pixels, Dedupe())
    place = {file: number for number, file in enumerate(truth["file"])}
    copies = np.flatnonzero(truth["copy_of"] != "")
    originals = np.array([place[file] for file in truth["copy_of"][copies]])
    hit = found.group[copies] == found.group[originals]
    hits, counts = Counter(truth["copy_kind"][copies[hit]]), Counter(truth["copy_kind"][copies])
    origin = truth["copy_of"].where(truth["copy_of"] != "", truth["file"]).to_numpy()
    together = [rows.to_numpy() for _, rows in pd.Series(origin).groupby(found.group) if len(rows) > 1]
    pairs = sum(len(rows) * (len(rows) - 1) // 2 for rows in together)
    right = sum(int(n * (n - 1) // 2) for rows in together for n in np.unique(rows, return_counts=True)[1])
    print(f"{len(truth) - len(copies)} originals, {len(copies)} planted copies\n")
    print("| kind | copies | found, % |\n|---|---|---|")
    for kind in phantom.KINDS:
        print(f"| {kind} | {counts[kind]} | {interval(hits[kind], counts[kind])} |")
    print(f"\nprecision over {pairs} pairs that share a group: {interval(right, pairs)} %")
    return {"recall": {kind: [hits[kind], counts[kind]] for kind in counts}, "precision": [right, pairs]}


def across_folds(folder: Path, name: str, limit: float) -> dict[str, Any]:
    """Share of confirmed near pairs that cross the folds, and of the plain hash's pairs within a fold that are kept.

    Once with the configured threshold, once with the least threshold that keeps the share of crossing pairs within the
    limit on the pairs of all *other* folds than that of a pair's first image.
    """
    loaded = load(folder, [name])
    fold = loaded.table["fold"].to_numpy()
    plain = groups.find(loaded.thumbnails, loaded.pixels, VARIANTS["hash alone"]).pairs
    found = groups.find(loaded.thumbnails, loaded.pixels, Dedupe()).pairs
    beyond = found[(found["kind"] == "near") & ((found["orientation"] > 0) | (found["distance"] > Dedupe().distance))]
    plain, beyond = (
        part.assign(a=fold[part["image_a"]], b=fold[part["image_b"]], cross=lambda t: t["a"] != t["b"])
        for part in (plain[plain["kind"] == "near"], beyond)
    )
    result = {"plain": counted(plain, beyond[:0], 0.0), "configured": counted(plain, beyond, Dedupe().similarity)}
    steps = np.round(np.arange(0.30, 0.90, 0.01), 2)
    parts, chosen = [], {}
    for held in sorted(set(fold)):
        others, further = (part[(part["a"] != held) & (part["b"] != held)] for part in (plain, beyond))
        shares = {step: counted(others, further, step)["share_crossing"] for step in steps}
        chosen[held] = next(float(step) for step in steps if shares[step] <= limit)
        parts.append(counted(plain[plain["a"] == held], beyond[beyond["a"] == held], chosen[held]))
    crossing, kept, confirmed, within = (
        sum(part[key] for part in parts) for key in ("crossing", "kept", "confirmed", "within")
    )
    result["held_out"] = {
        "crossing": crossing, "confirmed": confirmed, "share_crossing": crossing / confirmed,
        "kept": kept, "within": within, "share_kept": kept / within, "thresholds": chosen,
    }  # fmt: skip
    print("| threshold | confirmed | crossing | % | of the plain within-fold pairs kept, % |\n|---|---|---|---|---|")
    for row, counts in result.items():
        kept = f"{counts['kept']} of {counts['within']}: {100 * counts['share_kept']:.1f}"
        share = interval(counts["crossing"], counts["confirmed"])
        print(f"| {row} | {counts['confirmed']} | {counts['crossing']} | {share} | {kept} |")
    print("\nthresholds chosen without each fold:", chosen)
    return result


def counted(plain: pd.DataFrame, beyond: pd.DataFrame, least: float) -> dict[str, Any]:
    """Pairs confirmed with a threshold on the plain ones, and those of them that cross folds."""
    passed = plain[plain["correlation"] >= least]
    confirmed, crossing = len(passed) + len(beyond), int(passed["cross"].sum() + beyond["cross"].sum())
    kept, within = int((~passed["cross"]).sum()), int((~plain["cross"]).sum())
    return {
        "crossing": crossing, "confirmed": confirmed, "share_crossing": crossing / max(1, confirmed),
        "kept": kept, "within": within, "share_kept": kept / max(1, within),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("planted").add_argument("--patients", type=int, default=1200)
    for name in ("archives", "folds"):
        mode = modes.add_parser(name)
        mode.add_argument("folder", type=Path)
        mode.add_argument("source", nargs="+" if name == "archives" else 1)
        mode.add_argument("--taxonomy", default="native", help="labels whose conflicts are counted")
    mode.add_argument("--limit", type=float, default=0.01, help="share of crossing pairs to stay within")
    asked = parser.parse_args()
    if asked.mode == "planted":
        result = planted(asked.patients)
    elif asked.mode == "archives":
        result = in_archives(asked.folder, asked.source, asked.taxonomy)
    else:
        result = across_folds(asked.folder, asked.source[0], asked.limit)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
