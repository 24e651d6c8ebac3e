"""Nearest neighbours on raw pixels: what recognises a copy or a slice of the same patient, and has learned nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tumorxai.base.dataset import Dataset

BLOCK = 512  # test images whose distances are held at once

Ids = NDArray[np.int64]


def pixels(dataset: Dataset, size: int) -> NDArray[np.float32]:
    """Grey thumbnails as vectors, shape (N, size * size), each with mean 0 and deviation 1: contrast is no evidence."""
    small = np.empty((len(dataset.images), size * size), dtype=np.float32)
    for number, image in enumerate(dataset.images):
        grey = Image.fromarray(image.mean(axis=0, dtype=np.float32))
        small[number] = np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR)).ravel()
    small -= small.mean(axis=1, keepdims=True)
    small /= np.maximum(small.std(axis=1, keepdims=True), 1e-6)  # an even image stays 0
    return small


def nearest(features: NDArray[np.float32], train: Ids, test: Ids) -> Ids:
    """The training image nearest to each test image (Euclidean; the first on a tie), shape of ``test``."""
    bank = features[train]
    norms = (bank**2).sum(axis=1)  # |a - b|^2 = |a|^2 - 2 a.b + |b|^2, and |a|^2 does not change the order
    blocks = [features[test[start : start + BLOCK]] for start in range(0, len(test), BLOCK)]
    found = [train[np.argmin(norms - 2.0 * block @ bank.T, axis=1)] for block in blocks]
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)
