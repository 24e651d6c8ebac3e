"""Pairs of images that may be copies: near perceptual hashes of several frames, and the nearest in :mod:`nearest`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tumorxai.config import Dedupe
from tumorxai.dedupe import hamming, hashing
from tumorxai.dedupe.nearest import Near, orientation_map
from tumorxai.dedupe.registration import Floats, Index, compose, inverse

# Of crowds of equal hashes with more pairs than this, only the first member is compared with all others: the work stays
# linear.
CROWD = 1_024


class Members:
    """Which items carry each of K values."""

    def __init__(self, value: Index) -> None:
        """Take the value, 0 to K - 1, of every item."""
        self.items = np.argsort(value, kind="stable")
        self.count = np.bincount(value)
        self.start = np.cumsum(self.count) - self.count

    def __getitem__(self, place: tuple[Index, Index]) -> Index:
        members: Index = self.items[self.start[place[0]] + place[1]]
        return members


def expand(a: Index, b: Index, left: Members, right: Members) -> tuple[Index, Index, Index]:
    """All pairs of members of the values a[p] and b[p]; of a crowd, the first of each side with all of the other.

    Returns:
        Members of a, members of b, and p; each of shape (pairs,).
    """
    rows, columns = left.count[a], right.count[b]
    whole = rows * columns <= CROWD
    size = np.where(whole, rows * columns, rows + columns)
    pair = np.repeat(np.arange(len(a)), size)
    k = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    rows, columns, whole = rows[pair], columns[pair], whole[pair]
    x = np.where(whole, k // columns, np.where(k < rows, k, 0))
    y = np.where(whole, k % columns, np.where(k < rows, 0, k - rows))
    return left[a[pair], x], right[b[pair], y], pair


class Hashed(NamedTuple):
    """Pairs with near hashes: image a, turned and inverted where it says so, and image b."""

    a: Index
    b: Index
    orientation: Index
    inverted: NDArray[np.bool_]
    distance: Index


def hashed(low: hashing.Floats, settings: Dedupe) -> Hashed:
    """Pairs of images with near hashes in any orientation and, where pixels confirm, inverted.

    The slack is for sets within the limit: among a million hashes, pairs at most 8 bits apart take twenty times as long
    to find as those at most 4 bits apart.
    """
    slack = settings.slack if settings.confirm and len(low) <= settings.limit else 0
    radius = settings.distance + slack
    plain = hashing.hashes(low)
    parts = []
    for inverted in (False, True)[: 1 + settings.confirm]:
        upright = hashing.invert_frequencies(low) if inverted else low
        for orientation in range(settings.orientations):
            same = orientation == 0 and not inverted
            turned = None if same else hashing.hashes(hashing.turn_frequencies(upright, orientation))
            a, b, distance = near_members(plain, turned, radius)
            parts.append((a, b, np.full(len(a), orientation), np.full(len(a), inverted), distance))
    return Hashed(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def near_members(hashes: hamming.Hashes, turned: hamming.Hashes | None, radius: int) -> tuple[Index, Index, Index]:
    """Pairs of N images, a by its turned hash and b by its own, at most ``radius`` bits apart; None turns none.

    Returns:
        a, b and the distances; upright pairs once, turned ones both ways round, no image with itself.
    """
    values, value = np.unique(hashes, return_inverse=True)
    members = Members(value)
    if turned is None:
        others, near, itself = members, hamming.neighbours(values, None, radius), np.arange(len(values))
        near = hamming.Pairs(*map(np.concatenate, zip(near, (itself, itself, 0 * itself), strict=True)))
    else:
        other_values, other = np.unique(turned, return_inverse=True)
        others, near = Members(other), hamming.neighbours(other_values, values, radius)
    a, b, pair = expand(near.left, near.right, others, members)
    keep = a != b
    return a[keep], b[keep], near.distance[pair[keep]]


def placed(pairs: Hashed, frames: Floats | None) -> Near:
    """Where the pairs' pixels lie over each other, if the hashes are of the frames, or of whole images if None."""
    turned = np.stack([orientation_map(o) for o in range(8)])[pairs.orientation]
    if frames is not None:
        turned = compose(frames[pairs.a], compose(turned, inverse(frames[pairs.b])))
    return Near(pairs.a, pairs.b, turned.astype(np.float32), np.zeros(len(pairs.a), np.int64))


def plain(low: hashing.Floats, images: Index, distance: int) -> dict[str, int]:
    """What the hash alone finds, upright and unconfirmed: pairs and single-link groups.

    Args:
        low: frequencies of D different images.
        images: how many images show each of the D, shape (D,).
        distance: of two hashes, bits.
    """
    values, value = np.unique(hashing.hashes(low), return_inverse=True)
    images = np.bincount(value, weights=images).astype(np.int64)
    near = hamming.neighbours(values, None, distance)
    sizes = np.bincount(components(len(values), near.left, near.right), weights=images).astype(np.int64)
    return {
        "pairs": int((images[near.left] * images[near.right]).sum() + (images * (images - 1) // 2).sum()),
        "groups": int((sizes > 0).sum()),
        "largest_group": int(sizes.max(initial=0)),
    }


def components(count: int, a: Index, b: Index) -> Index:
    """Smallest item connected to each of ``count`` items."""
    graph = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(count, count))
    component = connected_components(graph, directed=False)[1]
    smallest: Index = np.unique(component, return_index=True)[1][component]
    return smallest


def joined(parts: list[Near]) -> Near:
    """All candidates, each place once for each pair and tone; the same place the other way round counts as the same."""
    a, b, maps, tone = (np.concatenate(each) for each in zip(*parts, strict=True))
    swap = a > b
    low, high = np.where(swap, b, a), np.where(swap, a, b)
    ordered = np.where(swap[:, None, None], inverse(maps), maps)
    place = np.round(ordered * 12).astype(np.int64).reshape(len(a), 6)  # within 4% of the side: one start is enough
    first = np.unique(np.column_stack([low, high, tone, place]), axis=0, return_index=True)[1]
    first = np.sort(first)
    return Near(a[first], b[first], maps[first], tone[first])
