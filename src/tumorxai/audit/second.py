"""A second search for copies, which shares nothing with the first one: local keypoints instead of hashes.

Candidates come from a visual vocabulary (Sivic and Zisserman, ICCV 2003): descriptors of keypoints become words, and
the images whose words are most alike are looked at. A candidate is a copy where a similarity transform lays enough of
its keypoints onto the other's (RANSAC) and the detail then correlates. Look-alikes, the central slices of two patients
say, agree in the large and not in detail. What agrees in many keypoints and less in detail is likely a slice of the
same series.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import poisson
from tqdm import tqdm

from tumorxai.audit import capture, keypoints
from tumorxai.audit.keypoints import NONE, Keypoints

# Of the copies of Cheng's folds 1 and 2 that were padded, cropped, turned, shifted, mirrored, inverted or compressed,
# 99% correlate above 0.96 at 96 px (benchmarks/second.py); the bound leaves room for smaller images. On folds 3 to 5 it
# kept 2,519 of 2,520.
INLIERS, CORRELATION = 12, 0.93
ALIKE = 0.70  # correlation from which that many keypoints speak for one series
FALSE_ACCEPTS = (0, 5535)  # pairs of two folds that were accepted, of those that were looked at, on folds 3 to 5
LEVEL = 0.95
SURE = 0.9  # correlation of the edges at which the detector's pairs are copies beyond doubt

NEAREST = {"plain": 6, "mirrored": 2, "inverted": 2}  # candidates of each image
WORDS = 1024
SAMPLE, ROUNDS = 40_000, 4  # descriptors that the vocabulary is made of, and rounds of k-means
BLOCK = 512  # images, or candidates, at once

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


class Found(NamedTuple):
    """What the second search saw.

    Attributes:
        pairs: every candidate: ``image_a < image_b``, ``inliers``, ``correlation``, ``variant``, and ``kind``:
            ``copy``, ``alike`` or empty.
        compared: ids of the images that were compared, one of each distinct pixels, ascending.
        images: of distinct pixels that there are.
    """

    pairs: pd.DataFrame
    compared: Ids
    images: int


def find(images: NDArray[np.uint8], ids: Ids, limit: int, seed: int, first: Ids | None = None) -> Found:
    """Look for copies and for slices of one series.

    Args:
        images: packed images, shape (N, C, S, S), uint8.
        ids: which of them to compare, each of different pixels.
        limit: most images that are compared; of more, ``limit`` are drawn.
        seed: of that draw.
        first: ids that are drawn before all others.
    """
    chosen = np.sort(ids)
    if len(ids) > limit:
        order = np.random.default_rng(seed).permutation(chosen)
        late = ~np.isin(order, np.empty(0, np.int64) if first is None else first)
        chosen = np.sort(order[np.argsort(late, kind="stable")][:limit])
    grey = keypoints.grey(images[chosen])
    points = keypoints.extract(grey)
    table = candidates(points)
    fits = _each(lambda row: _fit(grey, points, row), list(table.itertuples(index=False)), "candidates")
    table[["inliers", "correlation"]] = np.array([(fit.inliers, round(fit.correlation, 6)) for fit in fits]).reshape(
        -1, 2
    )
    table = table.astype({"inliers": np.int64}).assign(kind=kind(table["inliers"], table["correlation"]))
    # One variant a pair: that which fits best.
    best = table.sort_values(["a", "b", "correlation", "inliers"], ascending=[True, True, False, False])
    best = best.drop_duplicates(["a", "b"], ignore_index=True)
    named = best.assign(image_a=chosen[best["a"]], image_b=chosen[best["b"]])
    return Found(
        named[["image_a", "image_b", "inliers", "correlation", "variant", "kind"]], chosen.astype(np.int64), len(ids)
    )


def kind(inliers: pd.Series[Any], correlation: pd.Series[Any]) -> NDArray[Any]:
    """``copy``, ``alike`` or nothing, from how candidates fit."""
    many = inliers >= INLIERS
    return np.select([many & (correlation >= CORRELATION), many & (correlation >= ALIKE)], ["copy", "alike"], "")


def _fit(grey: NDArray[np.uint8], points: list[Keypoints], row: Any) -> keypoints.Fit:
    one, other = points[row.a], points[row.b]
    if min(len(one.place), len(other.place)) < INLIERS:
        return NONE
    return keypoints.fit(grey[row.a], grey[row.b], one, other, row.variant, INLIERS)


def _each(work: Callable[[Any], Any], tasks: list[Any], title: str) -> list[Any]:
    """Results of ``work`` for each task, in order; OpenCV and NumPy let other threads run."""
    with ThreadPoolExecutor(keypoints.THREADS) as pool:
        return list(tqdm(pool.map(work, tasks), title, len(tasks), disable=None, leave=False))


def candidates(points: list[Keypoints]) -> pd.DataFrame:
    """The pairs of N images that are worth a look: ``a < b``, places in ``points``, and ``variant`` of ``a``."""
    descriptors = np.concatenate([each.descriptor for each in points]) if points else np.empty((0, 128), np.float32)
    if not len(descriptors):
        return pd.DataFrame({"a": [], "b": [], "variant": []}).astype({"a": np.int64, "b": np.int64})
    counts = np.array([len(each.place) for each in points])
    words = vocabulary(descriptors)
    plain = _bags(descriptors, counts, words)
    rarity = np.log((1 + len(points)) / (1 + (plain > 0).sum(axis=0)))
    index, tables = _unit(plain, rarity), []
    for variant, nearest in NEAREST.items():
        cells = keypoints.VARIANTS[variant]
        asked = index if variant == "plain" else _unit(_bags(descriptors[:, cells], counts, words), rarity)
        for start in tqdm(range(0, len(points), BLOCK), f"{variant} candidates", disable=None, leave=False):
            likeness = (asked[start : start + BLOCK] @ index.T).toarray()
            rows = np.arange(len(likeness))
            likeness[rows, start + rows] = -1.0  # itself; a symmetric image in a mirror tells nothing either
            size = min(nearest, likeness.shape[1] - 1)
            # Whole order of few: equal likeness must not be left to the partition's whim.
            near = np.argsort(-likeness.round(6), axis=1, kind="stable")[:, :size]
            a, b = np.repeat(start + rows, size), near.ravel()
            alike = np.take_along_axis(likeness, near, axis=1).ravel() > 0
            pair = {"a": np.minimum(a, b)[alike], "b": np.maximum(a, b)[alike], "variant": variant}
            tables.append(pd.DataFrame(pair))
    return pd.concat(tables).drop_duplicates().sort_values(["a", "b", "variant"], ignore_index=True)


def vocabulary(descriptors: Floats) -> Floats:
    """Words of a sample of the descriptors (D, 128), by a few rounds of k-means; shape (WORDS or fewer, 128)."""
    rng = np.random.default_rng(0)
    sample = descriptors[np.sort(rng.permutation(len(descriptors))[:SAMPLE])]
    words = sample[rng.permutation(len(sample))[:WORDS]].copy()
    for _ in range(ROUNDS):
        own = _words(sample, words)
        sums = sparse.csr_array((np.ones(len(own)), (own, np.arange(len(own)))), shape=(len(words), len(own))) @ sample
        count = np.bincount(own, minlength=len(words))[:, None]
        words = np.where(count > 0, sums / np.maximum(count, 1), words).astype(np.float32)
    return words


def _words(descriptors: Floats, words: Floats) -> Ids:
    """The word nearest to each descriptor."""
    half = (words**2).sum(axis=1) / 2
    parts = np.array_split(descriptors, len(descriptors) // 4096 + 1)
    return np.concatenate([np.argmax(part @ words.T - half, axis=1) for part in parts]).astype(np.int64)


def _bags(descriptors: Floats, counts: Ids, words: Floats) -> sparse.csr_array:
    """Square roots of how often each of N images has each word, shape (N, words)."""
    image, word = np.repeat(np.arange(len(counts)), counts), _words(descriptors, words)
    bags = sparse.coo_array((np.ones(len(word)), (image, word)), shape=(len(counts), len(words))).tocsr()
    bags.data = np.sqrt(bags.data)
    return bags


def _unit(bags: sparse.csr_array, rarity: NDArray[np.float64]) -> sparse.csr_array:
    """Bags weighted by the words' rarity, each of length 1."""
    weighted = bags * rarity[None, :]
    length = np.sqrt((weighted**2).sum(axis=1))
    return sparse.csr_array(weighted * (1 / np.maximum(length, 1e-9))[:, None])


