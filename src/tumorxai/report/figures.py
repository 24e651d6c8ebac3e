"""What the report draws: curves, the flow of the data, confusion matrices and embedded pictures."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Drawn in colours that occur nowhere else, and then handed to the page's style, so that light and dark both fit.
INK, LINE = "#010203", "#040506"
SIGNALS = {
    "loss": "Loss",
    "c_acc": "Contrastive accuracy",
    "r_acc": "Correlation accuracy",
    "feature_std": "Feature spread (0 = collapsed, 1 = spread out)",
    "effective_rank": "Effective rank of the features",
}


def data_uri(path: Path) -> str:
    """A PNG file as a ``data:`` address."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


@dataclass(frozen=True)
class Curve:
    """One drawn signal.

    Attributes:
        title: of the signal.
        summary: first and last value in words, for those who cannot see the picture.
        svg: the picture.
    """

    title: str
    summary: str
    svg: Markup


def curve(title: str, name: str, steps: list[int], values: list[float]) -> Curve:
    """Draw one signal against the epoch."""
    style: Any = {
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
    with mpl.rc_context(style):
        figure = Figure(figsize=(3.6, 2.3), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        axes.plot(
            [step + 1 for step in steps], values, color=LINE, linewidth=1.8, marker="." if len(values) < 10 else ""
        )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.2, color=INK)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    svg = text[text.index("<svg") :].replace(INK, "currentColor").replace(LINE, "var(--accent)")
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # the groups have the same names in every figure
    summary = (
        f"{title}: from {values[0]:.4g} after epoch {steps[0] + 1} to {values[-1]:.4g} after epoch {steps[-1] + 1}"
    )
    return Curve(title, summary, Markup(svg))  # noqa: S704  our own numbers, drawn by matplotlib


def curves(folder: Path) -> list[Curve]:
    """The curves of pretraining, out of DVCLive's tables (columns ``step`` and the signal) under ``folder``."""
    files = {path.stem: path for path in sorted(folder.rglob("*.tsv"))}
    drawn = []
    for name, title in SIGNALS.items():
        if name in files:
            table = pd.read_csv(files[name], sep="\t")
            if len(table):
                drawn.append(curve(title, name, table["step"].tolist(), table[name].tolist()))
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


def confusion(path: Path) -> Confusion:
    """Count a table of test predictions with the columns ``actual`` and ``predicted``."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    classes = sorted(set(table["actual"]) | set(table["predicted"]))
    counts = pd.crosstab(table["actual"], table["predicted"]).reindex(index=classes, columns=classes, fill_value=0)
    rows = [[int(count) for count in row] for row in counts.to_numpy()]
    return Confusion(classes, rows, [[count / max(sum(row), 1) for count in row] for row in rows])


@dataclass(frozen=True)
class Box:
    """A box of the flow diagram: its place, and lines of text of which the first is the heading."""

    x: int
    y: int
    width: int
    lines: list[str]
    muted: bool = False

    @property
    def height(self) -> int:
        """In the units of the drawing."""
        return 20 + 18 * len(self.lines)

    @property
    def middle(self) -> int:
        """Horizontal centre."""
        return self.x + self.width // 2


@dataclass(frozen=True)
class Flow:
    """The flow of the images, in the manner of a CONSORT diagram.

    Attributes:
        width: of the drawing.
        height: of the drawing.
        boxes: to draw.
        arrows: SVG paths.
        summary: all of it in words.
    """

    width: int
    height: int
    boxes: list[Box]
    arrows: list[str]
    summary: str


def flow(catalogue: Mapping[str, Any], split: Mapping[str, Any]) -> Flow:
    """From the archives to the sides.

    Args:
        catalogue: ``metrics/catalogue.json``.
        split: ``metrics/split.json``.
    """
    width, column, gap = 680, 320, 34
    sources = [f"{name}: {entry['images']:,} readable" for name, entry in catalogue["sources"].items()]
    archives = Box(0, 1, width, ["Archive" if len(sources) == 1 else f"{len(sources)} archives", *sources])
    readable = Box(0, archives.y + archives.height + gap, column, [f"{catalogue['images']:,} readable images"])
    quarantined = Box(390, readable.y, 290, [f"{catalogue['quarantined']:,} quarantined as unreadable"], muted=True)
    sides = {name: side for name, side in split["sides"].items() if side["images"] and name != "dropped"}
    dropped = split["sides"].get("dropped", {"images": 0})["images"]
    groups = Box(
        0,
        readable.y + readable.height + gap,
        column,
        ["Sorted by copies and patients", f"{split['units']:,} units that stay together"],
    )
    reasons = [f"{split['label_conflicts']:,} under two labels", f"{split['bridging_folds']:,} across published folds"]
    left_out = Box(390, groups.y, 290, [f"{dropped:,} left out", *reasons], muted=True)
    below = groups.y + max(groups.height, left_out.height) + 2 * gap
    each = (width - 12 * (len(sides) - 1)) // max(len(sides), 1)
    ends = [
        Box(i * (each + 12), below, each, [name.capitalize(), f"{side['images']:,} images", f"{side['units']:,} units"])
        for i, (name, side) in enumerate(sides.items())
    ]
    spine = readable.middle
    rail = below - gap
    arrows = [
        f"M{spine} {archives.y + archives.height} V{readable.y}",
        f"M{spine} {readable.y + readable.height} V{groups.y}",
        f"M{column} {readable.y + readable.height // 2} H390",
        f"M{column} {groups.y + groups.height // 2} H390",
        *(f"M{spine} {groups.y + groups.height} V{rail} H{end.middle} V{below}" for end in ends),
    ]
    boxes = [archives, readable, quarantined, groups, left_out, *ends]
    height = max(box.y + box.height for box in boxes) + 1
    return Flow(width, height, boxes, arrows, ". ".join(", ".join(box.lines) for box in boxes))
