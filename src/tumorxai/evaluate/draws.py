"""Protocols that are repeated over draws of labels or seeds: what they keep, and their mean with its spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai import bootstrap
from tumorxai.data.dataset import Dataset
from tumorxai.data.split import label_ranks
from tumorxai.evaluate.predictions import images, read_table
from tumorxai.files import read_json, write_csv, write_json

Ints = NDArray[np.int64]


def labelled(dataset: Dataset, fraction: float, draw: int, seed: int) -> Ints:
    """Ids of the training images that draw number ``draw`` of a fraction of the labels may use.

    Draw 0 is the split's own. Each draw's subsets are stratified and nested, and take images of one cluster last.
    """
    if draw == 0:
        return dataset.labelled(fraction)
    train = dataset.indices("train")
    ranks = label_ranks(dataset.labels[train], dataset.clusters(train), np.random.default_rng([seed, draw]))
    return train[ranks < fraction]


def keep(dataset: Dataset, said: Mapping[str, Sequence[tuple[Ints, Ints]]], path: Path) -> None:
    """Write the classes that each draw says of the test images.

    Args:
        dataset: the images.
        said: for each setting (a fraction of labels, a number of shots) the draws: ids of the labelled images, and the
            class of every image of the pack (N,).
        path: CSV to write: the columns IMAGE and ``SETTING/DRAW``. The numbers of labelled images go beside it.
    """
    test = dataset.indices("test")
    names = np.array(dataset.classes, dtype=object)
    columns = {
        f"{setting}/{number}": names[predicted[test]]
        for setting, draws in said.items()
        for number, (_, predicted) in enumerate(draws)
    }
    write_csv(path, pd.concat([images(dataset, test), pd.DataFrame(columns)], axis=1))
    counts = {setting: [len(ids) for ids, _ in draws] for setting, draws in said.items()}
    write_json(path.with_suffix(".json"), {"labelled": counts})


def summarise(path: Path, seed: int) -> dict[str, Any]:
    """Scores of the test side for each setting that :func:`keep` wrote.

    Args:
        path: the CSV.
        seed: of the bootstrap.

    Returns:
        For each setting ``labelled`` (images, mean over the draws), ``draws``, ``accuracy`` and ``balanced_accuracy``:
        the mean over the draws, with a 95% interval over test images and ``sd``, the standard deviation between draws.
    """
    card, table = read_json(path.with_suffix(".json")), read_table(path).astype(object)
    truth, clusters = table["label"].to_numpy(), table["cluster"].to_numpy(dtype=np.int64)
    found: dict[str, Any] = {}
    for setting, counts in card["labelled"].items():
        if counts:
            said = table[[f"{setting}/{number}" for number in range(len(counts))]].to_numpy()
            found[setting] = mean_score(truth, said == truth[:, None], clusters, float(np.mean(counts)), seed)
    return found


def mean_score(
    truth: NDArray[Any], right: NDArray[np.bool_], clusters: Ints, labelled: float, seed: int
) -> dict[str, Any]:
    """One setting's entry, see :func:`summarise`.

    Args:
        truth: class of each image (n,), of any kind.
        right: which images each draw has right (n, draws).
        clusters: cluster of each image (n,).
        labelled: labelled images, mean over the draws.
        seed: of the bootstrap.
    """
    draw = bootstrap.draw(clusters, seed)
    member = (truth[:, None] == np.unique(truth)).astype(np.float64)
    recalls = (member.T @ right) / member.sum(axis=0)[:, None]
    # Both scores are linear in the images' correctness, so that its mean over the draws gives their mean.
    hits, total = draw.totals(member * right.mean(axis=1)[:, None]), draw.totals(member)
    with np.errstate(invalid="ignore"):
        balanced = np.nanmean(hits / total, axis=1)  # a resample may miss a class
    return {
        "labelled": labelled,
        "draws": right.shape[1],
        "accuracy": bootstrap.entry(hits.sum(axis=1) / total.sum(axis=1)) | _spread(right.mean(axis=0)),
        "balanced_accuracy": bootstrap.entry(balanced) | _spread(recalls.mean(axis=0)),
    }


def _spread(values: NDArray[np.float64]) -> dict[str, float | None]:
    return {"sd": float(values.std(ddof=1)) if len(values) > 1 else None}


def curve(summary: Mapping[str, Any]) -> pd.DataFrame:
    """A label-efficiency curve as a table, one row for each fraction, for ``dvc plots``."""
    columns = ["fraction", "labelled", "draws", "balanced_accuracy", "low", "high", "sd"]
    rows = [
        [
            float(setting),
            own["labelled"],
            own["draws"],
            *(own["balanced_accuracy"][key] for key in ("value", "low", "high", "sd")),
        ]
        for setting, own in sorted(summary.items(), key=lambda item: float(item[0]))
    ]
    return pd.DataFrame(rows, columns=columns)
