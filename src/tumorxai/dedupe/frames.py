"""What part of an image holds the picture: its frame."""

from __future__ import annotations

import numpy as np

from tumorxai.archives.blank import picture
from tumorxai.dedupe.hashing import SIDE, VIEW, Thumbnails
from tumorxai.dedupe.registration import BATCH, IDENTITY, Floats, blurred, sample

FILLED = 0.04  # least share of a row or column that must be picture for the frame to reach it
SMALLEST = 0.25  # least side of a frame; where less is filled, the frame is the whole image


def boxes(views: Thumbnails) -> Floats:
    """Maps, of shape (N, 2, 3), that take the square to each view's picture: the box without an empty margin."""
    out = np.tile(IDENTITY, (len(views), 1, 1))
    for start in range(0, len(views), 256):
        shown = picture(views[start : start + 256])
        for axis in (0, 1):  # x, y
            filled = shown.mean(axis=1 + axis) > FILLED
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
