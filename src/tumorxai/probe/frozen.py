"""The frozen protocols beside linear evaluation: weighted nearest neighbours, a few shots, fractions of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tumorxai import config
from tumorxai.base import draws, embedded, logistic, neighbours
from tumorxai.base.dataset import Dataset
from tumorxai.base.predictions import keep, visible

Ints = NDArray[np.int64]


def label_curve(
    features: NDArray[np.float32],
    dataset: Dataset,
    fractions: Sequence[float],
    count: int,
    settings: config.Linear,
    seed: int,
) -> dict[str, list[tuple[Ints, Ints]]]:
    """Linear evaluation on fractions of the labels.

    Args:
        features: of all images (N, D).
        dataset: the images.
        fractions: of the training labels, in (0, 1].
        count: draws of each fraction; all labels can be drawn in one way only.
        settings: of the logistic regression.
        seed: of the draws.

    Returns:
        For each fraction the draws: ids of the labelled images, and the class of every image (N,).
    """
    labels, validation = visible(dataset), dataset.indices("validation")
    clusters = dataset.clusters(np.arange(len(labels)))
    cells = [(fraction, draw) for fraction in fractions for draw in range(1 if fraction == 1 else count)]
    said: dict[str, list[tuple[Ints, Ints]]] = {f"{fraction:g}": [] for fraction in fractions}
    for fraction, draw in tqdm(cells, desc="label fractions", unit="fit"):
        train = draws.labelled(dataset, fraction, draw, seed)
        fitted, _ = logistic.fit(features, labels, train, validation, clusters, len(dataset.classes), settings)
        said[f"{fraction:g}"].append((train, fitted.probabilities.argmax(axis=1)))
    return said


def few_shots(
    features: NDArray[np.float32], dataset: Dataset, counts: Sequence[int], times: int, seed: int
) -> dict[str, list[tuple[Ints, Ints]]]:
    """The nearest centroid from a few labelled images of each class.

    Args:
        features: of all images (N, D).
        dataset: the images.
        counts: labelled images of each class.
        times: draws of each count.
        seed: of the draws.

    Returns:
        As :func:`label_curve`, for each count; no draw where a class has too few independent images.
    """
    labels, train = visible(dataset), dataset.indices("train")
    clusters = dataset.clusters(np.arange(len(labels)))
    said = {}
    for count in counts:
        chosen = neighbours.shots(labels, clusters, train, count, times, seed)
        said[str(count)] = [
            (shot, neighbours.centroids(features, labels, shot, train, len(dataset.classes))) for shot in chosen
        ]
    return said


def run(params: config.Params, data: Path, embeddings: Path, knn: Path, shots: Path, curve: Path) -> None:
    """Evaluate frozen embeddings.

    Args:
        params: the whole experiment.
        data: folder of the pack, the catalogue, the groups and the split.
        embeddings: float32 (N, features).
        knn: CSV of the weighted nearest neighbours' predictions to write.
        shots: CSV to write: the test images' classes in every draw of a few shots.
        curve: CSV to write: the same of linear evaluation on fractions of the labels.
    """
    dataset, settings = Dataset.load(data), params.frozen
    features = np.asarray(embedded.read(embeddings, dataset.images, data=data))
    train, validation = dataset.labelled(params.split.label_fraction), dataset.indices("validation")
    clusters = dataset.clusters(np.arange(len(features)))
    probabilities, choice = neighbours.weighted(
        features, visible(dataset), train, validation, clusters, len(dataset.classes), settings.neighbours,
        settings.temperature,
    )  # fmt: skip
    keep(dataset, probabilities, choice.record("neighbours"), len(train), knn)
    draws.keep(dataset, few_shots(features, dataset, settings.shots, settings.shot_draws, params.seed), shots)
    said = label_curve(features, dataset, settings.fractions, settings.draws, params.linear, params.seed)
    draws.keep(dataset, said, curve)
