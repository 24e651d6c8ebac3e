"""The end of an evaluation: the kept predictions of every protocol are scored, once, and compared.

Nothing is chosen here. Training and the choices on the validation side happen before, without the test labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai import config
from tumorxai.base import drawing, jackknife, scores
from tumorxai.base.glossary import PARTS, shown
from tumorxai.base.predictions import Predictions, alike, read_table
from tumorxai.base.protocols import PROTOCOLS, TABLE
from tumorxai.base.statistics import delong, detectable, difference, holm
from tumorxai.errors import DamagedError, UserError
from tumorxai.files import REPRO, read_json, write_csv, write_json
from tumorxai.result import calibration, figures, hierarchy, label_efficiency, ranking

PLOTTED = tuple(own.key for own in TABLE if own.plotted)
CURVES = tuple(own.key for own in TABLE if own.fractions)
# Stated before any result is seen: few questions, so that Holm's adjustment costs little.
PLANNED = (
    ("finetune", "supervised"),
    ("linear", "supervised"),
    ("finetune", "linear"),
    ("linear", "random_linear"),
    ("linear", "pixel_neighbour"),
    ("knn", "linear"),
)
# What DVC shows: these protocols, and these comparisons by the name of their file.
SHOWN = tuple(own.key for own in TABLE if own.shown)
ASKED = {
    "pretrained_minus_random": "linear - random_linear",
    "finetune_minus_supervised": "finetune - supervised",
}
SHORT = tuple(shown(PARTS))


def short(part: Predictions, seed: int) -> dict[str, Any]:
    """The number of images and a few scores."""
    table = scores.summarise(part.truth, part.probabilities, part.clusters, part.classes, seed)
    return {"images": len(part.truth), **{name: table[name] for name in SHORT}}


def by_value(part: Predictions, column: str, seed: int) -> dict[str, Any]:
    """:func:`short` for the images of each value of a column; empty where there are not two values."""
    values = part.table[column].to_numpy()
    names = sorted(set(values) - {""})
    return {name: short(part.where(values == name), seed) for name in names} if len(names) > 1 else {}


def table(predictions: Predictions, card: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Everything about one protocol, for ``details/PROTOCOL.json``.

    Args:
        predictions: of all sides.
        card: what stands beside them: ``labelled`` and ``chosen``.
        seed: of the jackknife.
    """
    validation, test = predictions.on("validation"), predictions.on("test")
    found: dict[str, Any] = {}
    if len(validation.truth):
        found["validation"] = short(validation, seed)
    found["test"] = scores.summarise(test.truth, test.probabilities, test.clusters, test.classes, seed)
    found["test"] |= hierarchy.summarise(predictions, seed)
    found["test"] |= {f"by_{column}": by_value(test, column, seed) for column in ("source", "sequence")}
    train = predictions.on("train").truth
    drawn = jackknife.draw(test.clusters, seed)
    error = 2**0.5 * drawn.error(drawn.means(test.predicted == test.truth))  # of two that err independently
    found["detectable_accuracy_difference"] = detectable(error, drawn.effective())
    found["majority_accuracy"] = float((test.truth == np.bincount(train).argmax()).mean())
    found["images"] = {"train": card["labelled"], "validation": len(validation.truth), "test": len(test.truth)}
    found["clusters"] = {"test": len(np.unique(test.clusters))}
    found["chosen"] = card["chosen"]
    return found


def whole(predictions: Predictions, labelled: int, seed: int) -> dict[str, Any]:
    """The point of the label-efficiency curve that a protocol itself gives: all the labels that it may use."""
    test, train = predictions.on("test"), predictions.on("train")
    right = (test.predicted == test.truth)[:, None]
    fraction = f"{labelled / len(train.truth):.2g}"
    found = label_efficiency.mean_score(test.truth, right, test.clusters, labelled, seed)
    # which of them were labelled is not kept where these were not all
    different = len(np.unique(train.clusters)) if labelled == len(train.truth) else None
    return {fraction: found | {"different": different}}


def compare(first: Predictions, second: Predictions, seed: int, tests: int = 1) -> dict[str, Any]:
    """Paired tests of two classifiers on the same test images.

    Args:
        first: predictions on the test side.
        second: those of the other classifier; the same images in the same order, the same classes.
        seed: of the jackknife.
        tests: how many such comparisons are read together.

    Returns:
        ``accuracy`` and ``balanced_accuracy``: differences, first minus second, intervals and p-values adjusted for
        ``tests`` of them; and ``auroc``: DeLong's test for each class against the others.
    """
    clusters, truth = first.clusters, first.truth
    draw = jackknife.draw(clusters, seed)
    both = [
        scores.from_confusion(scores.confusions(truth, own.predicted, len(own.classes), draw))
        for own in (first, second)
    ]
    found: dict[str, Any] = {
        name: difference(both[0][name], both[1][name], draw, tests) for name in ("accuracy", "balanced_accuracy")
    }
    found["auroc"] = {
        name: delong(truth == k, first.probabilities[:, k], second.probabilities[:, k], clusters)
        for k, name in enumerate(first.classes)
        if min(_groups(clusters[truth == k]), _groups(clusters[truth != k])) > 1
    }
    return found


def _groups(clusters: NDArray[np.int64]) -> int:
    return len(np.unique(clusters))


