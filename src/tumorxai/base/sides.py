"""Which sides weights were trained on: their cards say it, and nobody uses them on others.

Apart from the tables, so that a network can be loaded where there is no pandas.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tumorxai.errors import DamagedError
from tumorxai.files import sha256

SPLIT = "split.csv"  # in a run's folder of data, and in the cards of what was trained on it


def sides(data: Path) -> dict[str, str]:
    """What the cards of weights say of the sides that they were trained on: the SHA-256 of the split in a folder."""
    return {SPLIT: sha256(data / SPLIT)}


def of_sides(path: Path, described: Mapping[str, Any], data: Path | None, remedy: str) -> None:
    """Make sure that weights were trained on the sides of a run: others may have learned from its test images.

    Args:
        path: of the weights, or of what was made by them.
        described: their card, whose ``data`` holds the SHA-256 of the split; one without, of elsewhere, is believed.
        data: folder of the run's split; None where weights are used without their run.
        remedy: what to do if they were not.

    Raises:
        UserError: they were trained on others.
    """
    known = described.get("data")
    wanted = known.get(SPLIT) if isinstance(known, Mapping) else None
    if data is not None and wanted is not None and wanted != sha256(data / SPLIT):
        raise DamagedError(
            f"{path}: got weights that were trained on other sides than those of {data / SPLIT}, so that they may have "
            f"learned from its test images; expected those of this run; {remedy}"
        )
