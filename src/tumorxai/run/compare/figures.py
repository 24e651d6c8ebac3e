"""The two pictures of a leaderboard. They are as wide as their longest label needs: none is cut."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import MaxNLocator

from tumorxai.base.drawing import BLACK, BLUE, percent, plain
from tumorxai.base.glossary import SCORES
from tumorxai.run.compare.judge import Side, cliques, title

SIZE, TITLE = 8, 9  # points
DPI = 100  # of the pictures; letters are rounded to pixels
LINE = 0.155  # inches from one line of a label to the next
LABEL, HEADING = 48, 84  # characters to a line, if words allow
RANKS = (
    "Ranks by accuracy with the ranks that each may have, 95% together. A bar joins classifiers that the paired test, "
    "adjusted for the number of pairs, cannot tell apart."
)


def wrapped(text: str, width: int) -> str:
    """Lines of at most ``width`` characters, but words stay whole; a dollar sign is no formula."""
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("$", r"\$")


def inches(text: str, points: float) -> float:
    """How wide the longest line of a text is drawn in a picture of DPI pixels per inch."""
    renderer: Any = RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]
    font = FontProperties(size=points)
    lines = text.replace(r"\$", "$").splitlines()
    return float(max(renderer.get_text_width_height_descent(line, font, ismath=False)[0] for line in lines)) / DPI


class _Rows:
    """Labels of a test side and where they are drawn, in inches from the top."""

    def __init__(self, side: Side, sides: Sequence[Side]) -> None:
        self.labels = [wrapped(entrant.model, LABEL) for entrant in side.entrants]
        self.heights = [0.13 + LINE * (1 + label.count("\n")) for label in self.labels]
        self.middles = [sum(self.heights[:i]) + own / 2 for i, own in enumerate(self.heights)]
        self.title = wrapped(title(side, sides), HEADING)

    @property
    def width(self) -> float:
        return max(inches(label, SIZE) for label in self.labels) + 0.3

    @property
    def height(self) -> float:
        return sum(self.heights) + 0.65 + 0.18 * (1 + self.title.count("\n"))

    def mark(self, axes: Axes) -> None:
        axes.set_yticks(self.middles, self.labels, fontsize=SIZE)
        axes.set_ylim(sum(self.heights), 0)
        plain(axes, grid=False)


def _interval(axes: Axes, y: float, entry: Mapping[str, Any]) -> None:
    axes.plot([entry["low"], entry["high"]], [y, y], color=BLUE, linewidth=2)
    axes.plot(entry["value"], y, "o", color=BLUE)


def rank_figure(sides: Sequence[Side]) -> Figure:
    """Critical-difference diagrams, one for each test side with several entrants."""
    shown = [side for side in sides if len(side.entrants) > 1] or list(sides[:1])
    rows = [_Rows(side, sides) for side in shown]
    heading = wrapped(RANKS, HEADING)
    beside = max(5.5, *(inches(own.title, TITLE) + 0.4 for own in rows))
    width = max(max(own.width for own in rows) + beside, inches(heading, TITLE) + 0.4)
    heights = [own.height for own in rows]
    drawn = Figure(figsize=(width, sum(heights) + 0.6), layout="constrained")
    drawn.suptitle(heading, fontsize=TITLE)
    grid = drawn.subplots(len(shown), 1, squeeze=False, height_ratios=heights)
    for axes, side, own in zip(grid[:, 0], shown, rows, strict=True):
        for y, ranks in zip(own.middles, side.ranks, strict=True):
            _interval(axes, y, ranks)
        edge = len(side.entrants) + 0.6
        for number, (first, last) in enumerate(cliques(side)):
            x = edge + 0.35 * number
            ends = own.middles[first] - 0.06, own.middles[last] + 0.06
            axes.plot([x, x], ends, color=BLACK, linewidth=4, solid_capstyle="butt")
        own.mark(axes)
        places = MaxNLocator(integer=True).tick_values(1, len(side.entrants))
        axes.set_xticks([place for place in places if 1 <= place <= len(side.entrants)])
        axes.set(xlabel="rank by accuracy, 1 is best", xlim=(0.5, None))
        axes.set_title(own.title, fontsize=TITLE, loc="left")
    return drawn


def score_figure(sides: Sequence[Side]) -> Figure:
    """Accuracy and balanced accuracy with their intervals."""
    rows = [_Rows(side, sides) for side in sides]
    heights = [own.height for own in rows]
    beside = max(6.4, *(inches(own.title, TITLE) + 0.4 for own in rows))
    width = max(own.width for own in rows) + beside
    drawn = Figure(figsize=(width, sum(heights) + 0.3), layout="constrained")
    grid = drawn.subplots(len(sides), 2, squeeze=False, sharey="row", sharex=True, height_ratios=heights)
    for line, side, own in zip(grid, sides, rows, strict=True):
        for axes, name in zip(line, ("accuracy", "balanced_accuracy"), strict=True):
            for y, scored in zip(own.middles, side.scores, strict=True):
                _interval(axes, y, scored[name])
            own.mark(axes)
            axes.set_xlabel(SCORES[name].title)
            axes.grid(alpha=0.25)
            percent(axes.xaxis)
        line[1].tick_params(labelleft=False)
        line[0].set_title(own.title, fontsize=TITLE, loc="left")
    return drawn
