"""An image file from outside, decoded: without PyTorch, so that a process for it starts in a moment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tumorxai.archives.archives import UnreadableError
from tumorxai.archives.images import Fit, decode, fit_image
from tumorxai.dedupe.hashing import Images, shrink

MAX_BYTES = 32 * 2**20  # largest file that is read


def read(content: bytes, fit: Fit) -> tuple[NDArray[np.uint8], Images]:
    """Pixels (C, S, S) as the pack has them, and the image in the two sizes by which copies are found.

    Raises:
        UnreadableError: it is empty, damaged, too large, too small or no image.
    """
    if len(content) > MAX_BYTES:
        raise UnreadableError(f"{len(content)} bytes; at most {MAX_BYTES}")
    image = decode(content).image
    return np.array(fit_image(image, fit)), shrink(image)  # a copy, for torch wants to own it
