"""Whose the images on the sides are, as far as anybody knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.base.dataset import is_fold, linked
from tumorxai.patients.names import STATES, declared

LEARNED = ("train", "unlabelled", "validation")  # sides that a model is trained or chosen on


def findings(table: pd.DataFrame) -> pd.DataFrame:
    """``subject`` (the patient, or the fold that stands in), ``series`` and ``known`` of N images.

    Where the split carries no findings of its own, the sources' declarations count, and no series is known.

    Args:
        table: N images with ``source``, ``patient`` and ``fold``; possibly ``subject``, ``series`` and ``known``.
    """
    if {"subject", "series", "known"} <= set(table.columns):
        return table[["subject", "series", "known"]]
    subject = declared(table)
    known = np.where(subject != "", STATES[0], STATES[2])
    return pd.DataFrame({"subject": subject, "series": "", "known": known}, index=table.index)


def units(table: pd.DataFrame) -> NDArray[np.int64]:
    """What is one as far as anybody knows: images linked by a duplicate group, a patient or a series, shape (N,)."""
    whose = findings(table)
    subject = whose["subject"].mask(is_fold(whose["subject"]), "")
    return linked(table[["group"]].assign(subject=subject, series=whose["series"]), ("group", "subject", "series"))


def crossing(table: pd.DataFrame, side: NDArray[Any]) -> dict[str, Any]:
    """What test images share with the sides that are learned from, beyond copies.

    Args:
        table: see :func:`findings`; indexed 0 to N - 1.
        side: side of each image, shape (N,).

    Returns:
        ``images`` on the test side; those with their known patient (``patients``) or a slice of their series
        (``series``, None where no series is known) on the LEARNED sides; ``folds_apart``: is no fold that stands in for
        patients on both; how many images on any side are ``known``, ``likely`` and ``unknown``; and of how many the
        fold alone is known (``by_fold``).
    """
    whose, test, learned = findings(table), side == "test", np.isin(side, LEARNED)
    known, fold = (whose["known"] == STATES[0]).to_numpy(), is_fold(whose["subject"])
    shared = {
        "patients": _shared(whose["subject"].mask(fold, ""), test & known, learned & known)
        | _shared(whose["series"], test & known, learned & known),
        "series": _shared(whose["series"], test, learned),
        "folds": _shared(whose["subject"].where(fold, ""), test, learned),
    }
    states = whose["known"][test | learned].value_counts()
    return {
        "images": int(test.sum()),
        "patients": int(shared["patients"].sum()),
        "series": int(shared["series"].sum()) if (whose["series"] != "").any() else None,
        "folds_apart": not shared["folds"].any(),
        "by_fold": int((known & fold & (test | learned)).sum()),
        **{state: int(states.get(state, 0)) for state in STATES},
    }


def with_series(table: pd.DataFrame, side: NDArray[Any]) -> NDArray[np.bool_]:
    """Test images with a slice of their series on the training side, shape (N,)."""
    return _shared(findings(table)["series"], side == "test", side == "train")


def _shared(values: pd.Series[Any], after: NDArray[np.bool_], before: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Images of ``after`` whose value, if there is one, an image of ``before`` has too."""
    return after & values.isin(set(values[before]) - {""}).to_numpy()
