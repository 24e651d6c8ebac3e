"""What the papers claim beside what is left of it, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tumorxai.base import drawing
from tumorxai.base.drawing import BLUE, VERMILION, plain


def compared(row: dict[str, Any]) -> dict[str, float] | None:
    """The score of a run that the claim is compared with."""
    found: dict[str, float] | None = row["scores"].get(row["compared"])
    return found


def draw(twins: list[tuple[str, dict[str, Any], float | None]], path: Path) -> None:
    """Draw the scores of each pair of runs, and the claim.

    Args:
        twins: name, the two runs by protocol, and what is claimed, per cent.
        path: PNG to write.
    """
    figure = Figure(figsize=(7.5, 0.9 + 0.45 * len(twins)), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(twins))[::-1]
    for protocol, colour, shift in (("random", VERMILION, 0.12), ("grouped", BLUE, -0.12)):
        scores = [compared(pair[protocol]) or {} for _, pair, _ in twins]
        value, low, high = (
            np.array([100 * score.get(key, np.nan) for score in scores]) for key in ("value", "low", "high")
        )
        bars = [value - low, high - value]
        axis.errorbar(value, places + shift, xerr=bars, fmt="o", color=colour, capsize=3, label=f"{protocol} split")
    claims = np.array([np.nan if claim is None else claim for _, _, claim in twins], dtype=np.float64)
    axis.plot(claims, places, "k|", markersize=18, label="claimed")
    axis.set_yticks(places, [name for name, _, _ in twins])
    axis.set(xlabel="test accuracy, percent, with its 95 % interval", ylim=(-0.6, len(twins) - 0.4))
    plain(axis, grid=False)
    axis.grid(axis="x", alpha=0.25)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    drawing.save(figure, path, dpi=110)
