"""Local keypoints, and how two images of them fit: what the second auditor sees.

Nothing here is shared with the detector of ``dedupe``, which hashes low frequencies of the whole image: SIFT keypoints
(Lowe 2004, IJCV 60:91-110) are local, so that a crop, a margin or a rotation, which change every frequency, leave most
of them where they were.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

SIDE = 128  # side at which images are compared, pixels: small packs are enlarged, where SIFT finds little at 64
MOST = 128  # keypoints of an image, the strongest
CONTRAST = 0.01  # least response of a keypoint: brains are soft, Lowe's 0.04 leaves a dozen of them
RATIO = 0.85  # Lowe's test: nearest over second nearest descriptor
REACH = 3.0  # how far from its place a matched keypoint may lie to support the transform, pixels of SIDE
THREADS = min(8, os.cpu_count() or 1)
SCALES = (0.4, 2.5)  # magnifications that copies may have

Floats = NDArray[np.float32]
# A descriptor is 4 x 4 cells of 8 directions, relative to its keypoint's own. Seen in a mirror, the rows of the cells
# and the sense of the directions are reversed; in a negative, the keypoint's own direction, hence all cells.
_CELLS = np.arange(128).reshape(4, 4, 8)
VARIANTS = {
    "plain": _CELLS.ravel(),
    "mirrored": _CELLS[::-1, :, -np.arange(8) % 8].ravel(),
    "inverted": _CELLS[::-1, ::-1].ravel(),
}


class Keypoints(NamedTuple):
    """Keypoints of one image: ``place`` in pixels of SIDE, shape (K, 2), and ``descriptor`` of length 1, (K, 128)."""

    place: Floats
    descriptor: Floats


class Fit(NamedTuple):
    """How an image was laid onto another one.

    Attributes:
        inliers: matched keypoints that agree with the transform.
        correlation: of the two images' detail where they overlap, in [-1, 1].
        overlap: share of the smaller image's content that lies in the other one, in [0, 1].
    """

    inliers: int
    correlation: float
    overlap: float


NONE = Fit(0, 0.0, 0.0)


def grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey images of N packed ones (N, C, S, S), shape (N, SIDE, SIDE)."""
    out = np.empty((len(images), SIDE, SIDE), dtype=np.uint8)
    for number, image in enumerate(images):
        plane = image.mean(axis=0).round().astype(np.uint8)
        method = cv2.INTER_AREA if plane.shape[0] > SIDE else cv2.INTER_CUBIC
        out[number] = cv2.resize(plane, (SIDE, SIDE), interpolation=method)
    return out


def extract(images: NDArray[np.uint8]) -> list[Keypoints]:
    """Keypoints of N grey images (N, SIDE, SIDE), the strongest MOST of each; the same on any number of threads."""
    with ThreadPoolExecutor(THREADS) as pool:  # OpenCV lets other threads run
        return list(tqdm(pool.map(_of_one, images), "keypoints", len(images), disable=None, leave=False))


def _of_one(image: NDArray[np.uint8]) -> Keypoints:
    finder = cv2.SIFT.create(nfeatures=MOST, contrastThreshold=CONTRAST)
    found, descriptor = finder.detectAndCompute(image, None)
    if descriptor is None:
        return Keypoints(np.empty((0, 2), np.float32), np.empty((0, 128), np.float32))
    root = np.sqrt(descriptor / np.maximum(descriptor.sum(axis=1, keepdims=True), 1e-6))  # RootSIFT
    return Keypoints(np.array([point.pt for point in found], dtype=np.float32)[:MOST], root[:MOST].astype(np.float32))


def matches(one: Floats, other: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of descriptors that are each other's nearest and pass Lowe's ratio test, in both lists."""
    if len(one) < 2 or len(other) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    likeness = one @ other.T  # unit vectors: squared distance is 2 - 2 likeness
    near = np.argmax(likeness, axis=1)
    rows = np.arange(len(one))
    best = likeness[rows, near]
    second = np.partition(likeness, -2, axis=1)[:, -2]
    good = (1 - best) <= RATIO**2 * (1 - second)
    good &= np.argmax(likeness, axis=0)[near] == rows
    return rows[good], near[good]


def fit(
    one: NDArray[np.uint8],
    other: NDArray[np.uint8],
    left: Keypoints,
    right: Keypoints,
    variant: str = "plain",
    least: int = 4,
) -> Fit:
    """Lay one grey image onto another by a similarity transform found by RANSAC, and compare their detail.

    Args:
        one: grey image (SIDE, SIDE).
        other: the same.
        left: keypoints of ``one``.
        right: those of ``other``.
        variant: what is done to ``one`` before: a key of VARIANTS.
        least: matches and inliers without which nothing more is looked at.
    """
    a, b = matches(left.descriptor[:, VARIANTS[variant]], right.descriptor)
    if len(a) < least:
        return NONE
    places = left.place[a].copy()
    if variant == "mirrored":
        places[:, 0] = SIDE - 1 - places[:, 0]
        one = one[:, ::-1]
    elif variant == "inverted":
        one = 255 - one
    transform, inliers = cv2.estimateAffinePartial2D(
        places, right.place[b], method=cv2.RANSAC, ransacReprojThreshold=REACH, maxIters=1000, confidence=0.999
    )
    if transform is None or inliers.sum() < least:
        return NONE
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    if not SCALES[0] <= scale <= SCALES[1]:
        return NONE
    return Fit(int(inliers.sum()), *compare(np.ascontiguousarray(one), other, transform))


def compare(one: NDArray[np.uint8], other: NDArray[np.uint8], transform: NDArray[Any]) -> tuple[float, float]:
    """Correlation of the detail of ``one``, moved by ``transform``, and of ``other``; and how far they overlap."""
    moved = cv2.warpAffine(one, transform, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    inside = cv2.warpAffine(np.full_like(one, 255), transform, (SIDE, SIDE)) > 250
    a, b = detail(moved), detail(other)
    content = ((np.abs(a) > 0) | (np.abs(b) > 0)) & inside
    if content.sum() < 256:
        return 0.0, 0.0
    x, y = a[content], b[content]
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return (float((x * y).sum()) / size if size else 0.0), float(content.sum() / max(1, (np.abs(b) > 0).sum()))


def detail(image: NDArray[Any]) -> Floats:
    """What stands out from its surroundings, in units of their deviation; 0 where all is even; shape as given."""
    plane = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.0)
    mean = cv2.GaussianBlur(plane, (0, 0), 4.0)
    spread = np.sqrt(np.maximum(cv2.GaussianBlur((plane - mean) ** 2, (0, 0), 4.0), 0))
    out: Floats = np.where(spread > 2.0, (plane - mean) / (spread + 2.0), 0.0).astype(np.float32)
    return out
