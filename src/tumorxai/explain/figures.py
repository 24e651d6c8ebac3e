"""Charts of what heat-maps are worth: curves, agreement and the report card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from tumorxai.base import drawing
from tumorxai.base.drawing import GREY, percent, plain
from tumorxai.explain.card import CHECKS
from tumorxai.explain.methods import FLOORS, NAMES

DPI = 80.0


def curves(path: Path, measured: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> None:
    """Mean deletion and insertion curves of all methods, the floors in grey.

    Args:
        path: to write.
        measured: by baseline, then by method or floor, (2, steps + 1).
    """
    figure = Figure(figsize=(8.4, 2.9 * len(measured)), layout="constrained")
    axes = figure.subplots(len(measured), 2, squeeze=False, sharex=True, sharey=True)
    for row, (baseline, by_name) in zip(axes, measured.items(), strict=True):
        for axis, title, which in zip(
            row, ("deletion, lower is better", "insertion, higher is better"), (0, 1), strict=True
        ):
            styles = iter(("-", "--", ":", "-."))
            for name, both in by_name.items():
                style = {"color": GREY, "linestyle": next(styles)} if name in FLOORS else {}
                axis.plot(np.linspace(0, 1, both.shape[1]), both[which], label=NAMES[name], linewidth=1.3, **style)
            axis.set_title(f"{title} ({baseline})", fontsize=9)
            plain(axis)
            percent(axis.xaxis, axis.yaxis)
            axis.tick_params(labelsize=7)
        row[0].set_ylabel("mean probability", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("share of the pixels", fontsize=8)
    axes[0, 1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    drawing.save(figure, path, DPI)


def agreement(path: Path, table: Mapping[str, Mapping[str, float | None]]) -> None:
    """Mean rank correlation between the maps of each two methods."""
    names = [NAMES[name] for name in table]
    values = np.array([[np.nan if v is None else v for v in row.values()] for row in table.values()], dtype=np.float64)
    figure = Figure(figsize=(0.52 * len(names) + 2.0, 0.42 * len(names) + 1.4), layout="constrained")
    axis = figure.subplots()
    drawn = axis.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
    for i, j in np.ndindex(*values.shape):
        text = "–" if np.isnan(values[i, j]) else f"{values[i, j]:.2f}"
        axis.text(
            j, i, text, ha="center", va="center", fontsize=7, color="white" if abs(values[i, j]) > 0.6 else "black"
        )
    axis.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    figure.colorbar(drawn, fraction=0.04).ax.tick_params(labelsize=7)
    drawing.save(figure, path, DPI)


def report_card(path: Path, card: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Methods x checks: the value of each, green where the check is passed and orange where it is not.

    Args:
        path: to write.
        card: by check, then by method or floor, what :func:`tumorxai.explain.card.judge` gives.
    """
    names = [name for name in NAMES if any(name in rows for rows in card.values())]
    figure = Figure(figsize=(0.62 * len(card) + 1.9, 0.3 * len(names) + 1.5), layout="constrained")
    axis = figure.subplots()
    axis.set_xlim(0, len(card))
    axis.set_ylim(len(names), 0)
    colours = {True: "#cce9df", False: "#f7d9c4", None: "#f2f2f2"}
    for column, rows in enumerate(card.values()):
        for line, name in enumerate(names):
            row = rows.get(name, {"value": None, "passed": None})
            axis.add_patch(
                Rectangle((column, line), 1, 1, facecolor=colours[row["passed"]], edgecolor="white", linewidth=1.5)
            )
            sign = {True: " ✓", False: " ✗", None: ""}[row["passed"]]
            text = "–" if row["value"] is None else f"{row['value']:.2f}{sign}"
            axis.text(column + 0.5, line + 0.5, text, ha="center", va="center", fontsize=7)
    titles = [f"{CHECKS[check].title} {'↑' if CHECKS[check].better == 'higher' else '↓'}" for check in card]
    axis.set_xticks(np.arange(len(card)) + 0.5, titles, rotation=40, ha="left", fontsize=7)
    axis.xaxis.tick_top()
    axis.set_yticks(np.arange(len(names)) + 0.5, [NAMES[name] for name in names], fontsize=8)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    drawing.save(figure, path, 100.0)
