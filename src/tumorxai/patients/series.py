"""Series: the slices of one acquisition, by the source's own order where it has one, and by likeness otherwise.

Neighbouring slices of one head look alike, and so do slices of two heads at one height. What tells them apart is how
alike they are beside what else is alike: a slice's neighbours stand out from its surroundings. So likeness is taken
relative to that of each image's few nearest (as the local scaling of Zelnik-Manor and Perona, "Self-Tuning Spectral
Clustering", NIPS 2004, and CSLS of Conneau et al., arXiv 1710.04087, equation 6, do). How often that is right is
measured against published folds by ``benchmarks/series.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorxai.patients import frames

NEAREST = 5  # groups of copies whose likeness is the scale of one
# Chosen on three of Cheng's five folds such that 4 in 5 pairs of images in one found series are of one fold, and judged
# on the other two, in turn: benchmarks/series.py.
LEAST = 0.015  # by which likeness must exceed the mean of both images' scales
LARGEST = 40  # groups of copies of a found series: the slices of one head are fewer
ALIKE = (
    0.3  # likeness that neighbours in a source's order must have; 1 in 100 pairs of two patients of Cheng's reach it
)
STEP = 3  # numbers of the source's order between neighbours of a series, for some slices are not published
BLOCK = 512  # groups compared with all others at once

Ids = NDArray[np.int64]


class Links(NamedTuple):
    """Pairs of groups of copies that look like slices of one series, the surest first; arrays of shape (P,)."""

    a: Ids
    b: Ids
    excess: NDArray[np.float64]


def features(images: frames.Frames) -> frames.Floats:
    """What is compared of N images, unit vectors of shape (N, 1024): the products of these are likenesses in [-1, 1].

    The likeness of two images is the mean of that of their whole frames and that of their heads' boxes.
    """
    both: frames.Floats = np.concatenate([frames.edges(images.whole), frames.edges(images.head)], axis=1) / np.sqrt(
        np.float32(2)
    )
    return both


def links(vectors: frames.Floats, group: Ids, least: float = LEAST, nearest: int = NEAREST) -> Links:
    """Pairs of groups of copies whose likeness exceeds the mean of both scales by at least ``least``, which is above 0.

    The likeness of two groups is the greatest of any two of their images. A pair above the mean of both scales is above
    one of them, the mean of some few nearest; so one of the two is among the nearest of the other, and no other pair
    need be looked at.

    Args:
        vectors: of D images with different pixels, see :func:`features`.
        group: of copies, of each image, 0 to N - 1, shape (D,).
        least: the excess.
        nearest: groups that make a scale; of fewer groups all others.
    """
    order = np.argsort(group, kind="stable")
    vectors, starts = vectors[order], np.unique(group[order], return_index=True)[1]
    count, ends = len(starts), np.append(starts[1:], len(group))
    k = min(nearest, count - 1)
    if k < 1:
        return Links(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    other, likeness = np.empty((count, k), dtype=np.int64), np.empty((count, k))
    for first in range(0, count, BLOCK):
        own = np.arange(first, min(first + BLOCK, count))
        pairs = np.maximum.reduceat(vectors[starts[first] : ends[own[-1]]] @ vectors.T, starts, axis=1)
        alike = np.maximum.reduceat(pairs, starts[own] - starts[first], axis=0).round(5)  # not as sums happen to round
        alike[np.arange(len(own)), own] = -2.0
        chosen = np.argpartition(-alike, k - 1, axis=1)[:, :k]
        other[own], likeness[own] = chosen, np.take_along_axis(alike, chosen, axis=1)
    scale = likeness.mean(axis=1)
    a, b = np.repeat(np.arange(count), k), other.ravel()
    excess = (likeness.ravel() - (scale[a] + scale[b]) / 2).round(5)
    kept = excess >= least
    low, high = np.minimum(a, b)[kept], np.maximum(a, b)[kept]
    found, place = np.unique(np.stack([low, high], axis=1), axis=0, return_index=True)
    excess = excess[kept][place]
    order = np.lexsort((found[:, 1], found[:, 0], -excess))
    return Links(found[order, 0], found[order, 1], excess[order])


def join(count: int, found: Links, whose: Sequence[str], given: Ids, largest: int = LARGEST) -> Ids:
    """Series of N groups of copies: links are followed, surest first, but never between two patients or beyond a size.

    Args:
        count: N.
        found: what :func:`links` returned.
        whose: patient, or fold of patients, of each group; empty where unknown.
        given: series of each group by its source, or -1; groups of one stay together, and no two become one.
        largest: groups of a series that is found; those that are given may be larger, and then take in none.

    Returns:
        Smallest group of each group's series, shape (N,).
    """
    parent, size, owner, fixed = np.arange(count), np.ones(count, dtype=np.int64), list(whose), given >= 0

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = int(parent[item])
        return item

    def merge(one: int, two: int) -> None:
        one, two = min(one, two), max(one, two)
        parent[two], size[one], owner[one] = one, size[one] + size[two], owner[one] or owner[two]
        fixed[one] |= fixed[two]

    first: dict[int, int] = {}
    for item, series in enumerate(given.tolist()):
        if series >= 0 and root(first.setdefault(series, item)) != root(item):
            merge(root(first[series]), root(item))
    for a, b in zip(found.a.tolist(), found.b.tolist(), strict=True):
        one, two = root(a), root(b)
        strangers = owner[one] and owner[two] and owner[one] != owner[two]
        if one != two and not strangers and not (fixed[one] and fixed[two]) and size[one] + size[two] <= largest:
            merge(one, two)
    return np.array([root(item) for item in range(count)], dtype=np.int64)


def by_order(numbers: Ids, apart: Sequence[str], vectors: frames.Floats) -> Ids:
    """Series of N images of a source that numbers its slices in order: runs of neighbours that are alike.

    Args:
        numbers: of each image in the source's order; -1 where it has none.
        apart: what no series crosses: class and patient, or fold, of each image.
        vectors: see :func:`features`.

    Returns:
        Number of each image's series, 0 to K - 1 in the source's order, -1 without one; shape (N,).
    """
    series = np.full(len(numbers), -1, dtype=np.int64)
    order = np.argsort(numbers, kind="stable")
    order = order[numbers[order] >= 0]
    if not len(order):
        return series
    before, after = order[:-1], order[1:]
    near = numbers[after] - numbers[before] <= STEP
    alike = (vectors[before] * vectors[after]).sum(axis=1).round(5) >= ALIKE
    same = np.array([apart[a] == apart[b] for a, b in zip(before, after, strict=True)], dtype=bool)
    series[order] = np.cumsum(np.r_[True, ~(near & alike & same)]) - 1
    return series
