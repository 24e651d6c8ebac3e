"""How patients and series are called, and how well they are known."""

from __future__ import annotations

import pandas as pd

from tumorxai.base.dataset import FOLD

SERIES, RUN = ":series", ":run"  # behind a source's name: a series of a registry, and one by the source's own order
STATES = ("known", "likely", "unknown")


def declared(catalogue: pd.DataFrame) -> pd.Series[str]:
    """Patient of each image by its source, or the fold that stands in for it, or empty.

    Args:
        catalogue: N rows with ``source``, ``patient`` and ``fold``.
    """
    fold = (catalogue["source"] + FOLD + catalogue["fold"]).where(catalogue["fold"] != "", "")
    named: pd.Series[str] = catalogue["patient"].where(catalogue["patient"] != "", fold)
    return named
