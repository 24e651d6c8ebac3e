"""Batches: each image once an epoch, and views that do not depend on who draws them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tumorxai.networks import views
from tumorxai.networks.batches import BLOCK, Batches


def batches(images: np.ndarray, recipes: list[views.View], size: int) -> Batches:
    labels = torch.full((len(images),), -1)
    return Batches(images, np.arange(len(images)), labels, recipes, 0.0, 1.0, size, 0, torch.device("cpu"))


def test_each_epoch_sees_each_image_once() -> None:
    drawn = batches(np.zeros((40, 1, 1, 1), np.uint8), [], 8)
    for epoch in range(3):
        seen = np.concatenate([drawn.at(epoch * 5 + i) for i in range(5)])
        assert sorted(seen) == list(range(40))
    assert not np.array_equal(drawn.at(0), drawn.at(5))


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_the_views_of_an_image_do_not_depend_on_who_draws_them(parts: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (240, 1, 8, 8), dtype=np.uint8)
    drawn = batches(images, [views.SIMCLR, views.BYOL_2], 3 * BLOCK // 2)
    whole = drawn.draw(1, range(drawn.size))
    own = drawn.size // parts
    shared = [drawn.draw(1, range(start, start + own)) for start in range(0, drawn.size, own)]
    for i, view in enumerate(whole):
        assert view.shape == (drawn.size, 1, 8, 8)
        assert torch.equal(torch.cat([part[i] for part in shared]), view)
    assert not torch.equal(whole[0], drawn.draw(1 + drawn.per_epoch, range(drawn.size))[0])
