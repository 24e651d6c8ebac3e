"""Is one image a copy of any in the pack? The definition of :mod:`tumorxai.dedupe`, asked about a single image.

Candidates are the images with the nearest hashes, so that strongly rotated or cut copies can be missed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tumorxai.archives.blank import near_constant
from tumorxai.archives.images import Fit, inner
from tumorxai.base.dataset import Dataset
from tumorxai.config import Dedupe
from tumorxai.dedupe import candidates, confirm, frames, hashing, registration
from tumorxai.dedupe.nearest import Near

TRIED = 32  # images with the nearest hashes, of whole images and of frames each
# A candidate is laid over the image in a few rough steps first, and looked at closely only where the edges then agree
# so far: of 468 confirmed copies among 14,336 candidates (real images, turned, cut, inverted, toned) none correlated by
# less than 0.45, of the others 6% by more.
ROUGH, FEW, LIKELY = 16, 2, 0.4  # points on a side, steps, least correlation
KEPT = 2048  # images of the pack whose layers are kept, 60 kB each: to make them takes longer than all that follows


@dataclass(frozen=True)
class Copy:
    """An image of the pack that another one duplicates.

    Attributes:
        image_id: of the image in the pack.
        side: that it is on.
        orientation: that turns the other one into it, one of ``hashing.ORIENTATIONS``.
        correlation: of their edges, in [0, 1]; NaN where the hash alone decides.
    """

    image_id: int
    side: str
    orientation: str
    correlation: float


def unpacked(pixels: NDArray[np.uint8], width: int, height: int, fit: Fit) -> Image.Image:
    """A packed image (C, S, S) without the black that its ``width`` and ``height`` left around it."""
    left, top, right, bottom = inner(width, height, fit)
    part = pixels[:, top:bottom, left:right]
    return Image.fromarray(np.ascontiguousarray(part[0] if len(part) == 1 else part.transpose(1, 2, 0)))


class Lookup:
    """The images of a pack, small, ready to be searched.

    Args:
        dataset: the images.
        fit: how they became squares.
        settings: what counts as a copy.
    """

    def __init__(self, dataset: Dataset, fit: Fit, settings: Dedupe) -> None:
        sizes = zip(dataset.table["width"], dataset.table["height"], strict=True)
        small = [
            hashing.shrink(unpacked(pixels, width, height, fit))
            for pixels, (width, height) in zip(dataset.images, sizes, strict=True)
        ]
        self._images = hashing.Images(*(np.concatenate(each) for each in zip(*small, strict=True)))
        self._blank = near_constant(self._images.views)
        self._boxes = frames.boxes(self._images.views)
        self._hashes = [hashing.hashes(low) for low in _frequencies(self._images, self._boxes)]
        self._sides = dataset.table["side"].to_numpy()
        self._settings = settings
        self._kept: OrderedDict[tuple[int, bool], registration.Layers] = OrderedDict()
        self._keeping = threading.Lock()

    def __getitem__(self, image_id: int) -> hashing.Images:
        """An image of the pack, as an array of one."""
        return hashing.Images(*(each[image_id : image_id + 1] for each in self._images))

    def find(self, image: hashing.Images, but: int | None = None) -> Copy | None:
        """The image of the pack, ``but`` one, that an image, an array of one, is most surely a copy of."""
        if near_constant(image.views)[0]:
            return None
        known = ~self._blank
        if but is not None:
            known[but] = False
        box, settings = frames.boxes(image.views), self._settings
        near = []
        for framed, low in enumerate(_frequencies(image, box)[: 1 + settings.confirm]):
            both = [low, hashing.invert_frequencies(low)][: 1 + settings.confirm]
            turned = [hashing.turn_frequencies(each, o) for each in both for o in range(settings.orientations)]
            bits = np.bitwise_count(hashing.hashes(np.concatenate(turned))[:, None] ^ self._hashes[framed])
            bits = np.where(known, bits.astype(np.int64), hashing.LOW**2 + 1)
            way, distance = bits.argmin(axis=0), bits.min(axis=0)
            least = hashing.LOW**2 if settings.confirm else settings.distance
            tried = np.argsort(distance, kind="stable")[:TRIED]
            tried = tried[distance[tried] <= least]
            pairs = candidates.Hashed(
                np.zeros_like(tried), tried, way[tried] % settings.orientations, way[tried] >= settings.orientations,
                distance[tried],
            )  # fmt: skip
            boxes = np.concatenate([box, self._boxes]) if framed else None
            near.append(candidates.placed(pairs._replace(b=tried + 1), boxes))
        found = Near(*(np.concatenate(each) for each in zip(*near, strict=True)))
        if not len(found.a):
            return None
        if not settings.confirm:
            return self._copy(int(found.b[0]) - 1, found.map[:1], float("nan"))
        return self._surest(image, found)

    def _surest(self, image: hashing.Images, found: Near) -> Copy | None:
        """The best of the candidates, whose images b are numbered from 1 on."""
        tried, b = np.unique(found.b, return_inverse=True)
        best: tuple[float, int, registration.Floats] | None = None
        for equalised in (False, True):
            parts = [registration.layers(image.views, equalised), *self._layers((tried - 1).tolist(), equalised)]
            layers = registration.Layers(*(np.concatenate(each) for each in zip(*parts, strict=True)))
            near = found._replace(b=b + 1)
            likely = np.flatnonzero(self._likely(near, layers))
            kept = confirm.decide(near.part(likely), layers, self._settings)
            for place, at, correlation in zip(likely[kept.candidate], kept.map, np.abs(kept.correlation), strict=True):
                if best is None or correlation > best[0] + 1e-4:  # the first of equal ones
                    best = float(correlation), int(found.b[place]) - 1, at[None]
        return None if best is None else self._copy(best[1], best[2], best[0])

    def _likely(self, near: Near, layers: registration.Layers) -> NDArray[np.bool_]:
        """Which candidates may be copies, as they lie or once they are roughly aligned."""
        aligned = registration.align(layers.coarse, near.a, near.b, near.map, ROUGH, FEW)
        likely = (
            np.abs(registration.agreement(layers.detail, near.a, near.b, aligned, registration.COARSE)[0]) >= LIKELY
        )
        still = np.flatnonzero(~likely & (confirm.displacement(near.map) <= confirm.DRIFT))
        a, b, maps, _ = near.part(still)
        likely[still] = np.abs(registration.agreement(layers.detail, a, b, maps, registration.COARSE)[0]) >= LIKELY
        return likely

    def _layers(self, ids: Sequence[int], equalised: bool) -> list[registration.Layers]:
        """Layers of images of the pack, each as arrays of one; those that were asked for last are kept."""
        with self._keeping:
            found = {image: self._kept[image, equalised] for image in ids if (image, equalised) in self._kept}
        new = [image for image in ids if image not in found]
        made = registration.layers(self._images.views[new], equalised)
        for at, image in enumerate(new):
            found[image] = registration.Layers(
                made.coarse[at : at + 1].copy(), made.fine[at : at + 1].copy(), made.detail[at : at + 1].copy()
            )
        with self._keeping:
            for image in ids:
                self._kept[image, equalised] = found[image]
                self._kept.move_to_end((image, equalised))
            while len(self._kept) > 2 * KEPT:  # in both tones
                self._kept.popitem(last=False)
        return [found[image] for image in ids]

    def _copy(self, chosen: int, at: registration.Floats, correlation: float) -> Copy:
        orientation = int(confirm.orientations(at)[0][0])
        return Copy(chosen, str(self._sides[chosen]), hashing.ORIENTATIONS[orientation], correlation)


def _frequencies(images: hashing.Images, boxes: registration.Floats) -> list[hashing.Floats]:
    """Of the whole images, and of their boxes."""
    return [hashing.frequencies(part) for part in (images.thumbnails, frames.framed(images.views, boxes))]
