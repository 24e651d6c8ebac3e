"""How patients and series are called, and how well they are known."""

from __future__ import annotations

import pandas as pd

# Behind a source's name: a fold that stands in for patients, a series of a registry, and one by the source's own order.
FOLD, SERIES, RUN = ":fold", ":series", ":run"
STATES = ("known", "likely", "unknown")


def is_fold(names: pd.Series[str]) -> pd.Series[bool]:
    """Which of some patients are folds that stand in for their patients."""
    return names.str.contains(rf"{FOLD}\d+$")


def declared(catalogue: pd.DataFrame) -> pd.Series[str]:
    """Patient of each image by its source, or the fold that stands in for it, or empty.

    Args:
        catalogue: N rows with ``source``, ``patient`` and ``fold``.
    """
    fold = (catalogue["source"] + FOLD + catalogue["fold"]).where(catalogue["fold"] != "", "")
    named: pd.Series[str] = catalogue["patient"].where(catalogue["patient"] != "", fold)
    return named
