"""Images whose grey levels are wrong are named, and those of their class that are right are not."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.archives.scanner import brain
from tumorxai.archives.images import Fit, fit_image
from tumorxai.catalogue import catalogue, shown, unusual
from tumorxai.config import Data, PathSource

PLAIN = 20  # usual images of a class
Values = NDArray[np.int64]


def values(seed: int) -> Values:
    """A scan of 12 bits: noise around it, and a smooth brain with a structure of its own."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    disc = (y - 32) ** 2 + (x - 32) ** 2 < 24**2
    inside = 1500 + 700 * np.sin(x / generator.uniform(5, 9)) * np.cos(y / generator.uniform(5, 9))
    return np.where(disc, inside + generator.normal(0, 40, (64, 64)), generator.integers(0, 40, (64, 64))).astype(int)


def hot(found: Values) -> Values:
    found[5, 7] = found[40, 3] = 65535
    return found


def wrapped(found: Values) -> Values:
    """Noise around zero, signed, read as unsigned."""
    return (found - 20) % 2**16


FAULTS = {
    "inverted": ("8", lambda found: 4095 - found, "inverted?"),
    "12 bits in 16": ("8", lambda found: found // 4, "12 bits in 16"),
    "hot": ("16", hot, "hot or cold pixels, which were clipped"),
    "wrapped": ("16", wrapped, "wrapped values?"),
}


def file(found: Values, bits: str, kind: str) -> bytes:
    stream = io.BytesIO()
    stored = found.astype("<u2") if bits == "16" else np.clip(found // 16, 0, 255).astype("u1")
    Image.fromarray(stored).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_nothing_else(tmp_path: Path, fault: str, kind: str) -> None:
    bits, damage, why = FAULTS[fault]
    (tmp_path / "archives").mkdir()
    with zipfile.ZipFile(tmp_path / "archives/local--mine.zip", "w") as archive:
        for number in range(PLAIN):
            for place, label in enumerate(("glioma", "healthy")):
                own = values(100 * place + number)
                archive.writestr(f"{label}/{number}.{kind.lower()}", file(own, bits, kind))
        archive.writestr(f"glioma/odd.{kind.lower()}", file(damage(values(999)), bits, kind))
    settings = Data(sources=[PathSource(path="mine.zip")], taxonomy="native", image_size=48)
    details = tmp_path / "details.json"
    catalogue.build(tmp_path / "archives", settings, tmp_path / "data", details, tmp_path / "plots", workers=1)
    layout = json.loads(details.read_text())["sources"]["local/mine"]["layout"]
    (odd,) = layout["unusual"]
    assert odd["path"] == f"glioma/odd.{kind.lower()}"
    assert any(why in reason for reason in odd["why"]), odd["why"]
    (note,) = [line for line in shown.lines("local/mine", layout, "native") if "unlike the others" in line]
    assert odd["path"] in note


@pytest.mark.parametrize("kind", ["<u2", "<i4", "<f4"])
def test_hot_and_cold_pixels_do_not_change_the_rest(kind: str) -> None:
    fit = Fit(40, 1, "pad")
    clean = brain(1, 80, 80, kind)
    clean[clean == clean.max()] -= 1
    damaged = clean.copy()
    damaged[2, 2:5] = {"<u2": 65535, "<i4": 2**31 - 1, "<f4": 1e30}[kind]
    if kind != "<u2":
        damaged[-2, 2:5] = {"<i4": -(2**31), "<f4": -1e30}[kind]
    one, other = (fit_image(Image.fromarray(own), fit)[0].astype(int) for own in (clean, damaged))
    assert np.abs(one - other)[6:-6].max() <= 2, "of 256 levels"


def test_without_hot_pixels_the_range_is_the_image_s_own() -> None:
    """However few its brightest pixels: a ramp, and a small bright spot that is no further off than all else spans."""
    ramp = np.arange(64 * 64, dtype="<u2").reshape(64, 64)
    ramp[0, 0] = 8000
    found = fit_image(Image.fromarray(ramp), Fit(64, 1, "pad"))[0]
    assert found.max() == 255
    assert found[-1, -1] == round(4095 / 8000 * 255)


def test_few_images_tell_nothing() -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(100, 3, (unusual.LEAST - 1, 4))
    rows[0] = 255
    assert not any(unusual.unlike(rows))
    table = pd.DataFrame(columns=["image_id", "source", "path", "label", "native_label", "width", "height"])
    assert unusual.unusual(table, np.zeros((0, 1, 8, 8), np.uint8), [], Fit(8, 1, "pad")) == []
