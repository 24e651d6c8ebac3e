"""Pixels and heat-maps as PNG files inside an answer."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tumorxai.explain.heatmaps import COLOURS


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of (S, S), (S, S, 3) or (S, S, 4) values."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def grey(heat: NDArray[np.float32]) -> bytes:
    """A map (S, S) in [0, 1] as a grey PNG of 8 bits, 255 for 1."""
    return png(np.rint(255 * heat.clip(0, 1)).astype(np.uint8))


def overlay(heat: NDArray[np.float32]) -> bytes:
    """A map (S, S) in [0, 1] as a PNG to lay over its image: the more evidence the more colour, none is clear."""
    values = heat.clip(0, 1)
    coloured = mpl.colormaps[COLOURS](values)
    coloured[..., 3] = values
    return png(np.rint(255 * coloured).astype(np.uint8))


def scale(steps: int = 24) -> list[str]:
    """The colours of :func:`overlay` from no to most evidence, as ``#rrggbb``."""
    return [mpl.colors.to_hex(colour) for colour in mpl.colormaps[COLOURS](np.linspace(0, 1, steps))]
