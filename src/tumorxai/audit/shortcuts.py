"""Shortcuts: how far classes are given away by what shows no lesion (border, size, format, source, sequence)."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from tqdm import tqdm

from tumorxai.audit.canary import score
from tumorxai.base.dataset import Dataset

TREES = 200

Ids = NDArray[np.int64]


def _border(dataset: Dataset) -> NDArray[np.float32]:
    """The outermost ring of pixels of every channel, shape (N, 4 C (S - 1)); padding there shows the image's shape."""
    images = dataset.images
    sides = images[:, :, 0, :], images[:, :, -1, :], images[:, :, 1:-1, 0], images[:, :, 1:-1, -1]
    return np.concatenate([side.reshape(len(images), -1) for side in sides], axis=1).astype(np.float32)


def _coded(*columns: pd.Series[Any]) -> NDArray[np.float32] | None:
    """Texts one-hot; null if they never differ."""
    coded = pd.get_dummies(pd.concat(columns, axis=1).astype(str)).to_numpy(np.float32)
    return coded if len(np.unique(coded, axis=0)) > 1 else None


def _shortcuts(dataset: Dataset) -> dict[str, NDArray[np.float32] | None]:
    """Features of each probe, none of which shows a lesion, shape (N, D); null where all images are alike."""
    table = dataset.table
    size = table[["width", "height"]].assign(aspect=table["width"] / table["height"]).to_numpy(np.float32)
    suffix = table["path"].map(lambda path: PurePosixPath(path).suffix)
    return {
        "border": _border(dataset),
        "size": size if len(np.unique(size, axis=0)) > 1 else None,
        "format": _coded(table["format"], table["mode"], suffix),
        "bytes": table[["bytes"]].to_numpy(np.float32),
        "source": _coded(table["source"]),
        "sequence": _coded(table["sequence"]),
    }


def _learn(features: NDArray[np.float32], train: Ids, test: Ids, labels: Ids, seed: int) -> NDArray[np.float32]:
    """Class probabilities of the test images by a random forest on the training images, shape (n_test, classes)."""
    # One thread: the trees' votes are then added in one order, and the same seed gives the same file.
    forest = RandomForestClassifier(TREES, min_samples_leaf=3, class_weight="balanced", random_state=seed, n_jobs=1)
    forest.fit(features[train], labels[train])
    probabilities = np.zeros((len(test), labels.max() + 1), dtype=np.float32)
    probabilities[:, forest.classes_] = forest.predict_proba(features[test])
    return probabilities


def probe(dataset: Dataset, side: NDArray[Any], labels: Ids, clusters: Ids, seed: int) -> dict[str, Any]:
    """Score of every shortcut from the training to the test side; null where the images do not differ in it.

    A shortcut gives classes away if its AUC is above one half beyond its interval. That also sees a trait that few
    images have and that only rules classes out, to which a (balanced) accuracy is nearly blind. Null as well where
    nothing can be learned: no images on a side, or no AUC for want of classes.
    """
    train, test = np.flatnonzero(side == "train"), np.flatnonzero(side == "test")
    result: dict[str, Any] = {}
    for name, features in tqdm(_shortcuts(dataset).items(), "shortcut probes", disable=None, leave=False):
        result[name] = None
        if features is not None and len(train) and len(test):
            guess = _learn(features, train, test, labels, seed)
            found = score(labels[test], guess.argmax(axis=1), clusters[test], seed, guess)
            result[name] = found | {"gives_classes_away": found["auc_low"] is not None and found["auc_low"] > 0.5}
    return result
