"""Is pretraining worth it? The tests that `papers/label_efficiency.yaml` registers, on the runs that DVC's cache holds.

    make papers PAPER=label_efficiency        # as far as time goes; or `make bundle PAPER=label_efficiency` for a GPU
    python -m benchmarks.label_efficiency --into results/label_curves.json
    python -m benchmarks.label_efficiency --into results/label_curves.json --result FOLDER  # that run.sh left

The five folds of a set are pooled, so that each image is a test image once. The score of an image is the share of draws
of the labels that have it right. A set of which a fold is missing is left out and named.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dvc.api
import numpy as np
import pandas as pd
from benchmarks.record import record
from dvc.exceptions import DvcException
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tumorxai.base import drawing, jackknife
from tumorxai.base.statistics import difference, holm
from tumorxai.errors import UserError, run
from tumorxai.files import read_json, write_json
from tumorxai.tools import papers

PAPER, FOLDS, SEED = "label_efficiency", 5, 0
SETS = {
    "cheng": "Cheng, patients apart",
    "cheng-leaky": "Cheng, random folds",
    "sartaj": "Sartaj, patients apart",
    "cheng-imagenet": "Cheng, patients apart, ImageNet weights",
    "cheng-imagenet-simclr": "Cheng, patients apart, SimCLR from ImageNet weights",
}
ARMS = {
    "finetune": "pretrained, fine-tuned",
    "supervised": "supervised from scratch",
    "linear": "pretrained, linear",
    "random_linear": "random weights, linear",
}
PAIRS = (("finetune", "supervised"), ("linear", "random_linear"))
FEW, PRIMARY, ALL = ("0.01", "0.05", "0.1"), "0.1", "1"
COLOURS = dict(zip(ARMS, (drawing.BLUE, drawing.VERMILION, drawing.GREEN, drawing.GREY), strict=True))

Floats = NDArray[np.float64]
Read = Callable[[str], str]  # the text of a file of a run, by its path


@dataclass(frozen=True)
class Pooled:
    """All folds of a set.

    Attributes:
        table: a row for each image, with ``source``, ``path``, ``label`` and ``cluster``.
        right: for each arm and fraction of the labels the share of draws that have each image right, shape (n,).
        labels: for each fraction the number of labelled images, mean over folds and draws.
    """

    table: pd.DataFrame
    right: Mapping[str, Mapping[str, Floats]]
    labels: Mapping[str, float]

    def draw(self) -> jackknife.Draw:
        """Resamples of the clusters, the same for every score."""
        return jackknife.draw(self.table["cluster"].to_numpy(dtype=np.int64), SEED)

    def only(self, keys: pd.Index[Any]) -> Pooled:
        """The images of these sources and paths, in this order."""
        places = pd.Index(self.table[["source", "path"]].agg("\n".join, axis=1)).get_indexer(keys)
        right = {arm: {name: own[places] for name, own in each.items()} for arm, each in self.right.items()}
        return Pooled(self.table.iloc[places].reset_index(drop=True), right, self.labels)

    @property
    def keys(self) -> pd.Index[Any]:
        """Source and path of each image."""
        return pd.Index(self.table[["source", "path"]].agg("\n".join, axis=1))


def experiment(root: Path, name: str) -> Read:
    """The files of a run that DVC's cache holds."""
    read: Read = dvc.api.DVCFileSystem(str(root), rev=f"{PAPER}-{name}").read_text
    return read


def away(result: Path, name: str) -> Read:
    """The files of a run of a bundle; of its folder nothing but the curves need have come back."""
    return lambda path: (result / name / path).read_text(encoding="utf-8")


def curve(read: Read, arm: str) -> tuple[pd.DataFrame, dict[str, Floats], dict[str, float]]:
    """Of one fold and arm: the test images, the share of draws that have each right, and the labels, by fraction."""
    text = read(f"models/curve_{arm}.csv")
    table = pd.read_csv(io.StringIO(text), dtype={"path": str, "source": str, "label": str}, keep_default_na=False)
    counts = pd.read_json(io.StringIO(read(f"models/curve_{arm}.json")), typ="series")["labelled"]
    right = {
        f"{float(name):g}": (table[[f"{name}/{draw}" for draw in range(len(own))]].eq(table["label"], axis=0))
        .to_numpy(dtype=np.float64)
        .mean(axis=1)
        for name, own in counts.items()
        if own
    }
    return table, right, {f"{float(name):g}": float(np.mean(own)) for name, own in counts.items() if own}


