"""Groups of images that are copies of each other, within and across sources, and what becomes of them.

Exact copies have equal decoded pixels. Near copies are proposed by perceptual hashes (:mod:`candidates`) and by a
search for the most similar edges (:mod:`nearest`), laid over each other (:mod:`registration`) and kept where their
edges correlate (:mod:`confirm`). Groups are the connected components of all copies (single link).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.archives.sources import archive_name
from tumorxai.base.dataset import read_table
from tumorxai.config import Dedupe
from tumorxai.dedupe import figures, hashing
from tumorxai.dedupe.copies import Found, find
from tumorxai.dedupe.registration import Index
from tumorxai.dedupe.weakest import weakest_link
from tumorxai.files import write_csv, write_json

log = logging.getLogger(__name__)


def findings(catalogue: pd.DataFrame) -> pd.Series[Any]:
    """What the labels say of the tissue: the labels without the MRI sequence where they end in it ("glioma T1C+")."""
    labels = catalogue["label"].astype(str)
    if "sequence" not in catalogue:
        return labels
    pairs = zip(labels, catalogue["sequence"].astype(str), strict=True)
    return pd.Series(
        [label.removesuffix(f" {sequence}") if sequence else label for label, sequence in pairs], index=catalogue.index
    )


def resolve(catalogue: pd.DataFrame, group: Index, blank: NDArray[np.bool_], conflicts: str) -> pd.DataFrame:
    """Settle what happens to near-constant images and to groups with more than one finding.

    One slice in two MRI sequences is no conflict, even where the labels name the sequence.

    Args:
        catalogue: of N images; ``label`` and, where it is known, ``sequence``.
        group: of N images.
        blank: near-constant ones, which are dropped.
        conflicts: ``drop`` all images of such a group, ``keep`` them as they are, or give all the finding of the
            ``majority``, each with its own sequence, and drop the group on a tie and what has no such label.

    Returns:
        ``group``, ``label`` and ``status`` (keep or drop) of the N images.
    """
    label, finding = catalogue["label"].to_numpy(dtype=object), findings(catalogue).to_numpy(dtype=object)
    table = pd.DataFrame({"group": group, "label": label, "status": "keep", "finding": finding})
    table.loc[blank, "status"] = "drop"
    if conflicts == "keep":
        return table[["group", "label", "status"]]
    known = set(label)
    contested = (table.groupby("group")["finding"].transform("nunique") > 1) & ~blank
    for _, rows in table[contested].groupby("group"):
        votes = Counter(rows["finding"]).most_common(2)
        if conflicts == "majority" and votes[0][1] > votes[1][1]:
            tails = [whole[len(part) :] for whole, part in zip(rows["label"], rows["finding"], strict=True)]
            names = [votes[0][0] + tail for tail in tails]
            table.loc[rows.index, "label"] = [
                name if name in known else old for name, old in zip(names, rows["label"], strict=True)
            ]
            table.loc[rows.index[[name not in known for name in names]], "status"] = "drop"
        else:
            table.loc[rows.index, "status"] = "drop"
    return table[["group", "label", "status"]]


def overlap(sources: pd.Series[Any], group: Index) -> dict[str, dict[str, int]]:
    """Images of the first source that have a copy in the second; on the diagonal, another copy in the same source."""
    table = pd.crosstab(group, sources.to_numpy())
    names = list(dict.fromkeys(sources))
    return {
        row: {column: int(table[row][table[column] > (row == column)].sum()) for column in names}
        for row in names
    }  # fmt: skip


def summarise(catalogue: pd.DataFrame, found: Found, settled: pd.DataFrame, settings: Dedupe) -> dict[str, Any]:
    """The counts that ``details/dedupe.json`` holds."""
    pixels = catalogue["pixels_sha256"]
    near = found.pairs[found.pairs["kind"] == "near"]
    copies = pixels.value_counts().to_numpy()
    tissue = findings(catalogue)
    sizes = catalogue.groupby(found.group).size()
    contested = tissue.groupby(found.group).agg(lambda names: len(set(names))) > 1
    turns = near["orientation"].value_counts()
    giants = [int(group) for group in sizes.index[sizes >= settings.giant]]
    if not found.searched and settings.confirm:
        log.warning(
            "dedupe: got more than dedupe.limit = %d different images; compared by their hashes only, without slack: "
            "rotated and cut copies are missed",
            settings.limit,
        )
    return {
        "images": len(catalogue),
        "distinct_pixels": int(pixels.nunique()),
        "exact_pairs": int((copies * (copies - 1) // 2).sum()),
        "near_pairs": len(near),
        "near_pairs_by_orientation": {name: int(turns.get(o, 0)) for o, name in enumerate(hashing.ORIENTATIONS)},
        "near_pairs_beyond_distance": int((near["distance"] > settings.distance).sum()),
        "near_pairs_inverted": int(near["inverted"].sum()),
        "rejected_pairs": found.rejected,
        "compared_each_with_all": found.searched,
        "near_constant": {
            "images": int(found.blank.sum()),
            "files": [f"{row.source}: {row.path}" for row in catalogue[found.blank].itertuples()],
        },
        "groups": len(sizes),
        "groups_of_copies": int((sizes > 1).sum()),
        "largest_group": int(sizes.max()),
        "giant_groups": {str(group): int(sizes[group]) for group in giants},
        "weakest_links": {str(group): weakest_link(found.pairs, found.group, group) for group in giants},
        "conflicts": {"groups": int(contested.sum()), "images": int(sizes[contested].sum())},
        "sequences_of_one_finding": _sequences(catalogue, tissue, found.group),
        "dropped": int((settled["status"] == "drop").sum()),
        "relabelled": int((settled["label"].to_numpy() != catalogue["label"].to_numpy()).sum()),
        "hash_alone": found.alone,
        "sources": {
            str(name): {"images": len(rows), "distinct_pixels": int(rows.nunique())}
            for name, rows in pixels.groupby(catalogue["source"], sort=False)
        },
        "overlap": overlap(catalogue["source"], found.group),
    }


def _sequences(catalogue: pd.DataFrame, tissue: pd.Series[Any], group: Index) -> dict[str, int]:
    """Groups of one finding under labels of several MRI sequences, and images whose very pixels stand under several."""

    def alike(by: Any) -> pd.Series[Any]:
        labels, seen = catalogue["label"].groupby(by), tissue.groupby(by)
        several: pd.Series[Any] = (labels.transform("nunique") > 1) & (seen.transform("nunique") == 1)
        return several

    several, identical = alike(group), alike(catalogue["pixels_sha256"])
    return {
        "groups": int(pd.Series(group)[several.to_numpy()].nunique()),
        "images": int(several.sum()),
        "images_with_identical_pixels": int(identical.sum()),
    }


def run(settings: Dedupe, data: Path, archives: Path, details: Path, plots: Path, workers: int | None = None) -> None:
    """Read ``catalogue.csv`` under ``data``; write ``groups.csv`` and ``pairs.csv`` there, details and plots.

    Args:
        settings: what counts as a copy.
        data: folder of the pipeline's tables.
        archives: folder of the archives that the catalogue names.
        details: the JSON file.
        plots: folder for ``groups.png``, ``overlap.png`` and ``group_sizes.csv``.
        workers: processes; all cores if None. The files do not depend on it.
    """
    catalogue = read_table(data / "catalogue.csv")
    pixels, first = pd.factorize(catalogue["pixels_sha256"])[0], ~catalogue["pixels_sha256"].duplicated()
    images = hashing.read_images(list(_files(catalogue[first], archives)), workers, scratch=data)
    found = find(images, pixels.astype(np.int64), settings, workers, scratch=data)
    del images
    settled = resolve(catalogue, found.group, found.blank, settings.conflicts)
    counts = summarise(catalogue, found, settled, settings)
    sizes = pd.Series(found.group).value_counts().value_counts().sort_index()
    write_csv(data / "groups.csv", settled.rename_axis("image_id").reset_index())
    write_csv(data / "pairs.csv", found.pairs)
    write_csv(plots / "group_sizes.csv", pd.DataFrame({"size": sizes.index, "groups": sizes.to_numpy()}))
    shown = {name: source["images"] for name, source in counts["sources"].items()}
    figures.overlap(counts["overlap"], shown, plots / "overlap.png")
    figures.contact_sheet(catalogue, found.group, found.pairs, list(_files(catalogue, archives)), plots / "groups.png")
    write_json(details, counts)


def _files(catalogue: pd.DataFrame, archives: Path) -> Iterator[tuple[Path, str]]:
    places = {source: archives / archive_name(source) for source in catalogue["source"].unique()}
    for source, path in zip(catalogue["source"], catalogue["path"], strict=True):
        yield places[source], path
