"""Pictures of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tumorxai.base.drawing import BLACK, GREY, percent, plain
from tumorxai.base.predictions import Predictions
from tumorxai.base.protocols import PROTOCOLS, TABLE
from tumorxai.result import ranking


def curves(
    tests: Mapping[str, Predictions],
    tables: Mapping[str, Mapping[str, pd.DataFrame]],
) -> Figure:
    """ROC, precision-recall, reliability and risk-coverage of the protocols, on the test side."""
    drawn = Figure(figsize=(9.6, 8.6), layout="constrained")
    left, right, below, last = drawn.subplots(2, 2).ravel()
    for own in (each for each in TABLE if each.drawn):
        name, style = own.key, {"color": own.colour, "linewidth": 1.8}
        roc, precision = ranking.roc(tests[name]), ranking.precision_recall(tests[name])
        left.plot(roc["fpr"], roc["macro"], label=own.title, **style)
        right.plot(precision["recall"], precision["macro"], **style)
        if own.plotted:
            bins = tables[name]["reliability"]
            below.plot(bins["confidence"], bins["accuracy"], ":", marker="o", markersize=3.5, alpha=0.6, **style)
            below.plot(bins["scaled_confidence"], bins["scaled_accuracy"], marker="o", markersize=4, **style)
        risk = tables[name]["risk_coverage"]
        last.plot(risk["coverage"], risk["risk"], **style)
    below.plot([], [], ":", color=BLACK, label="as trained")
    below.plot([], [], "-", color=BLACK, label="with the temperature")
    for axes in (left, below):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
    left.set(title="ROC, mean over the classes", xlabel="false-positive rate", ylabel="true-positive rate")
    right.set(title="Precision and recall, mean over the classes", xlabel="recall", ylabel="precision")
    below.set(title="Reliability", xlabel="mean confidence of a tenth of the images", ylabel="accuracy among them")
    last.set(title="If only the surest cases are decided", xlabel="share of cases decided", ylabel="share of errors")
    for axes in (left, right, below):
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    last.set(xlim=(0, 1.01), ylim=(0, None))
    below.legend(loc="upper left", frameon=False, fontsize=9)
    for axes in (left, right, below, last):
        plain(axes)
    percent(*(axis for axes in (left, right, below, last) for axis in (axes.xaxis, axes.yaxis)))
    drawn.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return drawn


def label_efficiency(labels: Mapping[str, Any]) -> Figure:
    """Balanced accuracy against the number of labels: curves by fraction, and few shots."""
    drawn = Figure(figsize=(8.6, 5.8), layout="constrained")
    axes = drawn.subplots()
    for protocol in (each for each in TABLE if each.fractions):
        own = sorted(labels[protocol.key].values(), key=lambda entry: float(entry["labelled"]))
        if own:
            _curve(axes, own, protocol.colour, protocol.title, "o-")
    if shots := list(labels["shots"].values()):
        _curve(axes, shots, PROTOCOLS["knn"].colour, "nearest centroid, few labels of each class", "D--")
    axes.set(xscale="log", xlabel="labelled training images", ylabel="balanced accuracy, test", title=TITLE)
    plain(axes)
    percent(axes.yaxis)
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return drawn


TITLE = (
    "Label efficiency: mean over draws of the labels\nbars: 95% interval over test images; shade: deviation of draws"
)


def _curve(axes: Axes, own: list[dict[str, Any]], colour: str, title: str, style: str) -> None:
    x = [entry["labelled"] for entry in own]
    score = [entry["balanced_accuracy"] for entry in own]
    mean, spread = [entry["value"] for entry in score], [entry["sd"] or 0.0 for entry in score]
    bars = [[e["value"] - e["low"] for e in score], [e["high"] - e["value"] for e in score]]
    axes.errorbar(x, mean, yerr=bars, fmt=style, color=colour, label=title, linewidth=1.8, markersize=5, capsize=2.5)
    low, high = ([m + sign * s for m, s in zip(mean, spread, strict=True)] for sign in (-1, 1))
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