def explained(looked_at: int, false_accepts: tuple[int, int] = FALSE_ACCEPTS) -> int:
    """How many of so many candidates may be accepted by mistake alone, at most, in 95 of 100 sets.

    Args:
        looked_at: candidates that were no copies for the detector.
        false_accepts: accepted, and looked at, of pairs that are none. The rate is (accepted + 1/2) / (looked at + 1).
    """
    accepted, of = false_accepts
    return int(poisson.ppf(LEVEL, looked_at * (accepted + 0.5) / (of + 1)))


def sure(pairs: pd.DataFrame) -> pd.DataFrame:
    """The detector's pairs of copies beyond doubt.

    It is made to join rather too much, and on brains most of its weaker pairs are neighbouring slices. Two searches can
    be held against each other only on what both look for.

    Args:
        pairs: with ``correlation``, where the detector says one; a pair without it counts.
    """
    if "correlation" not in pairs:
        return pairs
    return pairs[~(pairs["correlation"] < SURE)]


def crossing(
    table: pd.DataFrame, found: Found, pairs: pd.DataFrame, side: NDArray[Any], before: tuple[str, ...], after: str
) -> dict[str, Any]:
    """What this search finds of the side ``after`` on the sides ``before``; see also ``audit.crossing``.

    Args:
        table: N images indexed 0 to N - 1 with ``group`` and ``pixels_sha256``.
        found: by :func:`find`.
        pairs: the detector's: ``image_a`` and ``image_b``, and ``correlation``.
        side: side of each image, shape (N,).
        before: sides that come first.
        after: side that should hold nothing of them.

    Returns:
        Images of ``after`` with a copy of other pixels on ``before`` by this search (``second``), by the detector's
        sure pairs (``detector``) and by both, with the ``estimate`` by capture and recapture; ``missed``: with a copy
        by this search and no image of their duplicate group there; ``explained``: how many of these false accepts may
        explain; ``alike``: images that are no copies but look like a slice of the series of one there.
    """
    pixel = pd.factorize(table["pixels_sha256"])[0]
    left, right = np.isin(side, before), side == after
    group = table["group"].to_numpy()
    own_pairs = found.pairs.assign(same=group[found.pairs["image_a"]] == group[found.pairs["image_b"]])

    def images(rows: pd.DataFrame) -> NDArray[np.bool_]:
        there = np.zeros(pixel.max(initial=-1) + 1, dtype=bool)
        there[pixel[left]] = True
        hit = np.zeros_like(there)
        for one, other in (("image_a", "image_b"), ("image_b", "image_a")):
            p, q = pixel[rows[one]], pixel[rows[other]]
            hit[p[there[q] & (p != q)]] = True
        own: NDArray[np.bool_] = right & hit[pixel]
        return own

    exact = right & np.isin(pixel, pixel[left])
    known = right & np.isin(group, group[left])
    copies = images(own_pairs[own_pairs["kind"] == "copy"])
    compared = np.isin(pixel, pixel[found.compared])
    detector, own = images(sure(pairs)) & compared & ~exact, copies & ~exact
    missed = copies & ~known & ~exact
    # Candidates that cross and are no copies for the detector: each may be accepted by mistake.
    a, b = (np.isin(pixel, pixel[left])[own_pairs[name]] for name in ("image_a", "image_b"))
    c, d = (np.isin(pixel, pixel[right])[own_pairs[name]] for name in ("image_a", "image_b"))
    across = int((((a & d) | (b & c)) & ~own_pairs["same"]).sum())
    both = int((detector & own).sum())
    return {
        "images": int(right.sum()),
        "detector": int(detector.sum()),
        "second": int(own.sum()),
        "both": both,
        "missed": int(missed.sum()),
        "candidates": across,
        "explained": explained(across),
        "alike": int((images(own_pairs[own_pairs["kind"] == "alike"]) & ~copies & ~known).sum()),
        "estimate": capture.chapman(int(detector.sum()), int(own.sum()), both),
    }


