"""The canary: a nearest neighbour on raw pixels, which has learned nothing and can only recognise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.audit import subjects
from tumorxai.audit.leak import Neighbours
from tumorxai.base import jackknife, scores
from tumorxai.base.counts import macro
from tumorxai.base.dataset import Dataset

DRAWS = 200  # of labels at random

Ids = NDArray[np.int64]


def score(
    truth: Ids, predicted: Ids, clusters: Ids, seed: int, probabilities: NDArray[np.float32] | None = None
) -> dict[str, Any]:
    """Accuracy, balanced accuracy and AUC with 95% intervals (of a jackknife over clusters).

    Args:
        truth: class of each image, shape (n,).
        predicted: the same, guessed.
        clusters: images of one cluster are left out together, shape (n,).
        seed: of the jackknife.
        probabilities: of each class, shape (n, classes); where given, the mean one-versus-rest AUC is scored as well.

    Returns:
        The figures and their bounds in [0, 1], ``chance`` for the balanced accuracy (one over the number of classes)
        and ``majority``, the accuracy of always saying the most frequent class. All are null without images, and the
        AUC where the images are of one class.
    """
    names = ("accuracy", "balanced_accuracy", *(() if probabilities is None else ("auc",)))
    bounds = {"": "value", "_low": "low", "_high": "high"}
    empty: dict[str, Any] = {name + suffix: None for name in names for suffix in bounds}
    if not len(truth):
        return {"images": 0, "clusters": 0} | empty | {"chance": None, "majority": None}
    drawn, labels = jackknife.draw(clusters, seed), int(max(truth.max(), predicted.max())) + 1
    found = scores.from_confusion(scores.confusions(truth, predicted, labels, drawn))
    classes, counts = np.unique(truth, return_counts=True)
    if probabilities is not None:
        areas = [scores.ranking(truth == label, probabilities[:, label], drawn)[0] for label in classes]
        found["auc"] = macro(np.stack(areas, axis=1))
    result = {"images": len(truth), "clusters": drawn.weights.shape[1]} | empty
    for name in names:
        entry = drawn.entry(found[name])
        for suffix, bound in bounds.items():
            result[name + suffix] = None if entry[bound] is None else round(entry[bound], 6)
    return result | {"chance": round(1 / len(classes), 6), "majority": round(counts.max() / len(truth), 6)}


def canary(
    dataset: Dataset, side: NDArray[Any], neighbours: Neighbours, labels: Ids, clusters: Ids, seed: int
) -> dict[str, Any]:
    """The pixel nearest neighbour from the training to the test side, on all test images and on parts of them.

    Args:
        dataset: for the groups, the checksums and, where they are known, the series.
        side: side of each image, shape (N,).
        neighbours: of the N images.
        labels: class of each image, shape (N,).
        clusters: cluster of each image, shape (N,).
        seed: of the jackknife.

    Returns:
        Scores on ``all``, on those without an identical copy (``no_exact_copy``) or any copy (``no_copy``) on a side
        that is learned from, and on those ``with_series`` and ``without_series``: with a slice of their series on the
        training side, and all others; these two are null where no series is known.
    """
    train, test = np.flatnonzero(side == "train"), np.flatnonzero(side == "test")
    if not len(train):
        test = test[:0]
    guess = labels[neighbours.nearest(train, test)]
    seen = dataset.table[np.isin(side, ["train", "unlabelled"])]
    exact = dataset.table["pixels_sha256"].iloc[test].isin(seen["pixels_sha256"]).to_numpy()
    copied = dataset.table["group"].iloc[test].isin(seen["group"]).to_numpy() | exact
    keep = {"all": np.ones(len(test), dtype=bool), "no_exact_copy": ~exact, "no_copy": ~copied}
    series = subjects.findings(dataset.table)["series"]
    if (series != "").any():
        followed = subjects.with_series(dataset.table, side)[test]
        keep |= {"with_series": followed, "without_series": ~followed}
    found = {
        name: score(labels[test[chosen]], guess[chosen], clusters[test[chosen]], seed) for name, chosen in keep.items()
    }
    return dict.fromkeys(("with_series", "without_series")) | found


def patients(table: pd.DataFrame, side: NDArray[Any], labels: Ids, clusters: Ids, seed: int) -> dict[str, Any] | None:
    """Score of naming each test patient's most frequent training class; null where no patient is on both sides."""
    train = pd.DataFrame({"patient": table["patient"].to_numpy(), "label": labels})[side == "train"]
    usual = train.groupby("patient")["label"].agg(lambda own: own.mode().iloc[0]).drop("", errors="ignore")
    test = np.flatnonzero((side == "test") & table["patient"].isin(usual.index).to_numpy())
    if not len(test):
        return None
    return score(labels[test], usual[table["patient"].iloc[test]].to_numpy(dtype=np.int64), clusters[test], seed)


def random_labels(
    side: NDArray[Any], neighbours: Neighbours, units: Ids, classes: int, seed: int
) -> dict[str, Any] | None:
    """Accuracy where labels mean nothing: drawn at random, one for all images of a unit.

    So Yagis et al. (2021, Sci Rep 11:22544) did with whole subjects. A classifier beats chance here only by recognising
    the unit: its copies, its patient or its series. Where the sides share none, it cannot.

    Args:
        side: side of each image, shape (N,).
        neighbours: of the N images.
        units: what has one label, shape (N,); see :func:`tumorxai.audit.subjects.units`.
        classes: labels to draw from, equally likely, at least 2.
        seed: of the draws.

    Returns:
        ``accuracy``, the mean of DRAWS draws, with the bounds of the middle 95% of them, ``chance`` and
        ``above_chance``: is the lower bound above it? Null without images on both sides or with one class.
    """
    train, test = np.flatnonzero(side == "train"), np.flatnonzero(side == "test")
    if not len(train) or not len(test) or classes < 2:
        return None
    near = neighbours.nearest(train, test)
    drawn = np.random.default_rng(seed).integers(0, classes, (DRAWS, units.max() + 1))
    accuracy = (drawn[:, units[near]] == drawn[:, units[test]]).mean(axis=1)
    low, high = np.quantile(accuracy, [0.025, 0.975])
    return {
        "images": len(test),
        "units": len(np.unique(units[test])),
        "accuracy": round(float(accuracy.mean()), 6),
        "accuracy_low": round(float(low), 6),
        "accuracy_high": round(float(high), 6),
        "chance": round(1 / classes, 6),
        "above_chance": bool(low > 1 / classes),
    }
