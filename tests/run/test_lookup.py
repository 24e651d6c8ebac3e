"""Copies of single images: what spares time must lose none."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from tumorxai.archives.images import Fit, fit_image
from tumorxai.base.dataset import Dataset
from tumorxai.config import Dedupe
from tumorxai.dedupe import hashing, registration
from tumorxai.run import lookup
from tumorxai.run.lookup import Lookup

FIT = Fit(size=96, channels=1, fit="pad")
EDITS = {
    "mirrored": ImageOps.mirror,
    "rotated": lambda image: image.rotate(8, resample=Image.Resampling.BICUBIC),
    "cut": lambda image: image.crop((4, 6, image.width - 10, image.height - 8)),
    "inverted": ImageOps.invert,
    "equalised": lambda image: ImageOps.equalize(image).rotate(90, expand=True),
    "framed": lambda image: ImageOps.expand(image, 20, 0),
}


@pytest.fixture(scope="module")
def pictures(phantom_archive: Path) -> list[Image.Image]:
    with zipfile.ZipFile(phantom_archive) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith((".png", ".jpg")) and "mask" not in name)
        return [Image.open(io.BytesIO(archive.read(name))).convert("L") for name in names[:60]]


def searched(pictures: list[Image.Image]) -> Lookup:
    table = pd.DataFrame(
        {
            "width": [each.width for each in pictures],
            "height": [each.height for each in pictures],
            "side": "train",
            "label": "any",
        }
    )
    images = np.concatenate([fit_image(each, FIT)[None] for each in pictures])
    return Lookup(Dataset(images, table, ("any",)), FIT, Dedupe())


@pytest.mark.parametrize("edit", EDITS)
def test_a_rough_look_first_loses_no_copy(
    pictures: list[Image.Image], edit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = searched(pictures)

    def found() -> list[tuple[int, str] | None]:
        copies = [known.find(hashing.shrink(EDITS[edit](each))) for each in pictures[::12]]
        return [copy and (copy.image_id, copy.orientation) for copy in copies]

    quick = found()
    monkeypatch.setattr(lookup, "LIKELY", -1.0)  # looks closely at every candidate
    assert quick == found()
    assert sum(each is not None for each in quick) >= len(quick) / 2


def test_kept_layers_change_no_answer(pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    known = searched(pictures)
    asked = [hashing.shrink(each.rotate(3)) for each in pictures[::12]]
    first = [known.find(each) for each in asked]
    assert [known.find(each) for each in asked] == first  # from what is kept
    monkeypatch.setattr(lookup, "KEPT", 2)
    assert [known.find(each) for each in asked] == first
    assert len(known._kept) == 2 * 2
    for layers, wanted in zip(known._layers([5, 3], True), (5, 3), strict=True):
        alone = registration.layers(known[wanted].views, True)
        for one, other in zip(layers, alone, strict=True):
            np.testing.assert_array_equal(one, other)