def pooled(of: Callable[[str], Read], name: str) -> Pooled | None:
    """All folds of a set; None if one was not run.

    Args:
        of: what reads the files of a run, by its name.
        name: of the set.
    """
    parts = []
    for fold in range(FOLDS):
        try:
            read = of(f"{name}-{fold}")
            parts.append({arm: curve(read, arm) for arm in ARMS})
        except (DvcException, FileNotFoundError):
            return None
    tables = [part["finetune"][0] for part in parts]
    for part, table in zip(parts, tables, strict=True):
        for own, _, _ in part.values():
            if not own["path"].equals(table["path"]):
                raise UserError(f"{name}: got arms with other test images; expected the same; run the fold again")
    table = pd.concat(tables, ignore_index=True)
    if twice := int(table.duplicated(["source", "path"]).sum()):
        raise UserError(f"{name}: got {twice} images tested in two folds; expected one each; run its folds again")
    fractions = {
        arm: [name for name in parts[0][arm][1] if all(name in part[arm][1] for part in parts)] for arm in ARMS
    }
    return Pooled(
        table,
        {
            arm: {name: np.concatenate([part[arm][1][name] for part in parts]) for name in own}
            for arm, own in fractions.items()
        },
        {name: float(np.mean([part["finetune"][2][name] for part in parts])) for name in fractions["finetune"]},
    )


def balanced(own: Pooled, draw: jackknife.Draw, right: Floats) -> Floats:
    """Mean over the classes of the share that is right, of the sample and of its resamples."""
    of = pd.get_dummies(own.table["label"]).to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray((draw.totals(of * right[:, None]) / draw.totals(of)).mean(axis=1))


def entry(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value[key], 6) for key in ("value", "low", "high")}


@dataclass
class Test:
    """A comparison, with its place in the report."""

    title: str
    found: dict[str, Any]
    adjusted: float | None = None

    def cells(self) -> list[Any]:
        """Of the row: the difference with its interval, and p."""
        p = self.found["p"] if self.adjusted is None else self.adjusted
        return [entry(self.found), "below 0.001" if p < 0.001 else f"{p:.3f}"]


def tests(sets: Mapping[str, Pooled]) -> tuple[list[Test], list[Test]]:
    """The primary test, and the secondary ones, adjusted after Holm."""
    first, others = [], []
    for name, own in sets.items():
        draw = own.draw()
        for arm, other in PAIRS:
            both = [fraction for fraction in own.right[arm] if fraction in own.right[other]]
            change = {}
            for fraction in both:
                a, b = own.right[arm][fraction], own.right[other][fraction]
                means = draw.means(a), draw.means(b)
                change[fraction] = means[0] - means[1]
                title = f"{SETS[name]}: {ARMS[arm]} - {ARMS[other]}, {float(fraction):.0%} of the labels"
                primary = (name, arm, fraction) == ("cheng", "finetune", PRIMARY)
                (first if primary else others).append(Test(title, difference(*means, draw)))
                spread = balanced(own, draw, a), balanced(own, draw, b)
                others.append(Test(f"{title}, balanced accuracy", difference(*spread, draw)))
            if {*FEW, ALL} <= change.keys():
                few = np.mean([change[fraction] for fraction in FEW], axis=0)
                title = f"{SETS[name]}: {ARMS[arm]} - {ARMS[other]}, 1 to 10 % less 100 %"
                others.append(Test(title, difference(few, change[ALL], draw)))
    if {"cheng", "cheng-leaky"} <= sets.keys():
        keys = sets["cheng"].keys.intersection(sets["cheng-leaky"].keys)
        honest, leaky = (sets[name].only(keys) for name in ("cheng", "cheng-leaky"))
        draw = honest.draw()
        gain = [
            draw.means(own.right["finetune"][PRIMARY] - own.right["supervised"][PRIMARY]) for own in (leaky, honest)
        ]
        others.append(
            Test("Cheng, random folds less patients apart, fine-tuned - supervised, 10 %", difference(*gain, draw))
        )
    for test, p in zip(others, holm([test.found["p"] for test in others]), strict=True):
        test.adjusted = p
    return first, others


