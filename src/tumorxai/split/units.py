"""What belongs together: the units that a split keeps on one side, and the independent ones that are counted.

A unit is kept whole. Within it lie one or many *independent* units: a published fold holds dozens of patients, and
which images are whose is not known, so it goes to one side as a whole; what is counted, as evidence, are the patients
and series in it, as far as these are told apart.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.base.dataset import is_fold, linked
from tumorxai.config import Split
from tumorxai.patients.names import declared


class Units(NamedTuple):
    """Of N images, each array of shape (N,).

    Attributes:
        unit: what stays on one side.
        independent: what is counted; each lies in one unit.
        bridges: images whose copies are of another fold, and which are dropped.
        overlaps: images of other sources that an external source shares, and which are dropped.
    """

    unit: NDArray[np.int64]
    independent: NDArray[np.int64]
    bridges: NDArray[np.bool_]
    overlaps: NDArray[np.bool_]


def told(catalogue: pd.DataFrame, settings: Split) -> pd.DataFrame:
    """``patient``, ``fold`` and ``series`` that the protocol goes by, no two sources' alike; empty where unknown.

    Under ``patients`` all that the stage of that name found, under the others what the sources declare.

    Args:
        catalogue: N rows with ``source``, ``patient`` and ``fold``; where they are known also ``subject``, the patient
            or the fold that stands in for it, and ``series``.
        settings: for the protocol.
    """
    found = settings.protocol == "patients" and "subject" in catalogue
    subject = catalogue["subject"] if found else declared(catalogue)
    stands_in = is_fold(subject)
    return pd.DataFrame(
        {
            "patient": subject.mask(stands_in, ""),
            "fold": subject.where(stands_in, ""),
            "series": catalogue["series"] if found else "",
        }
    )


def states(catalogue: pd.DataFrame) -> pd.Series[str]:
    """How well each image's patient is known, one of STATES: as the stage ``patients`` found, else as declared."""
    if "known" in catalogue:
        return catalogue["known"]
    return (declared(catalogue) != "").map({True: "known", False: "unknown"})


def units(table: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Images that must stay on one side.

    Published folds hold whole patients, so where the patient is unknown the fold stands in. A duplicate group that
    bridges two folds would weld them, and soon all of them, into one unit; the images of its smaller part are left out.

    Args:
        table: N rows with columns ``group``, ``patient``, ``fold`` and ``series``; see :func:`told`.

    Returns:
        The unit of each image, shape (N,), and which images bridge folds and must be dropped, shape (N,).
    """
    keys = table[["fold"]].assign(small=linked(table, ("group", "patient", "series")))
    folded = keys["fold"] != ""
    counts = keys[folded].value_counts().reset_index().sort_values(["count", "fold"], ascending=[False, True])
    home = counts.drop_duplicates("small").set_index("small")["fold"]  # the fold with most of the component's images
    bridges = (folded & (keys["fold"] != keys["small"].map(home))).to_numpy()
    return linked(keys.assign(fold=keys["fold"].mask(bridges, "")), ("small", "fold")), bridges


def find(catalogue: pd.DataFrame, groups: pd.DataFrame, settings: Split) -> Units:
    """Units of N images under a protocol; under ``random`` those of ``grouped``, which it does not keep.

    Args:
        catalogue: see :func:`told`.
        groups: N rows, in the same order, with ``group``.
        settings: protocol and external sources.
    """
    table = told(catalogue, settings).assign(group=groups["group"])
    outside = catalogue["source"].isin(settings.external).to_numpy()
    independent = linked(table, ("group", "patient", "series"))
    if not outside.any():
        unit, bridges = units(table)
        return Units(unit, independent, bridges, outside)
    shared = ("group", "patient", "series", "fold") if settings.protocol == "patients" else ("group", "patient")
    unit = linked(table, shared)
    overlaps = ~outside & np.isin(unit, unit[outside])
    bridges = np.zeros(len(table), dtype=bool)
    own, bridges[~outside] = units(table[~outside].reset_index(drop=True))  # folds bind training images only
    unit[~outside] = own + len(table)
    return Units(unit, independent, bridges, overlaps)
