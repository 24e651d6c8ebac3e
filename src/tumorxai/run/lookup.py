"""Is one image a copy of any in the pack? The definition of :mod:`groups`, asked about a single image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tumorxai.archives.images import Fit, fit_image, inner
from tumorxai.base.dataset import Dataset
from tumorxai.config import Dedupe
from tumorxai.dedupe import groups, hashing

THUMBNAIL = Fit(hashing.SIDE, 1, "stretch")


@dataclass(frozen=True)
class Copy:
    """An image of the pack that another one duplicates.

    Attributes:
        image_id: of the image in the pack.
        side: that it is on.
        orientation: that turns the other one into it, one of ``hashing.ORIENTATIONS``.
        correlation: of their edges, in [-1, 1].
    """

    image_id: int
    side: str
    orientation: str
    correlation: float


def thumbnail(image: Image.Image) -> hashing.Thumbnails:
    """What the hash sees of a decoded image: grey (SIDE, SIDE)."""
    pixels: hashing.Thumbnails = fit_image(image, THUMBNAIL)[0]
    return pixels


def unpacked(pixels: NDArray[np.uint8], width: int, height: int, fit: Fit) -> Image.Image:
    """A packed image (C, S, S) without the black that its ``width`` and ``height`` left around it."""
    left, top, right, bottom = inner(width, height, fit)
    part = pixels[:, top:bottom, left:right]
    return Image.fromarray(np.ascontiguousarray(part[0] if len(part) == 1 else part.transpose(1, 2, 0)))


class Lookup:
    """The thumbnails of a pack, ready to be searched.

    Args:
        dataset: the images.
        fit: how they became squares.
        settings: what counts as a copy.
    """

    def __init__(self, dataset: Dataset, fit: Fit, settings: Dedupe) -> None:
        sizes = zip(dataset.table["width"], dataset.table["height"], strict=True)
        self._thumbnails = np.stack(
            [
                thumbnail(unpacked(pixels, width, height, fit))
                for pixels, (width, height) in zip(dataset.images, sizes, strict=True)
            ]
        )
        self._hashes = hashing.hashes(hashing.frequencies(self._thumbnails))
        self._sides = dataset.table["side"].to_numpy()
        self._settings = settings

    def __getitem__(self, image_id: int) -> hashing.Thumbnails:
        """The thumbnail of an image of the pack."""
        found: hashing.Thumbnails = self._thumbnails[image_id]
        return found

    def find(self, image: hashing.Thumbnails, but: int | None = None) -> Copy | None:
        """The image of the pack, ``but`` one, that a thumbnail (SIDE, SIDE) is most surely a copy of."""
        low, settings = hashing.frequencies(image[None]), self._settings
        turned = [hashing.turn_frequencies(low, o) for o in range(settings.orientations)]
        bits = np.bitwise_count(hashing.hashes(np.concatenate(turned))[:, None] ^ self._hashes).astype(np.int64)
        if but is not None:
            bits[:, but] = hashing.LOW**2 + 1
        orientation, near = np.nonzero(bits <= groups.radius(settings))
        if not len(near):
            return None
        both = np.concatenate([image[None], self._thumbnails[near]])
        places = np.arange(len(near))
        correlation = groups.correlation(both, np.zeros_like(places), places + 1, orientation)
        distance = bits[orientation, near]
        right = correlation >= groups.least_correlation(distance, orientation, settings)
        if not right.any():
            return None
        best = np.lexsort((near, orientation, distance, -correlation, ~right))[0]
        chosen = int(near[best])
        return Copy(chosen, str(self._sides[chosen]), hashing.ORIENTATIONS[orientation[best]], float(correlation[best]))