def page(sets: Mapping[str, Pooled], described: Mapping[str, Any], node: Mapping[str, Any] | None) -> dict[str, Any]:
    """The content of the file of results; ``node`` is what a bundle's summary says of where the runs were."""
    absent = [f"{title} (`{name}-0` to `{name}-{FOLDS - 1}`)" for name, title in SETS.items() if name not in sets]
    first, others = tests(sets)
    tables: dict[str, Any] = {}
    for name, own in sets.items():
        draw = own.draw()
        rows = {
            f"{ARMS[arm]}, {score}": [
                entry(draw.entry(measure(own.right[arm][fraction]))) if fraction in own.right[arm] else ""
                for fraction in own.labels
            ]
            for arm in ARMS
            for score, measure in (("accuracy", draw.means), ("balanced", lambda right: balanced(own, draw, right)))  # noqa: B023 - used at once
        }
        tables[name] = {
            "title": SETS[name],
            "text": f"{len(own.table):,} test images, in {own.table['cluster'].nunique():,} clusters.",
            "columns": {f"{count:,.0f} labels ({float(fraction):.0%})": "%" for fraction, count in own.labels.items()},
            "rows": rows,
        }
    columns = {"points": "%", "p": ""}
    tables["primary"] = {
        "title": "The primary test",
        "columns": columns,
        "rows": {own.title: own.cells() for own in first},
    }
    tables["secondary"] = {
        "title": "Secondary tests",
        "text": "Each interval by itself at 95 %; p-values adjusted after Holm for all rows of this table.",
        "columns": columns,
        "rows": {own.title: own.cells() for own in others},
    }
    registered = described["registered"]
    return {
        "title": "Is pretraining worth it?",
        "about": [registered["question"], described["note"].strip(), f"Primary test: {registered['primary'].strip()}"],
        "commands": ["make papers PAPER=label_efficiency", "python -m benchmarks.label_efficiency"],
        "tables": tables,
        "remarks": [
            f"Seeds: {registered['seeds'].strip()}",
            *([f"Not run in all folds, and so left out: {'; '.join(absent)}."] if absent else []),
        ],
        "record": record(("torch", "timm", "scikit-learn", "numpy")) | (_made(node) if node else {}),
    }


def _made(node: Mapping[str, Any]) -> dict[str, Any]:
    own = node["node"]
    return {
        "commit": node["commit"],
        "hardware": f"{own['device']}, {own['cores']} CPU cores",
        "python": own["python"],
        "versions": {"torch": own["torch"]},
        "recorded": "runs of a bundle, without DVC; tables written by the commands above with --result",
    }


def figure(sets: Mapping[str, Pooled], path: Path) -> None:
    """Accuracy against the number of labels, and what pretraining adds, of each set."""
    drawn = Figure(figsize=(3.6 * len(sets) + 0.6, 5.6), layout="constrained")
    upper, lower = drawn.subplots(2, len(sets), squeeze=False, sharex="col", sharey="row", height_ratios=(3, 2))
    for name, top, bottom in zip(sets, upper, lower, strict=True):
        own = sets[name]
        draw = own.draw()
        counts = np.array(list(own.labels.values()))
        for arm, title in ARMS.items():
            _line(top, counts, [draw.entry(draw.means(own.right[arm][f])) for f in own.labels if f in own.right[arm]],
                  COLOURS[arm], title)  # fmt: skip
        for arm, other in PAIRS:
            both = [f for f in own.labels if f in own.right[arm] and f in own.right[other]]
            gains = [difference(draw.means(own.right[arm][f]), draw.means(own.right[other][f]), draw) for f in both]
            _line(bottom, counts[: len(both)], gains, COLOURS[arm], f"{ARMS[arm]} - {ARMS[other]}")
        bottom.axhline(0, color=drawing.BLACK, linewidth=0.8)
        top.set(title=SETS[name], xscale="log")
        bottom.set(xlabel="labelled images")
        for axes in (top, bottom):
            drawing.plain(axes)
            drawing.percent(axes.yaxis)
    upper[0].set(ylabel="accuracy")
    lower[0].set(ylabel="difference")
    for axes in (upper[0], lower[0]):
        axes.legend(fontsize=8, frameon=False)
    drawing.save(drawn, path)


def _line(axes: Any, counts: Floats, entries: Iterable[Mapping[str, Any]], colour: str, title: str) -> None:
    value, low, high = (np.array([own[key] for own in entries]) for key in ("value", "low", "high"))
    axes.plot(counts[: len(value)], value, "o-", color=colour, label=title, markersize=4)
    axes.fill_between(counts[: len(value)], low, high, color=colour, alpha=0.15, linewidth=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--result", type=Path, help="folder that run.sh of a bundle left; default: DVC's cache")
    given = parser.parse_args()
    of = partial(away, given.result) if given.result else partial(experiment, given.root)
    sets = {name: own for name in SETS if (own := pooled(of, name)) is not None}
    if not sets:
        raise UserError(f"{given.root}: got no set with all of its {FOLDS} folds; run `make papers PAPER={PAPER}`")
    node = read_json(given.result / "summary.json") if given.result else None
    write_json(given.into, page(sets, papers.describe(PAPER, given.root / "papers"), node))
    figure(sets, given.into.with_suffix(".png"))


if __name__ == "__main__":
    run(main)
