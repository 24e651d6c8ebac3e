"""What the leak of archives is made of, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tumorxai.audit.leak import PARTS
from tumorxai.base import drawing
from tumorxai.base.drawing import BLUE, GREEN, GREY, ORANGE, VERMILION, percent, plain

COLOURS = dict(zip(PARTS, (VERMILION, ORANGE, GREY, BLUE, GREEN), strict=True))


def draw(measured: dict[str, Any], path: Path) -> None:
    """Draw the pixel neighbour's accuracy under each way to split, one row of marks for each set of images.

    Args:
        measured: by name, ``parts`` with ``accuracy`` and ``sd`` over the splits' seeds, shares in [0, 1].
        path: PNG to write.
    """
    figure = Figure(figsize=(8.5, 1.2 + 0.75 * len(measured)), layout="constrained")
    axis = figure.subplots()
    rows = np.arange(len(measured))[::-1]
    for number, (part, colour) in enumerate(COLOURS.items()):
        found = [one["parts"].get(part, {"accuracy": np.nan, "sd": 0.0}) for one in measured.values()]
        value, spread = (np.array([own[key] or 0.0 for own in found]) for key in ("accuracy", "sd"))
        shift = 0.3 - 0.15 * number
        axis.errorbar(value, rows + shift, xerr=spread, fmt="o", color=colour, capsize=3, label=PARTS[part])
    axis.set_yticks(rows, list(measured))
    axis.set(xlabel="accuracy of the nearest neighbour on raw pixels, mean and SD over splits", xlim=(0, 1))
    axis.set_ylim(-0.6, len(measured) - 0.4)
    percent(axis.xaxis)
    plain(axis, grid=False)
    axis.grid(axis="x", alpha=0.25)
    for between in rows[:-1] - 0.5:
        axis.axhline(between, color=drawing.LIGHT, linewidth=0.6)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    drawing.save(figure, path, dpi=110)
