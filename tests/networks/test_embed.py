"""One embedding of every image, whatever way the images come to the network."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.tolerance import rounding
from tumorxai.base import embedded
from tumorxai.networks import embed, store


def test_the_file_is_written_by_parts_to_the_same_bytes(
    toy: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held at once does not grow with the images."""
    monkeypatch.setattr(embed, "BATCH", 7)
    pack, held, whole = toy / "pack.npy", [], tmp_path / "whole.npy"
    embed.run(pack, encoder, whole)
    monkeypatch.setattr(embed, "HELD", 2)
    features = embed.features

    def watched(*given: Any) -> Iterator[np.ndarray]:
        for part in features(*given):
            held.append(len(part))
            yield part

    monkeypatch.setattr(embed, "features", watched)
    embed.run(pack, encoder, tmp_path / "parts.npy")
    images = np.load(pack, mmap_mode="r")
    assert (max(held), sum(held)) == (14, len(images))
    assert (tmp_path / "parts.npy").read_bytes() == whole.read_bytes()
    saved = io.BytesIO()
    np.save(saved, embedded.read(whole, images, encoder))
    assert whole.read_bytes() == saved.getvalue()


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
