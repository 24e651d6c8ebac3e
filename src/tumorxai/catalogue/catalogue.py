"""The catalogue: every image of every archive decoded once, labelled and packed.

What cannot be used is listed with the reason.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from tumorxai import config
from tumorxai.archives import sources, text
from tumorxai.archives.images import Fit, Packed, pack
from tumorxai.archives.sources import Class
from tumorxai.archives.workers import mapped
from tumorxai.base import drawing
from tumorxai.catalogue import shown, unusual
from tumorxai.catalogue.listing import Candidate, Listing, list_archive, patient
from tumorxai.config import Data, PathSource
from tumorxai.errors import UserError
from tumorxai.files import growing, read_array, read_json, write_csv, write_json

COLUMNS = [
    "image_id", "source", "path", "native_label", "label", "group_label", "sequence", "patient", "fold",
    "official_split", "width", "height", "mode", "format", "bytes", "pixels_sha256", "mask", "mask_kind", "histology",
]  # fmt: skip
THUMB = 64  # side of an image on the sample sheet, pixels

Row = dict[str, Any]


def run(params: config.Params, archives: Path, data: Path, details: Path, plots: Path) -> None:
    """Catalogue and pack the images of all sources; say what they were taken for, and where counts differ.

    Raises:
        UserError: see :func:`build`; or there are not two classes to tell apart.
    """
    differences = build(archives, params.data, data, details, plots, least=2)
    for name, source in read_json(details)["sources"].items():
        print("\n".join(shown.lines(name, source["layout"], params.data.taxonomy)))
        for reason, count in source["quarantine"].items():
            print(f"  cannot be used: {count}, {reason} (data/quarantine.csv)")
    for line in differences:
        print(line)


def build(
    archives: Path,
    settings: Data,
    data: Path,
    details: Path,
    plots: Path,
    workers: int | None = None,
    least: int = 1,
) -> list[str]:
    """Catalogue and pack the images of all sources.

    Args:
        archives: folder with one zip per source, as ``fetch`` leaves it.
        settings: sources, taxonomy and the packed square.
        data: folder that receives ``catalogue.csv``, ``quarantine.csv``, ``pack.npy`` and ``masks.npy``.
        details: the JSON file of counts.
        plots: folder that receives ``counts.csv`` and ``samples.png``.
        workers: processes, by default one per CPU core. The files do not depend on it.
        least: classes that there must be in all.

    Returns:
        One line for each count that differs from the publisher's.

    Raises:
        UserError: an archive is missing or no zip, a class has no readable image, or too few classes fit the taxonomy.
    """
    blocks, names = sources.load(), [sources.identity(source) for source in settings.sources]
    listings = [
        list_archive(
            archives / sources.archive_name(name),
            name,
            blocks.get(name),
            source.path if isinstance(source, PathSource) else "",
        )
        for source, name in zip(settings.sources, names, strict=True)
    ]
    fit = Fit(settings.image_size, settings.channels, settings.fit)
    tasks = [candidate.task for listing in listings for candidate in listing.candidates]
    rows: list[Row] = []
    layouts: list[dict[str, Any]] = []
    quarantine: list[Row] = []
    clipped: list[bool] = []
    readable: Counter[tuple[str, str]] = Counter()  # by source and class folder, also of classes outside the taxonomy
    with (
        growing(data / "pack.npy", np.uint8, (fit.channels, fit.size, fit.size)) as add_image,
        growing(data / "masks.npy", np.uint8, (fit.size,) * 2) as add_mask,
    ):
        packed_all = mapped(partial(pack, fit=fit), tasks, workers, chunk=32)
        results = iter(tqdm(packed_all, total=len(tasks), desc="decoding", unit="image"))
        for listing in listings:
            refused = [(path, reason) for path, _, reason in listing.refused]
            for candidate, packed in zip(listing.candidates, results, strict=False):
                if isinstance(packed, str):
                    refused.append((candidate.path, text.clean(packed)))
                    continue
                if packed.lesion_fault:
                    refused.append((candidate.notes["mask"], f"lesion mask: {packed.lesion_fault}"))
                row = _row(listing, candidate, packed, settings.taxonomy)
                readable[listing.name, row["native_label"]] += 1
                if row["label"]:
                    row["image_id"], row["mask"] = (
                        add_image(packed.pixels[None]),
                        -1 if packed.lesion is None else add_mask(packed.lesion[None]),
                    )
                    rows.append(row)
                    clipped.append(packed.clipped)
            quarantine += [{"source": listing.name, "path": path, "reason": reason} for path, reason in sorted(refused)]
            layouts.append(shown.described(listing, settings.taxonomy))
            _check(listing, readable, quarantine, settings.taxonomy, layouts[-1])
        if reason := shown.too_few({row["label"] for row in rows}, layouts, settings.taxonomy, least):
            raise UserError(reason)
        next(results, None)  # ends the progress bar
    table = pd.DataFrame(rows, columns=COLUMNS)
    images = read_array(data / "pack.npy")
    odd = unusual.unusual(table, images, clipped, fit)
    for listing, layout in zip(listings, layouts, strict=True):
        layout["unusual"] = [entry for entry in odd if entry["source"] == listing.name]
    summary = _summary(table, listings, layouts, readable, quarantine)
    write_csv(data / "catalogue.csv", table)
    write_csv(data / "quarantine.csv", pd.DataFrame(quarantine, columns=["source", "path", "reason"]))
    write_json(details, summary)
    write_csv(plots / "counts.csv", table.groupby(["source", "label"], sort=False).size().rename("count").reset_index())
    draw_samples(table, images, plots / "samples.png")
    return _differences(summary)


def _row(listing: Listing, candidate: Candidate, packed: Packed, taxonomy: str) -> Row:
    """One line of the catalogue, still without its places in the pack and among the masks."""
    native = packed.native_label or candidate.native_label
    known = listing.source.classes.get(native, Class())
    sequence = candidate.notes.get("sequence", "") or known.sequence
    return {
        "source": listing.name,
        "path": candidate.path,
        "native_label": native,
        "label": sources.label(taxonomy, native, known.group, sequence),
        "group_label": known.group,
        "sequence": sequence,
        "patient": patient(listing, candidate, packed.patient),
        "fold": candidate.notes.get("fold", ""),
        "official_split": candidate.official_split,
        **{
            name: getattr(packed, name)
            for name in ("width", "height", "mode", "format", "bytes", "pixels_sha256", "mask_kind")
        },
        "histology": known.histology,
    }


def _check(
    listing: Listing,
    readable: Counter[tuple[str, str]],
    quarantine: list[Row],
    taxonomy: str,
    layout: dict[str, Any],
) -> None:
    """Refuse a class without any readable image and a source without a place in the taxonomy."""
    wanted = {candidate.native_label for candidate in listing.candidates} | {native for _, native, _ in listing.refused}
    lost = sorted(name for name in wanted - {""} if not readable[listing.name, name])
    present = {name for source, name in readable if source == listing.name}
    if lost or not present:
        reason = next(entry["reason"] for entry in quarantine if entry["source"] == listing.name)
        raise UserError(shown.none_readable(listing.name, lost, reason))
    sequences = {candidate.notes.get("sequence", "") for candidate in listing.candidates}
    known = [listing.source.classes.get(name, Class()) for name in sorted(present)]

    def fits(name: str) -> bool:
        return any(
            sources.label(name, "", one.group, sequence) for one in known for sequence in {one.sequence, *sequences}
        )

    if taxonomy != "native" and not fits(taxonomy):
        others = [name for name in ("four_class", "six_group", "seventeen") if fits(name)]
        raise UserError(
            f"{listing.name}: got the taxonomy {taxonomy!r}, in which none of its classes {sorted(present)[:8]} has "
            f"a place: {', '.join(shown.dropped(layout)[:8])}; expected one of {[*others, 'native']}; "
            f"{shown.unsure([layout])}rename folders to the words that are meant, or set data.taxonomy"
        )


def _summary(
    table: pd.DataFrame,
    listings: list[Listing],
    layouts: list[dict[str, Any]],
    readable: Counter[tuple[str, str]],
    quarantine: list[Row],
) -> dict[str, Any]:
    """The counts of ``details/catalogue.json``."""
    described = {}
    for listing, layout in zip(listings, layouts, strict=True):
        known = listing.source.classes
        names = [*known, *sorted({name for source, name in readable if source == listing.name} - set(known))]
        counts = {
            name: {"count": readable[listing.name, name], "expected": known.get(name, Class()).count} for name in names
        }
        images = int((table["source"] == listing.name).sum())
        described[listing.name] = {
            "images": images,
            "expected": listing.source.images,
            "outside_taxonomy": sum(entry["count"] or 0 for entry in counts.values()) - images,
            "quarantined": sum(entry["source"] == listing.name for entry in quarantine),
            "quarantine": dict(
                Counter(entry["reason"] for entry in quarantine if entry["source"] == listing.name).most_common(
                    shown.SHOWN
                )
            ),
            "classes": counts,
            "layout": layout,
        }
    labels = table["label"].value_counts().sort_index()
    return {
        "images": len(table),
        "quarantined": len(quarantine),
        "classes_left_out": [phrase for layout in layouts for phrase in shown.dropped(layout)],
        "sources": described,
        "labels": {str(name): int(count) for name, count in labels.items()},
    }


def _differences(summary: dict[str, Any]) -> list[str]:
    """Where an archive's counts are not the publisher's."""
    lines = []
    for name, source in summary["sources"].items():
        counts = {f"class {native}": entry for native, entry in source["classes"].items()}
        counts["all classes"] = {
            "count": sum(entry["count"] for entry in counts.values()),
            "expected": source["expected"],
        }
        lines += [
            f"{name}, {what}: {entry['count']} readable images, its publisher states {entry['expected']}"
            for what, entry in counts.items()
            if entry["expected"] not in (None, entry["count"])
        ]
    return lines


def draw_samples(table: pd.DataFrame, images: NDArray[np.uint8], path: Path) -> None:
    """Draw a contact sheet: a few images of every class of every source, evenly spread over its files."""
    from matplotlib.figure import Figure  # slow to load

    kinds = list(table.groupby(["source", "label"], sort=True))
    columns = min(8, max(2, 90 // len(kinds)))  # keeps the file below 300 KB
    sheet = np.zeros((len(kinds) * THUMB, columns * THUMB, 3), dtype=np.uint8)
    for row, (_, members) in enumerate(kinds):
        chosen = np.unique(np.linspace(0, len(members) - 1, columns).astype(int))
        for column, image_id in enumerate(members["image_id"].to_numpy()[chosen]):
            image = Image.fromarray(images[image_id].transpose(1, 2, 0).squeeze()).convert("RGB").resize((THUMB, THUMB))
            sheet[row * THUMB : (row + 1) * THUMB, column * THUMB : (column + 1) * THUMB] = np.asarray(image)
    names = [f"{str(source).rpartition('/')[2]}\n{label} ({len(members)})" for (source, label), members in kinds]
    height, width = sheet.shape[0] / 100, sheet.shape[1] / 100
    figure = Figure(figsize=(width + 3.0, height + 0.6), dpi=100)
    axes = figure.add_axes((2.9 / (width + 3.0), 0.1 / (height + 0.6), width / (width + 3.0), height / (height + 0.6)))
    axes.imshow(sheet)
    axes.set_title("A few images of every class, as packed", fontsize=10)
    axes.set_xticks([])
    axes.set_yticks(np.arange(len(kinds)) * THUMB + THUMB / 2, names, fontsize=7)
    axes.tick_params(length=0)
    drawing.save(figure, path)
