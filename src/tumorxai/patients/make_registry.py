"""Write the registry of Cheng's slices from the archive that holds them with their folds.

    python -m tumorxai.patients.make_registry ARCHIVE [--to FILE]

ARCHIVE is cheng--figshare-1512427.zip, with `annotations.csv`. No image is written, only hashes and numbers. Some
patients were examined again and stand in two folds or three (`cheng.persons`, by `benchmarks/persons.py`): their
series there count as one, so that a split that knows it keeps them on one side.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.archives import sources
from tumorxai.catalogue.listing import list_archive
from tumorxai.dedupe import hashing
from tumorxai.dedupe.candidates import components
from tumorxai.errors import UserError, run
from tumorxai.patients import frames, registry, series

SOURCE = "cheng/figshare-1512427"
PERSONS = Path(__file__).with_name("cheng.persons")
CITATION = (
    "Cheng, J. Brain tumor dataset. figshare, 2017, doi:10.6084/m9.figshare.1512427, CC BY 4.0; Cheng et al., Enhanced "
    "performance of brain tumor classification via tumor region augmentation and partition, PLoS ONE "
    "10(10):e0140381, 2015"
)


class Slices(NamedTuple):
    """The slices of an archive in the order of their numbers.

    Attributes:
        number: in the source's order, shape (M,).
        fold: of whole patients, shape (M,).
        apart: class and fold of each, which no series crosses.
        images: frames of each.
    """

    number: NDArray[np.int64]
    fold: NDArray[np.int64]
    apart: list[str]
    images: frames.Frames


def read(archive: Path, workers: int | None = None) -> Slices:
    """Decode the archive's slices.

    Raises:
        UserError: a slice has no number or no fold.
    """
    block = sources.load()[SOURCE]
    numbered = sorted(
        ((sources.order(block, each.path), each) for each in list_archive(archive, SOURCE, block).candidates),
        key=lambda pair: pair[0],
    )
    lacking = [each.path for number, each in numbered if number < 0 or not each.notes.get("fold")]
    if lacking:
        raise UserError(
            f"{archive}: got no number or no fold for {len(lacking)} slices, {lacking[0]} first; expected both for "
            "each; is this the archive with `annotations.csv`?"
        )
    return Slices(
        np.array([number for number, _ in numbered], dtype=np.int64),
        np.array([int(each.notes["fold"]) for _, each in numbered], dtype=np.int64),
        [f"{each.native_label}/{each.notes['fold']}" for _, each in numbered],
        frames.load([(archive, each.path) for _, each in numbered], workers),
    )


def joined(runs: NDArray[np.int64], number: NDArray[np.int64], persons: pd.DataFrame) -> NDArray[np.int64]:
    """Series of N slices, those of one person as one.

    Args:
        runs: series of each by the order, shape (N,).
        number: of each slice, shape (N,).
        persons: ``person``, and ``first`` and ``last`` number of slices that show him or her.
    """
    spans = persons[["first", "last"]].to_numpy(np.int64)
    own = [np.flatnonzero((number >= first) & (number <= last)) for first, last in spans]
    anchor = persons.groupby("person", sort=False).ngroup().to_numpy() + len(runs) + runs.max() + 1
    a = np.concatenate([np.arange(len(runs)), *own]).astype(np.int64)
    b = np.concatenate([len(runs) + runs, *(np.full(len(each), at) for each, at in zip(own, anchor, strict=True))])
    root = components(int(b.max()) + 1, a, b.astype(np.int64))[: len(runs)]
    return runs[root]  # that of its first slice


def make(slices: Slices) -> registry.Registry:
    """The registry of an archive's slices."""
    runs = series.by_order(slices.number, slices.apart, series.features(slices.images))
    runs = joined(runs, slices.number, pd.read_csv(PERSONS))
    table = pd.DataFrame({"number": slices.number, "fold": slices.fold, "series": runs})
    whole, head = (frames.fine_hash(hashing.frequencies(own, frames.FINE)) for own in slices.images)
    return registry.Registry(SOURCE, CITATION, table, whole, head)


def main() -> None:
    """Read the arguments and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--to", type=Path, default=registry.CHENG)
    given = parser.parse_args()
    made = make(read(given.archive))
    registry.write(given.to, made)
    slices, runs = len(made.table), made.table["series"].nunique()
    print(f"{given.to}: {slices} slices, {runs} series, {given.to.stat().st_size} bytes")


if __name__ == "__main__":
    run(main)