def recaptured(found: Found, pairs: pd.DataFrame) -> dict[str, Any]:
    """Pairs that the detector, this search and both found, and what both missed.

    Args:
        found: by :func:`find`.
        pairs: the detector's: ``image_a < image_b``, and ``correlation``.

    Returns:
        Counts over the compared images, all of different pixels, since identical ones are no test of either:
        ``detector`` (its sure pairs) and ``detector_all``, ``second``, ``both``; ``detector_recall``, the share of this
        search's pairs that are among all of the detector's, ``second_recall``, that of the detector's sure pairs that
        this search found; and the ``estimate``.
    """
    copies = found.pairs[found.pairs["kind"] == "copy"]
    near = pairs[pairs["image_a"].isin(found.compared) & pairs["image_b"].isin(found.compared)]
    own, every, other = (pd.MultiIndex.from_frame(rows[["image_a", "image_b"]]) for rows in (copies, near, sure(near)))
    both = len(own.intersection(other))
    return {
        "images": found.images,
        "compared": len(found.compared),
        "candidates": len(found.pairs),
        "detector": len(other),
        "detector_all": len(every),
        "second": len(own),
        "both": both,
        "detector_recall": round(len(own.intersection(every)) / len(own), 6) if len(own) else None,
        "second_recall": round(both / len(other), 6) if len(other) else None,
        "estimate": capture.chapman(len(other), len(own), both),
    }
