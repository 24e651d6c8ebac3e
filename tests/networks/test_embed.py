"""One embedding of every image, whatever way the images come to the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.tolerance import rounding
from tumorxai.networks import embed, store


@pytest.mark.parametrize("way", [store.AsTheyAre, store.Ahead])
@pytest.mark.parametrize("count", [1, 7, 20])
def test_every_image_has_its_row(way: Any, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "BATCH", 7)
    monkeypatch.setattr(embed, "AsTheyAre", way)
    images = np.random.default_rng(0).integers(0, 256, (count, 1, 4, 4), dtype=np.uint8)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    found = embed.embed(encoder, images, 0.4, 0.2)
    assert (found.shape, found.dtype) == ((count, 3), np.float32)
    with torch.no_grad():
        expected = encoder.double()((torch.from_numpy(images).double() / 255 - 0.4) / 0.2)
    np.testing.assert_allclose(found, expected, atol=3 * rounding(torch.float32, 16, stages=3))
