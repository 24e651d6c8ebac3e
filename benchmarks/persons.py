"""Patients who stand in two or more of Cheng's folds, and so are no proof that a pair of two folds is of two people.

    python -m benchmarks.persons ARCHIVE [--to src/tumorxai/patients/cheng.persons]    # cheng--figshare-1512427.zip

The folds were drawn by patient, but some heads are in two or three of them, as by all appearance are those who were
examined again: before and after an operation, say. The second auditor, which shares nothing with the detector, sees it:
keypoints of slices of two folds agree, and again in the next slices of both. One such pair alone may be a look-alike.
Prints Markdown; the last line is one JSON object. FILE receives the numbers of the slices that agree, from which
`python -m tumorxai.patients.make_registry` knows the series of one person.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.second import load
from numpy.typing import NDArray

from tumorxai.audit import second
from tumorxai.dedupe.candidates import components
from tumorxai.files import write_csv
from tumorxai.patients import registry

STEP = 5  # numbers of the source's order within which slices of one class and fold count as of one examination
SIZE = 96  # pixels, at which the second auditor was measured

Ids = NDArray[np.int64]


def order(table: pd.DataFrame) -> Ids:
    """Number of each slice in its source's order, shape (N,)."""
    numbers: Ids = table["path"].str.extract(r"(\d+)\.", expand=False).astype(np.int64).to_numpy()
    return numbers


def in_step(alike: Ids, number: Ids) -> Ids:
    """Those of some pairs that another one confirms: between slices at most STEP numbers from theirs, on both sides.

    Args:
        alike: pairs of slices of two folds, shape (P, 2).
        number: of N slices.
    """
    ends = np.sort(number[alike], axis=1)
    near = (np.abs(ends[:, None] - ends[None]) <= STEP).all(axis=2)
    confirmed: Ids = alike[near.sum(axis=1) > 1]
    return confirmed


def agreeing(alike: Ids, number: Ids, exam: NDArray[np.object_]) -> Ids:
    """Whose the slices are that agree in step across folds, shape (N,): a number for each person, -1 for all others.

    Args:
        alike: pairs of slices of two folds that show one head, shape (P, 2).
        number: of N slices in the source's order.
        exam: class and fold of each, which no examination crosses.
    """
    pairs = in_step(alike, number)
    seen = np.unique(pairs)
    one, other = (each[np.triu_indices(len(seen), 1)] for each in np.meshgrid(seen, seen, indexing="ij"))
    next_to = (exam[one] == exam[other]) & (np.abs(number[one] - number[other]) <= STEP)
    whose = components(len(number), np.append(pairs[:, 0], one[next_to]), np.append(pairs[:, 1], other[next_to]))
    out = np.full(len(number), -1)
    out[seen] = whose[seen]
    return out


def look(archive: Path) -> tuple[pd.DataFrame, Ids, NDArray[np.object_]]:
    """The slices of an archive, the pairs of two folds that show one head, and class and fold of each slice."""
    table, packed, _ = load(archive, SIZE)
    pairs = second.find(packed, np.arange(len(table)), 10**6, 0).pairs
    fold = table["fold"].to_numpy()
    pairs = pairs[(pairs["kind"] != "") & (fold[pairs["image_a"]] != fold[pairs["image_b"]])]
    exam = (table["label"].astype(str) + "/" + table["fold"].astype(str)).to_numpy(dtype=object)
    return table, pairs[["image_a", "image_b"]].to_numpy(), exam


def registered(table: pd.DataFrame) -> Ids:
    """Which person each slice of Cheng's is of who stands in several folds, by the registry that splits go by, or -1.

    A person is the series that agree: all slices of one acquisition, not only those that the second auditor saw.
    """
    slices = registry.load().table
    folds = slices.groupby("series")["fold"].transform("nunique")
    whose = slices["series"].where(folds > 1, -1).set_axis(slices["number"])
    found: Ids = whose.reindex(order(table), fill_value=-1).to_numpy(np.int64)
    return found


def listed(table: pd.DataFrame, person: Ids) -> list[dict[str, str]]:
    """Of each person the class and, by fold, the first and last number of the slices."""
    number, rows = order(table), []
    for each in np.unique(person[person >= 0]):
        own = np.flatnonzero(person == each)
        row = {"class": str(table["label"].iloc[own[0]])}
        for fold, members in pd.Series(number[own]).groupby(table["fold"].to_numpy()[own]):
            row[f"fold {fold}"] = f"{members.min()} to {members.max()}"
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--to", type=Path, metavar="FILE")
    asked = parser.parse_args()
    table, alike, exam = look(asked.archive)
    whose = agreeing(alike, order(table), exam)
    rows = listed(table, whose)
    folds = sorted({key for row in rows for key in row if key != "class"})
    print(f"| class | {' | '.join(folds)} |" + "\n" + "|---" * (len(folds) + 1) + "|")
    for row in rows:
        print(f"| {row['class']} | {' | '.join(row.get(fold, '') for fold in folds)} |")
    if asked.to:
        own = pd.DataFrame({"person": whose, "fold": table["fold"], "number": order(table)})[whose >= 0]
        own["person"] = pd.factorize(own["person"])[0]
        spans = own.groupby(["person", "fold"])["number"].agg(first="min", last="max").reset_index()
        write_csv(asked.to, spans)
    print(json.dumps({"persons": rows, "slices": int((whose >= 0).sum())}))


if __name__ == "__main__":
    main()
