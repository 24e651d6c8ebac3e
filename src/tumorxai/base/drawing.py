"""Pictures that a repository can keep: PNG with a palette, a third of the size of full colour."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tumorxai.files import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: Figure, path: Path, dpi: float = 100.0, colours: int = 256) -> None:
    """Write a figure.

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
