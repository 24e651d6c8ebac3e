"""What all figures share: colours, axes, percentages, and PNG files that a repository can keep.

The colours are Okabe and Ito's (Color Universal Design, 2008), which can be told apart with any colour vision.
"""

from __future__ import annotations

import base64
import io
import sys
import warnings
from collections.abc import Iterable
from functools import lru_cache
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


@lru_cache
def fonts(letters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Installed fonts for what matplotlib's own, DejaVu Sans, lacks: names of classes may be in any script.

    Args:
        letters: that are to be drawn.

    Returns:
        Families that have them together, and the letters that no installed font has.
    """
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    def held(path: str) -> set[str]:
        try:
            own = FT2Font(path).get_charmap()
        except (OSError, RuntimeError):  # no font that FreeType reads
            return set()
        return {letter for letter in lacking if ord(letter) in own}

    lacking = {letter for letter in letters if letter.isprintable() and not letter.isspace()}
    lacking -= held(font_manager.findfont("DejaVu Sans"))
    found: list[str] = []
    manager, known = font_manager.fontManager, 0
    while lacking and known < len(manager.ttflist):
        upright = [one for one in manager.ttflist[known:] if one.style == "normal" and "Last Resort" not in one.name]
        known = len(manager.ttflist)
        for font in sorted(upright, key=lambda one: (str(one.weight) not in ("400", "normal"), one.name, one.fname)):
            if lacking and (own := held(font.fname)):
                found.append(font.name)
                lacking -= own
        if lacking:  # the manager keeps a list of its own, without what was installed since
            listed = {one.fname for one in manager.ttflist}
            for path in sorted(set(font_manager.findSystemFonts()) - listed):
                if held(path):
                    manager.addfont(path)
    return tuple(dict.fromkeys(found)), frozenset(lacking)


def data_uri(png: bytes) -> str:
    """A PNG file's content as a ``data:`` address, by which a page holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def undrawable(names: Iterable[str]) -> list[str]:
    """Those of some names with letters that no installed font has: pictures show boxes in their place."""
    return [name for name in names if not name.isascii() and fonts(frozenset(name))[1]]


def _spell(figure: Figure) -> None:
    """Give the texts of a figure fonts that have their letters, where matplotlib's own has not."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if isinstance(text, Text) and not text.get_text().isascii():
            further, none = fonts(frozenset(text.get_text()))
            if further:
                text.set_fontfamily([*text.get_fontfamily(), *further])
            if none:
                print(
                    f"warning: no installed font has the letters {' '.join(sorted(none))} of {text.get_text()!r}; the "
                    "picture shows boxes; install a font that has them, such as Noto's",
                    file=sys.stderr,
                )


def save(figure: Figure, path: Path, dpi: float = 100.0, colours: int = 256) -> None:
    """Write a figure as a PNG with a palette, a third of the size of full colour.

    Args:
        figure: what to draw.
        path: the PNG; whole or absent.
        dpi: pixels per inch of the figure's size.
        colours: of the palette, at most 256; photographs in grey need 64.
    """
    drawn = io.BytesIO()
    _spell(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # said above, in words
        figure.savefig(drawn, format="png", dpi=dpi)
    with atomic(path) as temporary:
        Image.open(drawn).convert("RGB").quantize(colours, kmeans=2).save(temporary, optimize=True)
