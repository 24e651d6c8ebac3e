"""Pictures of what a search finds, and how often it is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tumorxai.base import drawing
from tumorxai.base.drawing import BLACK, BLUE, GREY, RIGHT, VERMILION, WRONG, percent, plain
from tumorxai.search.index import Hit

# series: colour, line, marker, words
STYLES = {
    "leaky": (VERMILION, "-", "D", "encoder, with copies and own patient (leaky)"),
    "honest": (BLUE, "-", "o", "encoder"),
    "pixel_leaky": (VERMILION, ":", "x", "pixels, with copies and own patient (leaky)"),
    "pixel": (GREY, ":", "s", "pixels"),
    "chance": (BLACK, "--", "", "chance"),
}


def sheet(path: Path, images: NDArray[np.uint8], queries: list[tuple[int, str]], hits: list[list[Hit]]) -> None:
    """Draw queries with what was found for them, a row each.

    Args:
        path: PNG to write.
        images: the pack, (N, C, S, S).
        queries: image_id and label of each.
        hits: the cases found for each, best first.
    """
    columns = 1 + max(len(found) for found in hits)
    figure = Figure(figsize=(1.42 * columns, 1.8 * len(queries)), layout="constrained")
    axes = figure.subplots(len(queries), columns, squeeze=False)
    for row, (image, label), found in zip(axes, queries, hits, strict=True):
        drawn = [(image, f"query\n{label}", "black")]
        for hit in found:
            right = hit.payload["label"] == label
            text = f"{'✓' if right else '✗'} {hit.payload['label']}\nsimilarity {hit.similarity:.3f}"
            drawn.append((hit.image_id, text, RIGHT if right else WRONG))
        for axis, (shown, text, colour) in zip(row, drawn, strict=False):
            axis.imshow(images[shown].transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255)
            axis.set_title(text, fontsize=8, color=colour)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(color=colour, linewidth=2.5)
    drawing.save(figure, path, dpi=72)


def curves(path: Path, table: pd.DataFrame) -> None:
    """Draw precision@k against k with its intervals.

    Args:
        path: PNG to write.
        table: rows of one score over all classes, with ``answers``, ``k``, ``value``, ``low`` and ``high``; series
            without a row are left out.
    """
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    for name, (colour, line, marker, words) in STYLES.items():
        own = table[table["answers"] == name]
        if own.empty:
            continue
        axes.plot(own["k"], own["value"], line, marker=marker, color=colour, markersize=5, label=words)
        if own["low"].notna().all():
            axes.fill_between(own["k"], own["low"], own["high"], color=colour, alpha=0.12, linewidth=0)
    cuts = sorted(set(table["k"]))
    axes.set_xscale("log")
    axes.set_xticks(cuts, [str(k) for k in cuts])
    axes.minorticks_off()
    axes.set(xlabel="k, cases looked at", ylabel="share of the query's class", ylim=(0, 1))
    axes.set_title("Precision@k on the test images, with 95 % intervals")
    figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    plain(axes)
    percent(axes.yaxis)
    drawing.save(figure, path, dpi=90)