def planned(tests: Mapping[str, Predictions], seed: int) -> dict[str, Any]:
    """The PLANNED comparisons, adjusted for their number; of DeLong's tests ``holm`` is the adjusted p-value."""
    found = {f"{a} - {b}": compare(tests[a], tests[b], seed, len(PLANNED)) for a, b in PLANNED}
    areas = [area for pair in found.values() for area in pair["auroc"].values()]
    for entry, adjusted in zip(areas, holm([entry["p"] for entry in areas]), strict=True):
        entry["holm"] = adjusted
    return found


def headline(found: Mapping[str, Any], calibrated: Mapping[str, Any]) -> dict[str, float | None]:
    """What DVC shows of one protocol on the test side; only the accuracy with its 95% interval."""
    test = found["test"]
    accuracy = test["accuracy"]
    return {
        "accuracy": accuracy["value"],
        "accuracy_low": accuracy["low"],
        "accuracy_high": accuracy["high"],
        "balanced_accuracy": test["balanced_accuracy"]["value"],
        "macro_f1": test["macro_f1"]["value"],
        "auroc": test["macro_auroc"]["value"],
        "calibration_error": calibrated["before"]["error"]["value"],
    }


def difference_shown(pair: Mapping[str, Any]) -> dict[str, float | None]:
    """What DVC shows of a comparison: the difference in accuracy, its interval and p, both adjusted."""
    own = pair["accuracy"]
    return {"accuracy": own["value"], "accuracy_low": own["low"], "accuracy_high": own["high"], "p": own["p"]}


def plot_data(test: Predictions, tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """The data of DVC's plots of one protocol: each lies over that of other runs in ``dvc plots diff``."""
    pairs = test.table[["label"]].rename(columns={"label": "actual"})
    write_csv(folder / "predictions.csv", pairs.assign(predicted=np.array(test.classes)[test.predicted]))
    write_csv(folder / "roc.csv", ranking.roc(test))
    write_csv(folder / "precision_recall.csv", ranking.precision_recall(test))
    for kind, own in tables.items():
        write_csv(folder / f"{kind}.csv", own)


def _others(path: Path) -> UserError:
    return DamagedError(
        f"{path}: got what is said of other images or classes than in models/predictions_{next(iter(PROTOCOLS))}.csv; "
        f"expected those of one split; {REPRO}"
    )


def run(params: config.Params, models: Path, details: Path, metrics: Path, plots: Path) -> None:
    """Score what the stages before have predicted.

    Args:
        params: the whole experiment.
        models: folder of ``predictions_PROTOCOL.csv``, ``shots.csv`` and ``curve_NAME.csv``.
        details: folder to write ``PROTOCOL.json``, ``calibration.json``, ``comparisons.json`` and ``labels.json`` to.
        metrics: folder to write what DVC shows to: ``NAME.json`` of each of SHOWN and of ASKED.
        plots: folder to write the data of DVC's plots to (one folder for each of PLOTTED, and ``labels``), and
            ``scores/*.png``.

    Raises:
        UserError: a file is damaged, or they are not of the same images.
    """
    seed = params.seed
    tests: dict[str, Predictions] = {}
    calibrated: dict[str, Any] = {}
    tables: dict[str, dict[str, pd.DataFrame]] = {}
    full: dict[str, Any] = {}
    first: Predictions | None = None
    for name in PROTOCOLS:
        path = models / f"predictions_{name}.csv"
        predictions, card = Predictions.read(path), read_json(path.with_suffix(".json"), "labelled", "chosen")
        first = first or predictions
        if predictions.classes != first.classes or not alike(predictions.table, first.table):
            raise _others(path)
        tests[name] = predictions.on("test")
        full[name] = whole(predictions, card["labelled"], seed)
        coarse = hierarchy.tumour(predictions)
        calibrated[name], tables[name] = calibration.summarise(predictions, coarse, params.calibration, seed)
        found = table(predictions, card, seed)
        write_json(details / f"{name}.json", found)
        if name in SHOWN:
            write_json(metrics / f"{name}.json", headline(found, calibrated[name]))
    for name in PLOTTED:
        plot_data(tests[name], tables[name], plots / name)

    for path in (models / "shots.csv", *(models / f"curve_{name}.csv" for name in CURVES)):
        if not alike(read_table(path), next(iter(tests.values())).table):
            raise _others(path)
    labels = {"shots": label_efficiency.summarise(models / "shots.csv", seed)}
    labels |= {name: full[name] | label_efficiency.summarise(models / f"curve_{name}.csv", seed) for name in CURVES}
    for fraction, found in label_efficiency.over(
        models / "curve_linear.csv", models / "curve_random_linear.csv", seed
    ).items():
        labels["linear"][fraction]["over_random"] = found
    for name in CURVES:
        write_csv(plots / "labels" / f"{name}.csv", label_efficiency.curve(labels[name]))
    pairs = planned(tests, seed)
    write_json(details / "calibration.json", calibrated)
    write_json(details / "comparisons.json", pairs)
    write_json(details / "labels.json", labels)
    for name, pair in ASKED.items():
        write_json(metrics / f"{name}.json", difference_shown(pairs[pair]))
    drawing.save(figures.curves(tests, tables), plots / "scores" / "curves.png")
    drawing.save(figures.label_efficiency(labels), plots / "scores" / "label_efficiency.png")
