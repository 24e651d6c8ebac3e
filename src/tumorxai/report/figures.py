"""What the report draws: curves, confusion matrices and embedded pictures."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import matplotlib as mpl
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tumorxai.files import read_csv

# Drawn in colours that occur nowhere else, and then handed to the page's style, so that light and dark both fit.
INK = "#010203"
LINES = {"#040506": "var(--accent)", "#070809": "var(--second)"}
SIGNALS = {
    "loss": "Loss",
    "c_acc": "Contrastive accuracy",
    "r_acc": "Correlation accuracy",
    "feature_std": "Feature spread (0 = collapsed, 1 = spread out)",
    "effective_rank": "Effective rank of the features",
    "val_p_acc": "Accuracy of the online classifier on the validation side",
}
TRAINING = {
    "loss": "Training loss",
    "validation_loss": "Validation loss",
    "validation_balanced_accuracy": "Balanced accuracy on the validation side",
}


@dataclass(frozen=True)
class Curve:
    """A picture of one signal, or of one signal of two models.

    Attributes:
        title: of the signal.
        summary: first and last values in words, for those who cannot see the picture.
        svg: the picture.
    """

    title: str
    summary: str
    svg: Markup


def style(name: str) -> Any:
    """Matplotlib's settings for a picture of a page; ``name`` is unique in the page."""
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": name,  # ids in the page must be unique, and the same in every run
        "text.color": INK,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 9,
    }


def blank() -> tuple[Figure, Axes]:
    """Axes without a background."""
    figure = Figure(figsize=(3.6, 2.3), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    axes.grid(alpha=0.2, color=INK)
    return figure, axes


def svg(figure: Figure) -> Markup:
    """A figure, drawn within :func:`style`, as an element of a page that gives it its colours."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    element = text[text.index("<svg") :].replace(INK, "currentColor")
    for colour, variable in LINES.items():
        element = element.replace(colour, variable)
    # The groups have the same names in every figure.
    return Markup(re.sub(r'<g id="[^"]*">', "<g>", element))  # our own drawing # noqa: S704 # nosec B704


def curve(title: str, name: str, lines: dict[str, tuple[list[int], list[float]]]) -> Curve:
    """Draw signals against the epoch.

    Args:
        title: of the picture.
        name: unique in the page.
        lines: epochs, counted from 1, and values, by what they are of; at most two. A single one needs no name.
    """
    with mpl.rc_context(style(name)):
        figure, axes = blank()
        for (label, (epochs, values)), colour, dash in zip(lines.items(), LINES, ("-", "--"), strict=False):
            marker = "." if len(values) < 10 else ""
            axes.plot(epochs, values, color=colour, linestyle=dash, linewidth=1.8, marker=marker, label=label)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=8)
        drawn = svg(figure)
    return Curve(title, f"{title}: {'; '.join(map(_in_words, lines.items()))}", drawn)


def _in_words(line: tuple[str, tuple[list[int], list[float]]]) -> str:
    label, (epochs, values) = line
    course = f"from {values[0]:.4g} after epoch {epochs[0]} to {values[-1]:.4g} after epoch {epochs[-1]}"
    return f"{label} {course}" if label else course


def curves(folder: Path) -> list[Curve]:
    """The curves of pretraining, out of DVCLive's tables (columns ``step`` and the signal) under ``folder``."""
    files = {path.stem: path for path in sorted(folder.rglob("*.tsv"))}
    drawn = []
    for name, title in SIGNALS.items():
        if name in files:
            table = read_csv(files[name], "step", name, sep="\t")
            if len(table):
                drawn.append(curve(title, name, {"": ((table["step"] + 1).tolist(), table[name].tolist())}))
    return drawn


def training(folder: Path, models: dict[str, str]) -> list[Curve]:
    """The curves of end-to-end training.

    Args:
        folder: of ``NAME.csv``, each with the columns ``epoch`` and those of TRAINING.
        models: title of each name; those without a file are passed over.
    """
    files = {title: folder / f"{name}.csv" for name, title in models.items()}
    tables = {title: read_csv(path, "epoch") for title, path in files.items() if path.exists()}
    drawn = []
    for column, title in TRAINING.items():
        shown = {name: table for name, table in tables.items() if column in table}  # there may be no validation side
        lines = {name: (table["epoch"].tolist(), table[column].tolist()) for name, table in shown.items()}
        if lines:
            drawn.append(curve(title, f"training-{column}", lines))
    return drawn


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix as a table.

    Attributes:
        classes: names, in the order of rows and columns.
        rows: for each true class the counts of the predicted ones.
        shares: the same as shares of the row, in [0, 1].
    """

    classes: list[str]
    rows: list[list[int]]
    shares: list[list[float]]


def confusion(path: Path | IO[bytes]) -> Confusion:
    """Count a table of test predictions with the columns ``actual`` and ``predicted``."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    classes = sorted(set(table["actual"]) | set(table["predicted"]))
    counts = pd.crosstab(table["actual"], table["predicted"]).reindex(index=classes, columns=classes, fill_value=0)
    rows = [[int(count) for count in row] for row in counts.to_numpy()]
    return Confusion(classes, rows, [[count / max(sum(row), 1) for count in row] for row in rows])
