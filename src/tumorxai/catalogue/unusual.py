"""Images whose grey levels are unlike those of their class: inverted, dark, wrapped or with hot pixels.

Only looked at from outside, by four numbers an image; a wrong label is no matter of this (``review``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.archives.blank import backgrounds
from tumorxai.archives.images import Fit, inner

LEAST = 8  # images of a class from which it tells what is usual
FAR = 6.0  # standard deviations from the median, as 1.4826 times the median deviation estimates them for a normal one
# Of each measure the least distance that counts, grey levels, and what a value above and one below may mean.
MEASURES = {
    "background": (64.0, "its surroundings are white: inverted?", "its surroundings are black: inverted?"),
    "brightness": (48.0, "much brighter than the others", "much darker than the others"),
    "white": (
        96.0,
        "its brightest parts are much brighter",
        "its brightest parts are dark: 12 bits in 16, hot pixels?",
    ),
    "roughness": (24.0, "noise where the others are smooth: wrapped values?", "smooth where the others are rough"),
}
CLIPPED = "hot or cold pixels, which were clipped"


def measured(images: NDArray[np.uint8], sizes: Sequence[tuple[int, int]], fit: Fit) -> NDArray[np.float64]:
    """Measures of packed images (N, C, S, S), in the order of MEASURES: shape (N, 4), grey levels.

    The median of the outermost pixels, the mean, the 99th percentile, and the mean step from a pixel to the next.

    Args:
        images: packed.
        sizes: width and height of each before.
        fit: how they were packed.
    """
    found = np.zeros((len(images), len(MEASURES)))
    for row, (image, (width, height)) in enumerate(zip(images, sizes, strict=True)):
        left, top, right, bottom = inner(width, height, fit)
        grey = image[:, top:bottom, left:right].astype(np.float32).mean(axis=0)
        steps = np.abs(np.diff(grey, axis=1)).mean() if grey.shape[1] > 1 else 0.0
        found[row] = backgrounds(grey[None])[0], grey.mean(), np.percentile(grey, 99), steps
    return found


def unlike(values: NDArray[np.float64]) -> list[list[str]]:
    """Of each image of a class why it is unlike the others; empty for most.

    Args:
        values: see :func:`measured`, of the images of one class.
    """
    found: list[list[str]] = [[] for _ in values]
    if len(values) < LEAST:
        return found
    for column, (least, above, below) in enumerate(MEASURES.values()):
        off = values[:, column] - np.median(values[:, column])
        bound = max(FAR * 1.4826 * float(np.median(np.abs(off))), least)
        for row in np.flatnonzero(np.abs(off) > bound):
            found[row].append(above if off[row] > 0 else below)
    return found


def unusual(table: pd.DataFrame, images: NDArray[np.uint8], clipped: Sequence[bool], fit: Fit) -> list[dict[str, Any]]:
    """The images of a catalogue that are unlike their class, or were clipped, in its order.

    Args:
        table: the catalogue.
        images: packed, by ``image_id``.
        clipped: of each row.
        fit: how they were packed.

    Returns:
        ``image_id``, ``source``, ``path``, ``label`` and ``why`` of each.
    """
    why: list[list[str]] = [[CLIPPED] if own else [] for own in clipped]
    sizes = list(zip(table["width"].tolist(), table["height"].tolist(), strict=True))
    values = (
        measured(images[table["image_id"].to_numpy(dtype=np.int64)], sizes, fit) if len(table) else np.zeros((0, 4))
    )
    for _, members in table.reset_index(drop=True).groupby(["source", "native_label"]):
        rows = members.index.to_numpy()
        for row, reasons in zip(rows, unlike(values[rows]), strict=True):
            why[row] = [*reasons, *why[row]]
    keys = ("image_id", "source", "path", "label")
    return [
        {**dict(zip(keys, own, strict=True)), "why": reasons}
        for own, reasons in zip(table[list(keys)].itertuples(index=False, name=None), why, strict=True)
        if reasons
    ]
