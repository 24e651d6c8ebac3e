"""Whose images they are: declared patients, copies of slices whose patients are known, series, and what is only likely.

Three ways to know, from the surest:

- *known*: the source declares the patient, or a fold of whole patients, or the image is a copy of one of which that is
  known, in this data set or in a registry (:mod:`tumorxai.patients.registry`). A fold stands in for its patients.
- *likely*: the image looks like a slice of one series with others (:mod:`tumorxai.patients.series`).
- *unknown*: nothing tells.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.archives import sources
from tumorxai.archives.sources import Source, archive_name
from tumorxai.base.dataset import read_table
from tumorxai.errors import UserError
from tumorxai.files import write_csv, write_json
from tumorxai.patients import frames, registry, series
from tumorxai.patients.names import RUN, SERIES, STATES, declared
from tumorxai.patients.registry import Registry

COLUMNS = ["image_id", "patient", "series", "known", "slice"]

Ids = NDArray[np.int64]


def run(data: Path, archives: Path, details: Path, workers: int | None = None) -> None:
    """Read ``catalogue.csv`` and ``groups.csv`` under ``data``; write ``patients.csv`` there, and the counts.

    Args:
        data: folder of the pipeline's tables.
        archives: folder of the archives that the catalogue names.
        details: the JSON file.
        workers: processes that decode; all cores if None.

    Raises:
        UserError: the tables do not fit, or what a source declares is found in none of its images.
    """
    catalogue, groups = read_table(data / "catalogue.csv"), read_table(data / "groups.csv")
    if len(catalogue) != len(groups):
        raise UserError(
            f"{data}: got {len(catalogue)} images in catalogue.csv and {len(groups)} in groups.csv; expected the same; "
            "run `dvc repro dedupe`"
        )
    numbers = numbered(catalogue, sources.load())
    pixels, first = pd.factorize(catalogue["pixels_sha256"])[0], ~catalogue["pixels_sha256"].duplicated()
    distinct = catalogue[first]
    files = [
        (archives / archive_name(source), path)
        for source, path in zip(distinct["source"], distinct["path"], strict=True)
    ]
    images, slices = frames.load(files, workers), registry.load()
    match = slices.match(images)
    told = tell(catalogue, groups["group"], images, pixels.astype(np.int64), slices, match, numbers)
    write_csv(data / "patients.csv", told.rename_axis("image_id").reset_index()[COLUMNS])
    write_json(details, summarise(catalogue, told, numbers, slices, match.row[pixels]))


def numbered(catalogue: pd.DataFrame, blocks: dict[str, Source]) -> Ids:
    """Number of each image in its source's order, -1 without one; and is there what the sources' blocks declare?

    Args:
        catalogue: N rows with ``source``, ``path`` and ``patient``.
        blocks: what is known of the sources.

    Raises:
        UserError: no image of a source has what its block says that file names hold.
    """
    numbers = np.full(len(catalogue), -1, dtype=np.int64)
    for name, rows in catalogue.reset_index(drop=True).groupby("source", sort=False):
        block = blocks.get(str(name))
        if block is None:
            continue
        numbers[rows.index] = [sources.order(block, path) for path in rows["path"]]
        found = {"patient": (rows["patient"] != "").any(), "order": (numbers[rows.index] >= 0).any()}
        for key, any_ in found.items():
            if getattr(block, key) and not any_:
                raise UserError(
                    f"{name}: got none of {len(rows)} images whose file name fits `{key}: {getattr(block, key)}`, the "
                    f"first of them {rows['path'].iloc[0]!r}; expected some; correct the source's block in sources.yaml"
                )
    return numbers


def tell(
    catalogue: pd.DataFrame,
    group: pd.Series[int],
    images: frames.Frames,
    pixels: Ids,
    slices: Registry,
    match: registry.Match,
    numbers: Ids,
) -> pd.DataFrame:
    """Whose each of N images is.

    Args:
        catalogue: N rows with ``source``, ``native_label``, ``patient`` and ``fold``.
        group: duplicate group of each.
        images: frames of the D different pixels.
        pixels: number of each image's pixels, 0 to D - 1, shape (N,).
        slices: slices whose patients are known.
        match: of them, of each of the D different pixels.
        numbers: of each image in its source's order, -1 without one, shape (N,).

    Returns:
        N rows: ``patient`` (or the fold that stands in; empty), ``series`` (empty where there is no other slice),
        ``known`` (one of STATES) and ``slice``, the number in the order of the source or the registry, -1 without one.
    """
    row = match.row[pixels]
    copied = row >= 0
    own, vectors = declared(catalogue).to_numpy(dtype=object), series.features(images)
    whose = _shared(np.where((own == "") & copied, slices.patients(row), own), group, "")
    given = np.where(copied, slices.series(row), "")
    apart = catalogue["native_label"].to_numpy(dtype=object) + "/" + whose
    for source in catalogue["source"].unique():
        at = np.flatnonzero((catalogue["source"] == source).to_numpy() & ~copied)
        runs = series.by_order(numbers[at], apart[at].tolist(), vectors[pixels[at]])
        given[at] = [f"{source}{RUN}{number}" if number >= 0 else "" for number in runs]
    given = _shared(given, group, "")

    place, first = pd.factorize(group)[0], np.flatnonzero(~group.duplicated())
    links = series.links(vectors, place[np.unique(pixels, return_index=True)[1]])
    codes = np.where(given[first] != "", pd.factorize(given[first])[0], -1).astype(np.int64)
    joined = series.join(len(first), links, whose[first].tolist(), codes)
    told = pd.DataFrame({"whose": whose[first], "given": given[first]}).groupby(joined)
    owner, title = (told[column].transform("max").to_numpy() for column in ("whose", "given"))  # one at most is not ""
    title = np.where(title != "", title, [f"{SERIES[1:]}{first[root]}" for root in joined])
    others, known = (np.bincount(joined, minlength=len(joined))[joined] > 1)[place], whose != ""
    return pd.DataFrame(
        {
            "patient": np.where(known, whose, owner[place]),
            "series": np.where(others | (given != ""), title[place], ""),
            "known": np.select([known, others], STATES[:2], STATES[2]),
            "slice": _shared(np.where(copied, slices.table["number"].to_numpy()[row], numbers), group, -1),
        },
        index=catalogue.index,
    )


def _shared(values: NDArray[Any], group: pd.Series[int], nothing: Any) -> NDArray[Any]:
    """Values of N images; one without takes over the most frequent one of its copies, the least of several."""
    some = pd.DataFrame({"group": group.to_numpy(), "value": values})[values != nothing]
    counts = some.value_counts().reset_index().sort_values(["count", "value"], ascending=[False, True])
    usual = counts.drop_duplicates("group").set_index("group")["value"]
    taken = group.map(usual)
    filled: NDArray[Any] = np.where(values == nothing, np.where(taken.isna(), nothing, taken), values)
    return filled.astype(values.dtype)


def summarise(catalogue: pd.DataFrame, told: pd.DataFrame, numbers: Ids, slices: Registry, row: Ids) -> dict[str, Any]:
    """The counts that ``details/patients.json`` holds.

    Args:
        catalogue: N rows; see :func:`tell`, and ``mask_kind``.
        told: what :func:`tell` returned.
        numbers: see :func:`tell`.
        slices: see :func:`tell`.
        row: of the registry, that each image is a copy of, -1 without, shape (N,).
    """
    table = catalogue.assign(known=told["known"], number=numbers, match=row)
    named = told["series"][told["series"] != ""].value_counts()
    found = named.index.str.startswith(SERIES[1:])
    return {
        "images": len(table),
        **_states(told["known"]),
        "sources": {str(name): _source(rows) for name, rows in table.groupby("source", sort=False)},
        "registry": {
            "source": slices.source,
            "citation": slices.citation,
            "slices": len(slices.table),
            "matched": int((row >= 0).sum()),
            "matched_slices": len(np.unique(row[row >= 0])),
            "folds": {
                str(fold): int(count)
                for fold, count in slices.table["fold"].iloc[row[row >= 0]].value_counts().sort_index().items()
            },
        },
        "series": {
            "given": int((~found).sum()),
            "found": int(found.sum()),
            "images": int(named.sum()),
            "largest": int(named.max()) if len(named) else 0,
        },
    }


def _states(known: pd.Series[str]) -> dict[str, int]:
    return {state: int((known == state).sum()) for state in STATES}


def _source(rows: pd.DataFrame) -> dict[str, Any]:
    """What one source declares, and what is known of its images."""

    def declared_in(column: str) -> dict[str, int]:
        own = rows[column][rows[column] != ""]
        return {"number": own.nunique(), "images": len(own)}

    return {
        "images": len(rows),
        "patients": declared_in("patient"),
        "folds": declared_in("fold"),
        "masks": {kind: int((rows["mask_kind"] == kind).sum()) for kind in ("mask", "box")},
        "ordered": int((rows["number"] >= 0).sum()),
        "copies_of_the_registry": int((rows["match"] >= 0).sum()),
        **_states(rows["known"]),
    }
