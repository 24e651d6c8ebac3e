"""Each image's most similar images, whatever their margins, tone, orientation and small rotations: likely copies.

Edges do not change where an image is inverted or its contrast is. Of their strength, on 32 x 32 points, the leading
principal components, scaled to equal variance, tell images of one kind apart (whitening as in Jégou and Chum,
"Negative evidences and co-occurrences in image retrieval", ECCV 2012). All images are compared with all, in several
*looks*: turned, rotated, cut. Exact, so quadratic in the number of images.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_array
from tqdm import tqdm

from tumorxai.archives.workers import mapped
from tumorxai.dedupe.registration import COARSE, IDENTITY, Floats, Index, compose, inverse, points, sample

COMPONENTS = 128
RIDGE = 0.05  # of the mean variance, added to each component's: components of pure noise stay small
LEARNT = 2048  # most images that the components are computed from
NEAREST = 6  # candidates of an image in one kind of look
BLOCK, TILE = 256, 1024  # images compared with all others at once, and of these

ROTATIONS = (6.0, 12.0, 18.0, 25.0)  # degrees
CUTS = ((0.93, (0.0,)), (0.9, (-0.6, 0.6)), (0.8, (-0.75, 0.0, 0.75)))  # side that is left, places in the margin


class Look(NamedTuple):
    """A way to hold one image against another.

    Attributes:
        tone: 0 as it is, 1 with a flat histogram.
        frame: 0 the whole image, 1 the box without an empty margin.
        turned: whether it is mirrored or turned by right angles.
        map: that takes points of an image to those of one that is looked at so, shape (2, 3).
    """

    tone: int
    frame: int
    turned: bool
    map: Floats


class Near(NamedTuple):
    """Candidates: ``map`` takes points of image b to points of image a, in the tone in which they were found alike."""

    a: Index
    b: Index
    map: Floats
    tone: Index

    def part(self, which: Any) -> Near:
        """Some of the candidates, as an index of arrays picks them."""
        return Near(self.a[which], self.b[which], self.map[which], self.tone[which])


def orientation_map(orientation: int) -> Floats:
    """The map of an image that is turned into one of ``hashing.ORIENTATIONS``."""
    linear = np.diag([-1.0 if orientation & 1 else 1.0, -1.0 if orientation & 2 else 1.0])
    if orientation & 4:
        linear = linear[::-1]
    return np.column_stack([linear, [0.0, 0.0]]).astype(np.float32)


def rotation_map(degrees: float) -> Floats:
    """The map of a square image that is rotated anticlockwise about its centre."""
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    return np.array([[cosine, -sine, 0], [sine, cosine, 0]], dtype=np.float32)


def looks(orientations: int) -> list[Look]:
    """All looks: every frame and tone in every orientation, upright and mirrored images also rotated and cut."""
    altered = [rotation_map(sign * degrees) for degrees in ROTATIONS for sign in (1, -1)]
    for side, places in CUTS:
        altered += [
            np.array([[side, 0, x * (1 - side)], [0, side, y * (1 - side)]], dtype=np.float32)
            for x in places
            for y in places
        ]
    out = []
    for o in range(orientations):
        turned = orientation_map(o)
        out += [Look(tone, frame, o > 0, turned) for tone, frame in ((0, 0), (1, 0), (0, 1))]
        if o < 2:
            out += [Look(0, 0, o > 0, compose(turned[None], each[None])[0]) for each in altered]
    return out


def operator(at: Floats, side: int) -> csr_array:
    """The linear map that reads images of side x side pixels on COARSE x COARSE mapped points, 0 beyond them."""
    grid = points(COARSE)
    x, y = (row[0] * grid[None] + row[1] * grid[:, None] + row[2] for row in at)
    across, down = ((each.ravel() + 1) * (side / 2) - 0.5 for each in (x, y))
    left, top = np.floor(across).astype(int), np.floor(down).astype(int)
    rows, columns, weights = [], [], []
    for right in (0, 1):
        for below in (0, 1):
            column, row = left + right, top + below
            weight = (1 - np.abs(across - column)) * (1 - np.abs(down - row))
            inside = (column >= 0) & (column < side) & (row >= 0) & (row < side) & (weight > 1e-6)
            rows.append(np.flatnonzero(inside))
            columns.append((row * side + column)[inside])
            weights.append(weight[inside])
    place = np.concatenate(rows), np.concatenate(columns)
    return csr_array((np.concatenate(weights).astype(np.float32), place), shape=(COARSE**2, side**2))


class _Features:
    """The components of N images in one tone and frame."""

    def __init__(self, pixels: Floats, orientations: int) -> None:
        """Take edges of shape (N, S, S)."""
        self.pixels, self.side = pixels.reshape(len(pixels), -1), pixels.shape[1]
        some = self.pixels[:: -(-len(pixels) // LEARNT)]
        read = (operator(IDENTITY, self.side) @ some.T).astype(np.float64)
        turns = [operator(orientation_map(o), COARSE).indices for o in range(orientations)]  # all are permutations
        mean, square = read.mean(axis=1), read @ read.T / read.shape[1]
        self.mean = np.mean([mean[turn] for turn in turns], axis=0)
        spread = np.mean([square[np.ix_(turn, turn)] for turn in turns], axis=0) - np.outer(self.mean, self.mean)
        variance, axes = eigh(spread, subset_by_index=(COARSE**2 - COMPONENTS, COARSE**2 - 1))
        variance = variance.clip(0)
        self.axes = axes / np.sqrt(variance + RIDGE * variance.sum() / COMPONENTS + 1e-9)

    def __call__(self, at: Floats) -> Floats:
        """Unit vectors of the images looked at by a map, shape (N, COMPONENTS)."""
        weights = (operator(at, self.side).T @ self.axes).astype(np.float32)
        found = self.pixels @ weights - (self.mean @ self.axes).astype(np.float32)
        norm = np.linalg.norm(found, axis=1, keepdims=True)
        out: Floats = np.divide(found, norm, out=np.zeros_like(found), where=norm > 1e-6)
        return out


def search(
    coarse: tuple[NDArray[np.uint8], NDArray[np.uint8]], frames: Floats, orientations: int, workers: int | None = None
) -> Near:
    """The NEAREST images of each image in every kind of look.

    Args:
        coarse: coarse layers of N images in both tones, uint8 of shape (N, LAYER, LAYER).
        frames: their boxes, shape (N, 2, 3).
        orientations: 1 or 8.
        workers: processes; all cores if None. The result does not depend on it.
    """
    count = len(frames)
    if count < 2:
        none = np.zeros(0, np.int64)
        return Near(none, none, np.zeros((0, 2, 3), np.float32), none)
    seen = looks(orientations)
    parts = []
    for tone, frame in ((0, 0), (1, 0), (0, 1)):
        pixels = coarse[tone].astype(np.float32)
        if frame:
            pixels = np.concatenate([
                sample(pixels, np.arange(start, min(start + BLOCK, count)), frames[start : start + BLOCK], COARSE)[0]
                for start in range(0, count, BLOCK)
            ])  # fmt: skip
        features = _Features(pixels, orientations)
        for turned in (False, True)[:orientations]:
            own = [look for look in seen if (look.tone, look.frame, look.turned) == (tone, frame, turned)]
            parts.append(_kind(features, own, frames, workers))
    return Near(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _kind(features: _Features, own: list[Look], frames: Floats, workers: int | None) -> Near:
    """The nearest images in looks of one kind."""
    asked = features(IDENTITY)
    global _known  # what forked processes inherit needs no copy
    _known = [features(look.map) for look in own]
    blocks = [(start, asked[start : start + BLOCK]) for start in range(0, len(asked), BLOCK)]
    found = tqdm(mapped(_block, blocks, workers), "comparing", len(blocks))
    a, b, which = (np.concatenate(each) for each in zip(*found, strict=True))
    maps = np.stack([look.map for look in own])[which]
    if own[0].frame:  # out of b's box, into a's
        maps = compose(frames[a], compose(maps, inverse(frames[b])))
    return Near(a, b, maps.astype(np.float32), np.full(len(a), own[0].tone))


_known: list[Floats] = []


def _block(task: tuple[int, Floats]) -> tuple[Index, Index, Index]:
    """Nearest images a of the images b of a block, and the look that shows a as b."""
    start, asked = task
    count = len(_known[0])
    best = np.full((len(asked), count), -2.0, np.float32)
    for left in range(0, count, TILE):  # what is compared at once stays in a core's cache
        part = best[:, left : left + TILE]
        for known in _known:
            np.maximum(part, asked @ known[left : left + TILE].T, out=part)
    rows = np.arange(len(asked))
    best[rows, start + rows] = -3.0
    nearest = min(NEAREST, count - 1)
    a = np.argpartition(-best, nearest - 1, axis=1)[:, :nearest].ravel().astype(np.int64)
    b = np.repeat(rows, nearest)
    alike = [np.einsum("ij,ij->i", known[a], asked[b]) for known in _known]
    return a, start + b, np.argmax(alike, axis=0).astype(np.int64)
