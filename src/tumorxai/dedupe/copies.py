"""The copies among images: candidates, confirmed, as a table of pairs and as groups."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.archives.blank import near_constant
from tumorxai.config import Dedupe
from tumorxai.dedupe import candidates, confirm, frames, hashing, nearest, registration
from tumorxai.dedupe.candidates import Members, components, expand
from tumorxai.dedupe.registration import IDENTITY, Floats, Index, inverse

# Candidates that are confirmed at once where not all images are compared: what is looked at of their images, 30 kB of
# each, is made anew for each block. Whole batches of `confirm`, for rounding depends on what is computed together.
BLOCK = 32 * confirm.TASK
TONES = False, True  # equalised; a tone is a place here


class Found(NamedTuple):
    """Copies among N images.

    Attributes:
        pairs: ``image_a < image_b``, ``kind`` (exact or near), ``correlation`` of the edges, and how the picture of a
            must be altered to lie on b: ``orientation`` (a place in ``hashing.ORIENTATIONS``), then ``inverted`` (0 or
            1), ``rotation`` (degrees anticlockwise), ``scale``, and ``shift_x`` and ``shift_y`` of the centre (shares
            of b's sides, to the right and down). ``distance``: bits, of the hashes of the whole images so turned.
        group: smallest image of each image's group, shape (N,).
        blank: near-constant images, which belong to no group, shape (N,).
        alone: what the hash alone finds: pairs and single-link groups at ``distance``, unturned and unconfirmed.
        rejected: candidates that the pixels did not confirm.
        searched: whether each image was compared with all others, beyond their hashes.
    """

    pairs: pd.DataFrame
    group: Index
    blank: NDArray[np.bool_]
    alone: dict[str, int]
    rejected: int
    searched: bool


def find(
    images: hashing.Images,
    pixels: Index,
    settings: Dedupe,
    workers: int | None = None,
    scratch: Path | None = None,
) -> Found:
    """Find the copies among N images with D different pixels.

    Args:
        images: one for each of the D, in the order of their numbers.
        pixels: number of each image's pixels, 0 to D - 1, shape (N,).
        settings: what counts as a copy.
        workers: processes; all cores if None. The result does not depend on it.
        scratch: folder for what is too large to be held in memory; None to hold all.
    """
    blank = near_constant(images.views)
    used = np.flatnonzero(~blank)
    kept = hashing.some(images, used, scratch)
    low = hashing.frequencies(kept.thumbnails)
    alone = candidates.plain(low, np.bincount(pixels, minlength=len(blank))[used], settings.distance)
    searched = settings.confirm and len(used) <= settings.limit
    if settings.confirm:
        near, rejected = _confirmed(kept, low, searched, settings, workers)
    else:
        near, rejected = _unconfirmed(low, settings), 0
    place = np.full(len(blank), -1)
    place[used] = np.arange(len(used))
    pairs = _pairs(near, place[pixels], low)
    group = components(len(pixels), pairs["image_a"].to_numpy(), pairs["image_b"].to_numpy())
    return Found(pairs, group, blank[pixels], alone, rejected, searched)


class _Matches(NamedTuple):
    """Different images that are copies, each pair once. Maps take points of b to a; inverted ones correlate below 0."""

    a: Index
    b: Index
    map: Floats
    correlation: Floats


def _unconfirmed(low: hashing.Floats, settings: Dedupe) -> _Matches:
    """Pairs of near hashes as they are; their correlation is not known."""
    found = candidates.hashed(low, settings)
    near = candidates.placed(found, None).part(np.argsort(found.distance, kind="stable"))
    return _strongest(near.a, near.b, near.map, np.full(len(near.a), np.nan, np.float32))


def _confirmed(
    images: hashing.Images, low: hashing.Floats, searched: bool, settings: Dedupe, workers: int | None
) -> tuple[_Matches, int]:
    """Confirmed pairs of different images, and the number of the others that were looked at."""
    boxes = frames.boxes(images.views)
    found = [candidates.placed(candidates.hashed(low, settings), None)]
    framed = hashing.frequencies(frames.framed(images.views, boxes))
    found.append(candidates.placed(candidates.hashed(framed, settings), boxes))
    del framed
    if searched:
        both = [registration.layers(images.views, equalised) for equalised in TONES]
        search = nearest.search((both[0].coarse, both[1].coarse), boxes, settings.orientations, workers)
        near = candidates.joined([*found, search])
        parts = [_agreeing(near.part(near.tone == tone), own, settings, workers) for tone, own in enumerate(both)]
    else:
        near = candidates.joined(found)  # all of the first tone
        parts = [_agreeing_in_blocks(near, images.views, settings, workers)]
    best = _strongest(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    looked = len(np.unique(np.minimum(near.a, near.b) * len(low) + np.maximum(near.a, near.b)))
    return best, looked - len(best.a)


def _agreeing(near: nearest.Near, layers: registration.Layers, settings: Dedupe, workers: int | None) -> _Matches:
    """The copies among candidates of one tone, in it."""
    kept = confirm.confirm(near, layers, settings, workers)
    return _Matches(near.a[kept.candidate], near.b[kept.candidate], kept.map, kept.correlation)


def _agreeing_in_blocks(
    near: nearest.Near, views: hashing.Thumbnails, settings: Dedupe, workers: int | None
) -> _Matches:
    """The same, by layers of the images of one block of candidates at a time."""
    parts = []
    for start in range(0, max(1, len(near.a)), BLOCK):
        block = near.part(slice(start, start + BLOCK))
        shown, place = np.unique([block.a, block.b], return_inverse=True)
        layers = registration.layers(views[shown], equalised=False)
        own = block._replace(a=place[0], b=place[1])
        found = _agreeing(own, layers, settings, workers)
        parts.append(found._replace(a=shown[found.a], b=shown[found.b]))
    return _Matches(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _strongest(a: Index, b: Index, maps: Floats, correlation: Floats) -> _Matches:
    """Each pair once, as it agrees best; of equal ones, the first."""
    order = np.lexsort((-np.abs(correlation), np.maximum(a, b), np.minimum(a, b)))
    low, high = np.minimum(a, b)[order], np.maximum(a, b)[order]
    first = order[np.append(True, (low[1:] != low[:-1]) | (high[1:] != high[:-1]))[: len(order)]]
    return _Matches(a[first], b[first], maps[first], correlation[first])


def _pairs(near: _Matches, pixels: Index, low: hashing.Floats) -> pd.DataFrame:
    """Pairs of images, exact copies among them.

    Args:
        near: pairs of D different images.
        pixels: which of the D each image shows, shape (N,); -1 for images that belong to no group.
        low: frequencies of the D.
    """
    shown = np.flatnonzero(pixels >= 0)
    members = Members(pixels[shown])
    a, b, pair = expand(near.a, near.b, members, members)
    itself = np.flatnonzero(members.count > 1)
    same_a, same_b, _ = expand(itself, itself, members, members)
    same_a, same_b = same_a[same_a < same_b], same_b[same_a < same_b]
    a, b = shown[np.concatenate([same_a, a])], shown[np.concatenate([same_b, b])]
    maps = np.concatenate([np.broadcast_to(IDENTITY, (len(same_a), 2, 3)), near.map[pair]])
    correlation = np.concatenate([np.ones(len(same_a), np.float32), near.correlation[pair]])
    kind = np.repeat(["exact", "near"], [len(same_a), len(pair)])

    swap = a > b
    maps = np.where(swap[:, None, None], inverse(maps), maps)
    a, b = np.minimum(a, b), np.maximum(a, b)
    orientation, rotation = confirm.orientations(maps)
    inverted = correlation < 0
    centre = inverse(maps)[:, :, 2] / 2
    table = pd.DataFrame(
        {
            "image_a": a,
            "image_b": b,
            "kind": kind,
            "orientation": orientation,
            "distance": _distance(low, pixels[a], pixels[b], orientation, inverted),
            "correlation": np.abs(correlation).astype(np.float64).round(4),
            "inverted": inverted.astype(np.int64),
            "rotation": rotation.astype(np.float64).round(1) + 0.0,  # no -0.0
            "scale": (np.abs(np.linalg.det(maps[:, :, :2])) ** -0.5).astype(np.float64).round(3),
            "shift_x": centre[:, 0].astype(np.float64).round(3) + 0.0,
            "shift_y": centre[:, 1].astype(np.float64).round(3) + 0.0,
        }
    )
    return table.drop_duplicates(["image_a", "image_b"]).sort_values(["image_a", "image_b"], ignore_index=True)


def _distance(low: hashing.Floats, a: Index, b: Index, orientation: Index, inverted: NDArray[np.bool_]) -> Index:
    """Bits between the hashes of image a, turned and inverted, and of image b."""
    out = np.zeros(len(a), np.int64)
    plain = hashing.hashes(low)
    for negative in (False, True):
        upright = hashing.invert_frequencies(low) if negative else low
        for o in range(8):
            here = (orientation == o) & (inverted == negative)
            if here.any():
                turned = hashing.hashes(hashing.turn_frequencies(upright, o))
                out[here] = np.bitwise_count(turned[a[here]] ^ plain[b[here]])
    return out
