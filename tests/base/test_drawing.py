"""Figures as PNG files, with names in any script."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from tumorxai.base import drawing

LETTER, OTHER = "瘤", "脑"  # which matplotlib's own font lacks


@pytest.fixture
def font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A font of one letter, a full square, which is installed but not yet in matplotlib's list."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    nothing = TTGlyphPen(None).glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(LETTER): "square"})
    builder.setupGlyf({".notdef": nothing, "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "TumorXAI Test", "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    path = tmp_path / "square.ttf"
    builder.save(path)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(path)])
    before = list(font_manager.fontManager.ttflist)  # of which a machine may have fonts with these letters
    font_manager.fontManager.ttflist[:] = [one for one in before if one.name == "DejaVu Sans"]
    drawing.fonts.cache_clear()
    yield path
    font_manager.fontManager.ttflist[:] = before
    drawing.fonts.cache_clear()


def drawn(text: str, path: Path) -> NDArray[np.uint8]:
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.1, text, fontsize=40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing.save(figure, path)
    return np.asarray(Image.open(path).convert("L"))


def test_a_name_is_drawn_by_a_font_that_has_its_letters(
    font: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drawing.fonts(frozenset(f"glioma {LETTER}")) == (("TumorXAI Test",), frozenset())
    assert drawing.undrawable([f"a{LETTER}", "glioma"]) == []
    # 40 points are 56 pixels at 100 dpi: the square is black where a box for a missing letter is mostly white.
    dark = (drawn(LETTER, tmp_path / "square.png") < 64).sum()
    assert dark > 0.8 * 55**2
    assert capsys.readouterr().err == ""


def test_letters_that_no_font_has_are_told(font: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drawing.undrawable([f"a{OTHER}", "glioma", f"{LETTER}"]) == [f"a{OTHER}"]
    drawn(f"a{OTHER}", tmp_path / "box.png")
    assert capsys.readouterr().err.startswith(f"warning: no installed font has the letters {OTHER} of ")


@pytest.mark.parametrize("text", ["glioma", "Gliom, Größe ≥ 2 – Δ", "глиома"])
def test_what_matplotlibs_own_font_has_is_drawn_by_it_alone(
    font: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    assert drawing.fonts(frozenset(text)) == ((), frozenset())
    first = drawn(text, tmp_path / "one.png")
    monkeypatch.setattr(drawing, "_spell", lambda figure: None)
    drawn(text, tmp_path / "other.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    assert first.min() < 64
