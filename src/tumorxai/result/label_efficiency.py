"""Scores over draws of the labels: their mean, its interval over test images and the spread between draws."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.base import jackknife
from tumorxai.base.predictions import read_table
from tumorxai.base.statistics import difference
from tumorxai.files import read_json, reading

Ints = NDArray[np.int64]
ALL = "1"  # the setting of a curve that has all labels


def summarise(path: Path, seed: int) -> dict[str, Any]:
    """Scores of the test side for each setting that ``draws.keep`` wrote.

    Args:
        path: the CSV.
        seed: of the jackknife.

    Returns:
        For each setting ``labelled`` (images, mean over the draws), ``different`` (clusters among them), ``draws``,
        ``accuracy`` and ``balanced_accuracy``: the mean over the draws, with a 95% interval over test images and
        ``sd``, the standard deviation between draws.
    """
    truth, clusters, right = _read(path)
    card = read_json(path.with_suffix(".json"), "labelled", "different")
    return {
        setting: mean_score(truth, own, clusters, float(np.mean(card["labelled"][setting])), seed)
        | {"different": float(np.mean(card["different"][setting]))}
        for setting, own in right.items()
    }


def over(first: Path, second: Path, seed: int) -> dict[str, Any]:
    """What one curve has over another from the same draws of the labels, at each setting that both have.

    Args:
        first: a CSV of ``draws.keep``.
        second: that of the other curve; of the same images.
        seed: of the jackknife.

    Returns:
        For each setting the paired difference in accuracy, first minus second, mean over the draws, as
        :func:`~tumorxai.base.statistics.difference` gives it; and ``gain_of_all_less_this``, that with all labels less
        this one, likewise (the interaction), null for all labels and where these are not among the settings.
    """
    (_, clusters, own), (_, _, other) = _read(first), _read(second)
    draw = jackknife.draw(clusters, seed)
    means = {
        setting: tuple(draw.means(each[setting].mean(axis=1)) for each in (own, other))
        for setting in own
        if setting in other
    }
    found: dict[str, Any] = {setting: difference(one, two, draw) for setting, (one, two) in means.items()}
    for setting, entry in found.items():
        entry["gain_of_all_less_this"] = None
        if ALL in means and setting != ALL:
            # Halved, the difference of two gains is in [-1, 1].
            whole, part = ((one - two) / 2 for one, two in (means[ALL], means[setting]))
            half = difference(whole, part, draw)
            doubled = {
                key: None if half[key] is None else 2 * half[key] for key in ("value", "low", "high", "detectable")
            }
            entry["gain_of_all_less_this"] = half | doubled
    return found


def _read(path: Path) -> tuple[NDArray[Any], Ints, dict[str, NDArray[np.bool_]]]:
    """Truth and cluster of each test image (n,), and for each setting which images each draw has right (n, draws)."""
    counts, table = read_json(path.with_suffix(".json"), "labelled")["labelled"], read_table(path).astype(object)
    truth = table["label"].to_numpy()
    with reading(path, "a column for each draw that its card counts"):
        said = {
            setting: table[[f"{setting}/{number}" for number in range(len(own))]].to_numpy()
            for setting, own in counts.items()
            if own
        }
    right = {setting: own == truth[:, None] for setting, own in said.items()}
    return truth, table["cluster"].to_numpy(dtype=np.int64), right


def mean_score(
    truth: NDArray[Any], right: NDArray[np.bool_], clusters: Ints, labelled: float, seed: int
) -> dict[str, Any]:
    """One setting's entry, see :func:`summarise`.

    Args:
        truth: class of each image (n,), of any kind.
        right: which images each draw has right (n, draws).
        clusters: cluster of each image (n,).
        labelled: labelled images, mean over the draws.
        seed: of the jackknife.
    """
    draw = jackknife.draw(clusters, seed)
    member = (truth[:, None] == np.unique(truth)).astype(np.float64)
    recalls = (member.T @ right) / member.sum(axis=0)[:, None]
    # Both scores are linear in the images' correctness, so that its mean over the draws gives their mean.
    hits, total = draw.totals(member * right.mean(axis=1)[:, None]), draw.totals(member)
    with np.errstate(invalid="ignore"):
        balanced = np.nanmean(hits / total, axis=1)  # without a cluster a class may be missing
    return {
        "labelled": labelled,
        "draws": right.shape[1],
        "accuracy": draw.entry(hits.sum(axis=1) / total.sum(axis=1)) | _spread(right.mean(axis=0)),
        "balanced_accuracy": draw.entry(balanced) | _spread(recalls.mean(axis=0)),
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
