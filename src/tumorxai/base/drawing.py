"""What all figures share: colours, axes, percentages, and PNG files that a repository can keep.

The colours are Okabe and Ito's (Color Universal Design, 2008), which can be told apart with any colour vision.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tumorxai.files import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, YELLOW, BLACK = "#E69F00", "#56B4E9", "#F0E442", "#000000"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, YELLOW)  # in the order in which series take them
GREY, LIGHT = "#777777", "#BBBBBB"  # what a score is held against: baselines, chance, an undamaged image
# Green and vermilion, dark enough for small letters on white (WCAG 2.2: contrast above 4.5); always beside a sign.
RIGHT, WRONG = "#00664A", "#A34700"


def plain(axes: Axes, grid: bool = True) -> None:
    """Leave out what says nothing: the upper and right spines. A faint grid where values are read off."""
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(alpha=0.25)


def percent(*axis: Axis) -> None:
    """Write the shares in [0, 1] on an axis as percentages."""
    from matplotlib.ticker import PercentFormatter  # slow to load, and not needed to save a picture

    for each in axis:
        each.set_major_formatter(PercentFormatter(1.0))


def save(figure: Figure, path: Path, dpi: float = 100.0, colours: int = 256) -> None:
    """Write a figure as a PNG with a palette, a third of the size of full colour.

    Args:
        figure: what to draw.
        path: the PNG; whole or absent.
        dpi: pixels per inch of the figure's size.
        colours: of the palette, at most 256; photographs in grey need 64.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    with atomic(path) as temporary:
        Image.open(drawn).convert("RGB").quantize(colours, kmeans=2).save(temporary, optimize=True)
