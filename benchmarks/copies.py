"""What deduplication finds: in archives of real images, against known truth, and how far its threshold generalises.

    python -m benchmarks.copies archives FOLDER SOURCE…    counts, plain hash against confirmed, overlap, conflicts
    python -m benchmarks.copies planted                    recall and precision on the phantom's planted copies

FOLDER holds OWNER--SLUG.zip files. Prints Markdown; the last line is one JSON object. With --into FILE before the
mode, the counts take their place in that file, from which `make results` writes the page.
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
from benchmarks.record import record

from tumorxai.archives.sources import archive_name
from tumorxai.base.dataset import read_table
from tumorxai.catalogue import catalogue
from tumorxai.config import Data, Dedupe, Phantom
from tumorxai.dedupe import groups, hashing
from tumorxai.dedupe.copies import find
from tumorxai.dedupe.registration import Index
from tumorxai.fetch import phantom
from tumorxai.files import read_json, write_json
from tumorxai.tools import results_copies

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
    images: hashing.Images
    pixels: Index
    differs: list[str]  # one line for each count that is not the publisher's


def load(archives: Path, names: list[str], taxonomy: str = "native") -> Loaded:
    """Catalogue and decode sources."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        settings = Data.model_validate({"sources": names, "taxonomy": taxonomy})
        differs = catalogue.build(archives, settings, root, root / "catalogue.json", root)
        table, counts = read_table(root / "catalogue.csv"), read_json(root / "catalogue.json")
    pixels, distinct = pd.factorize(table["pixels_sha256"])[0].astype(np.int64), ~table["pixels_sha256"].duplicated()
    files = [(archives / archive_name(source), path) for source, path in table.loc[distinct, ["source", "path"]].values]
    return Loaded(table, counts, hashing.read_images(files), pixels, differs)


def in_archives(folder: Path, names: list[str], taxonomy: str) -> dict[str, Any]:
    """Counts of what each variant finds, the overlap of the sources, and the label conflicts."""
    loaded = load(folder, names, taxonomy)
    variants, summaries = dict[str, Any](), dict[str, Any]()
    for variant, settings in VARIANTS.items():
        found = find(loaded.images, loaded.pixels, settings)
        settled = groups.resolve(loaded.table, found.group, found.blank, settings.conflicts)
        summaries[variant] = counts = groups.summarise(loaded.table, found, settled, settings)
        variants[variant] = {
            "near_pairs": counts["near_pairs"],
            "turned": counts["near_pairs"] - counts["near_pairs_by_orientation"]["as is"],
            "groups": counts["groups"],
            "largest_group": counts["largest_group"],
            **{f"conflicting_{key}": count for key, count in counts["conflicts"].items()},
        }
    sources = summaries["as configured"]["sources"]
    for name, source in sources.items():
        listed = loaded.counts["sources"][name]
        source["quarantined"] = listed["quarantined"]
        source["classes"] = {native: entry["count"] for native, entry in listed["classes"].items()}
    return {
        "taxonomy": taxonomy, "differs": loaded.differs, "sources": sources, "variants": variants,
        "plain": summaries["hash alone"]["hash_alone"], "overlap": summaries["as configured"]["overlap"],
        "published_test": published(loaded.table),
    }  # fmt: skip


def published(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Of sources with a published test side: its images, and those with equal pixels among its training images."""
    result = {}
    for name, part in table.groupby("source", sort=False):
        test, train = (part.loc[part["official_split"] == side, "pixels_sha256"] for side in ("test", "train"))
        if len(test):
            result[str(name)] = {"images": len(test), "same_pixels": int(test.isin(train).sum())}
    return result


def planted(patients: int) -> dict[str, Any]:
    """Recall by kind: a copy counts as found when it shares a group with its original. Precision over grouped pairs."""
    with tempfile.TemporaryDirectory() as folder:
        archives = Path(folder)
        phantom.write_archive(archives / archive_name("phantom"), Phantom(patients=patients, slices=1, copies=1.0))
        loaded = load(archives, ["phantom"])
        with zipfile.ZipFile(archives / archive_name("phantom")) as opened, opened.open("annotations.csv") as stream:
            truth = pd.read_csv(stream, keep_default_na=False).set_index("file").loc[loaded.table["path"]].reset_index()
    found = find(loaded.images, loaded.pixels, Dedupe())
    place = {file: number for number, file in enumerate(truth["file"])}
    copies = np.flatnonzero(truth["copy_of"] != "")
    originals = np.array([place[file] for file in truth["copy_of"][copies]])
    hit = found.group[copies] == found.group[originals]
    hits, counts = Counter(truth["copy_kind"][copies[hit]]), Counter(truth["copy_kind"][copies])
    origin = truth["copy_of"].where(truth["copy_of"] != "", truth["file"]).to_numpy()
    together = [rows.to_numpy() for _, rows in pd.Series(origin).groupby(found.group) if len(rows) > 1]
    pairs = sum(len(rows) * (len(rows) - 1) // 2 for rows in together)
    right = sum(int(n * (n - 1) // 2) for rows in together for n in np.unique(rows, return_counts=True)[1])
    return {
        "originals": len(truth) - len(copies),
        "recall": {kind: [hits[kind], counts[kind]] for kind in phantom.KINDS},
        "precision": [right, pairs],
    }


def keep(path: Path, part: str, result: dict[str, Any], name: str | None = None) -> None:
    """Put a result with its record into a part of a file of results, or under its name there."""
    content = read_json(path) if path.exists() else {"title": results_copies.TITLE, "archives": {}}
    (content if name is None else content[part])[name or part] = result | {"record": record()}
    write_json(path, content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, metavar="FILE", help="JSON file that receives the counts as well")
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("planted").add_argument("--patients", type=int, default=1200)
    mode = modes.add_parser("archives")
    mode.add_argument("folder", type=Path)
    mode.add_argument("source", nargs="+")
    mode.add_argument("--taxonomy", default="native", help="labels whose conflicts are counted")
    asked = parser.parse_args()
    planting = asked.mode == "planted"
    result = planted(asked.patients) if planting else in_archives(asked.folder, asked.source, asked.taxonomy)
    if asked.into:
        keep(asked.into, asked.mode, result, ", ".join(asked.source) if asked.mode == "archives" else None)
    print("\n".join(getattr(results_copies, asked.mode)(result)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
