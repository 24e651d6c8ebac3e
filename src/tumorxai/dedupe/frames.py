"""What part of an image holds the picture: its frame, and images that hold next to none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tumorxai.dedupe.hashing import SIDE, VIEW, Thumbnails
from tumorxai.dedupe.registration import BATCH, IDENTITY, Floats, blurred, sample

GREY = 20  # grey levels from the background that count as picture
FILLED = 0.04  # least share of a row or column that must be picture for the frame to reach it
SMALLEST = 0.25  # least side of a frame; where less is filled, the frame is the whole image
BLANK = 0.01  # images of which less is picture are near-constant


def backgrounds(views: Thumbnails) -> NDArray[np.float64]:
    """Grey level of the surroundings of N views: the median of their outermost pixels, black or, inverted, white."""
    rim = np.concatenate([views[:, 0], views[:, -1], views[:, 1:-1, 0], views[:, 1:-1, -1]], axis=1)
    level: NDArray[np.float64] = np.median(rim, axis=1)
    return level


def _picture(views: Thumbnails) -> NDArray[np.bool_]:
    apart: NDArray[np.bool_] = np.abs(views.astype(np.float32) - backgrounds(views)[:, None, None]) > GREY
    return apart


def near_constant(views: Thumbnails) -> NDArray[np.bool_]:
    """Which of N views are blank or nearly blank: there is too little on them to tell whether they are copies."""
    return np.array([_picture(view[None]).mean() < BLANK for view in views], dtype=bool)


def boxes(views: Thumbnails) -> Floats:
    """Maps, of shape (N, 2, 3), that take the square to each view's picture: the box without an empty margin."""
    out = np.tile(IDENTITY, (len(views), 1, 1))
    for start in range(0, len(views), 256):
        picture = _picture(views[start : start + 256])
        for axis in (0, 1):  # x, y
            filled = picture.mean(axis=1 + axis) > FILLED
            first = filled.argmax(axis=1)
            last = VIEW - filled[:, ::-1].argmax(axis=1)
            wide = filled.any(axis=1) & (last - first >= SMALLEST * VIEW)
            out[start : start + 256, axis, axis] = np.where(wide, (last - first) / VIEW, 1)
            out[start : start + 256, axis, 2] = np.where(wide, (last + first) / VIEW - 1, 0)
    return out


def framed(views: Thumbnails, frames: Floats) -> Thumbnails:
    """The frames as grey thumbnails of shape (N, SIDE, SIDE)."""
    out = np.empty((len(views), SIDE, SIDE), dtype=np.uint8)
    for start in range(0, len(views), BATCH):
        part = slice(start, start + BATCH)
        smooth = blurred(views[part], VIEW / SIDE / 3)
        found = sample(smooth, np.arange(len(smooth)), frames[part], SIDE)[0]
        out[part] = np.rint(found).clip(0, 255)
    return out
