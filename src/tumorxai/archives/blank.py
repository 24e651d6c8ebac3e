"""Images that hold next to nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

VIEW = 96  # side of the square that images are looked at on, pixels
GREY = 20  # grey levels from the background that count as picture
BLANK = 0.01  # images of which less is picture are near-constant

Views = NDArray[np.uint8]


def backgrounds(views: Views) -> NDArray[np.float64]:
    """Grey level of the surroundings of N views: the median of their outermost pixels, black or, inverted, white."""
    rim = np.concatenate([views[:, 0], views[:, -1], views[:, 1:-1, 0], views[:, 1:-1, -1]], axis=1)
    level: NDArray[np.float64] = np.median(rim, axis=1)
    return level


def picture(views: Views) -> NDArray[np.bool_]:
    """Which pixels of N views are picture, and no background."""
    apart: NDArray[np.bool_] = np.abs(views.astype(np.float32) - backgrounds(views)[:, None, None]) > GREY
    return apart


def near_constant(views: Views) -> NDArray[np.bool_]:
    """Which of N views are blank or nearly blank: there is too little on them to tell anything by."""
    return np.array([picture(view[None]).mean() < BLANK for view in views], dtype=bool)
