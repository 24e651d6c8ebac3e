"""Protocols that only compare embeddings: weighted nearest neighbours and, from a few labels, nearest centroids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tumorxai.base.counts import Choice

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
BLOCK = 512  # images whose similarities are held at once


def normalised(features: Floats) -> Floats:
    """Rows of length 1; a row of zeros stays."""
    found: Floats = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return found


def votes(
    features: Floats,
    labels: Ints,
    train: Ints,
    clusters: Ints,
    classes: int,
    neighbours: Sequence[int],
    temperature: float,
) -> NDArray[np.float64]:
    """Weighted votes of the nearest training images; on a training image its own cluster, itself too, has no vote.

    Each of the k most similar images votes for its class with exp(similarity / temperature), similarity being the
    cosine (arXiv 1805.01978, section 3.4; DINO, arXiv 2104.14294, section 4.1).

    Args:
        features: of all images (N, D).
        labels: class indices (N,).
        train: ids of the images that vote.
        clusters: cluster of each image (N,), see ``Dataset.clusters``.
        classes: number of classes K.
        neighbours: numbers k, cut off at the number of images that vote.
        temperature: of the weights.

    Returns:
        Shares of the votes (len(neighbours), N, K); equal where nobody has a vote.
    """
    unit = normalised(features)
    most = min(max(neighbours), len(train))
    member = np.eye(classes)[labels[train]]
    votes_too = np.zeros(len(features), dtype=np.bool_)
    votes_too[train] = True
    found = np.zeros((len(neighbours), len(features), classes))
    for start in range(0, len(features), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(features)))
        similarity = unit[rows] @ unit[train].T
        similarity[votes_too[rows][:, None] & (clusters[rows][:, None] == clusters[train])] = -np.inf
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :most]
        near = np.take_along_axis(similarity, nearest, axis=1).astype(np.float64)
        nobody = np.isneginf(near[:, 0])
        near[nobody] = 0
        weights = np.exp((near - near[:, :1]) / temperature)  # relative to the nearest: no overflow
        share = np.cumsum(weights[:, :, None] * member[nearest], axis=1)
        for number, k in enumerate(neighbours):
            found[number, rows] = share[:, min(k, most) - 1]
        found[:, rows[nobody]] = 1
    found /= found.sum(axis=2, keepdims=True)
    return found


def weighted(
    features: Floats,
    labels: Ints,
    train: Ints,
    validation: Ints,
    clusters: Ints,
    classes: int,
    neighbours: Sequence[int],
    temperature: float,
) -> tuple[NDArray[np.float64], Choice]:
    """Class probabilities of all images (N, K) by :func:`votes`, their number chosen on the validation side.

    The arguments are those of :func:`votes`; ``labels`` may be -1 off the sides ``train`` and ``validation``. Without a
    validation side the training images take its place, each judged by those of the other clusters.
    """
    shares = votes(features, labels, train, clusters, classes, neighbours, temperature)
    on = validation if len(validation) else train
    if not len(validation) and len(np.unique(clusters[train])) < 2:
        return shares[0], Choice(neighbours[0], None, "nothing")
    said = shares[:, on].argmax(axis=2)
    where = "validation" if len(validation) else "cross-validation"
    choice = Choice.best(neighbours, labels[on], said, classes, where)
    return shares[list(neighbours).index(choice.value)], choice


def shots(labels: Ints, clusters: Ints, train: Ints, count: int, draws: int, seed: int) -> list[Ints]:
    """Draw ``count`` labelled images of each class, no two of one cluster; nothing where a class has too few clusters.

    Args:
        labels: class indices (N,).
        clusters: cluster of each image (N,).
        train: ids to draw from.
        count: images of each class.
        draws: how often.
        seed: of all draws.

    Returns:
        Ids of each draw.
    """
    classes = np.unique(labels[train])
    if min(len(np.unique(clusters[train[labels[train] == k]])) for k in classes) < count:
        return []
    rng = np.random.default_rng([seed, count])
    drawn = []
    for _ in range(draws):
        shuffled = rng.permutation(train)
        chosen = []
        for k in classes:
            own = shuffled[labels[shuffled] == k]
            _, first = np.unique(clusters[own], return_index=True)
            chosen.append(own[np.sort(first)[:count]])
        drawn.append(np.concatenate(chosen))
    return drawn


def centroids(features: Floats, labels: Ints, shot: Ints, unlabelled: Ints, classes: int) -> Ints:
    """Class of every image (N,) by the nearest centroid of a few labelled ones.

    Features are centred on the mean of the training images, which needs no label, and scaled to length 1 (SimpleShot,
    arXiv 1911.04623, section 3.2: CL2N). There is nothing to choose, so no label is spent on choosing.

    Args:
        features: of all images (N, D).
        labels: class indices (N,).
        shot: ids of the labelled images.
        unlabelled: ids of the training images that tell the mean.
        classes: number of classes K.
    """
    unit = normalised(features - features[unlabelled].mean(axis=0))
    means = np.stack([unit[shot[labels[shot] == k]].mean(axis=0) for k in range(classes)])
    found: Ints = (unit @ means.T * 2 - (means**2).sum(axis=1)).argmax(axis=1)  # the least squared distance
    return found
