"""Localisation scores by hand, against scikit-learn, and on a classifier that looks at the top left quarter alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import jaccard_score, roc_auc_score
from torch import Tensor, nn

from tumorxai.explain import localisation
from tumorxai.explain.explainer import Explainer
from tumorxai.explain.methods import FLOORS

MASK = np.zeros((1, 4, 4), dtype=bool)
MASK[0, :2, :2] = True
SIZE = 32
QUARTER = np.zeros((1, SIZE, SIZE), dtype=bool)
QUARTER[:, : SIZE // 2, : SIZE // 2] = True


def test_energy_by_hand() -> None:
    maps = np.zeros((1, 4, 4), dtype=np.float32)
    maps[0, 0, 0], maps[0, 3, 3] = 0.75, 0.25
    assert localisation.energy(maps, MASK) == pytest.approx([0.75])


def test_pointing_shares_tied_maxima() -> None:
    maps = np.zeros((1, 4, 4), dtype=np.float32)
    maps[0, 1, 1] = maps[0, 2, 2] = 1
    assert localisation.pointing(maps, MASK) == pytest.approx([0.5])


def test_pixel_auroc_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    maps = generator.integers(0, 5, (6, 8, 8)).astype(np.float32)  # with ties
    masks = generator.random((6, 8, 8)) < 0.3
    expected = [roc_auc_score(mask.ravel(), image.ravel()) for mask, image in zip(masks, maps, strict=True)]
    np.testing.assert_allclose(localisation.pixel_auroc(maps, masks), expected)


def test_iou_is_scikit_learns_jaccard() -> None:
    generator = np.random.default_rng(0)
    maps = generator.random((6, 8, 8)).astype(np.float32)
    masks = generator.random((6, 8, 8)) < 0.3
    for threshold in (0.2, 0.5, 0.9):
        expected = [jaccard_score(m.ravel(), a.ravel() >= threshold) for m, a in zip(masks, maps, strict=True)]
        np.testing.assert_allclose(localisation.iou(maps, masks, threshold), expected)


def test_the_best_threshold_is_the_best_one() -> None:
    """The mask is where the map is at least 0.3: no other threshold gets all of it and no more."""
    maps = np.random.default_rng(0).random((6, 16, 16)).astype(np.float32)
    assert localisation.best_threshold(maps, maps >= 0.3) == pytest.approx(0.3)
    scores = localisation.scores(maps, maps >= 0.3)
    assert scores["iou_best"] == pytest.approx(np.ones(6))
    assert scores["iou_fixed"].mean() == pytest.approx(5 / 7, abs=0.05)


def test_a_zero_map_scores_as_a_uniform_one() -> None:
    zero, uniform = np.zeros((1, 4, 4), dtype=np.float32), np.ones((1, 4, 4), dtype=np.float32)
    for name, value in localisation.scores(zero, MASK).items():
        assert value == pytest.approx(localisation.scores(uniform, MASK)[name]), name
    assert localisation.energy(uniform, MASK) == pytest.approx([0.25])
    assert localisation.iou(zero, MASK, 0.5) == pytest.approx([0.25])


class Corner(nn.Module):
    """Three convolutions that pass the image on, and a head that reads the cells of the top left quarter alone."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten())
        self.head = nn.Linear(4 * (SIZE // 4) ** 2, 2)
        nn.init.uniform_(self.encoder[0].weight, 0.5, 1)
        nn.init.zeros_(self.encoder[0].bias)
        weight = torch.zeros(2, 4, SIZE // 4, SIZE // 4)
        weight[1, :, : SIZE // 8, : SIZE // 8] = 0.02
        self.head.weight = nn.Parameter(weight.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(x))
        return logits


def found(method: str, count: int = 24) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    images = 1 + 0.2 * torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    explainer = Explainer.of(Corner(), images[:1], windows=15)
    maps = explainer.maps(images, torch.ones(count, dtype=torch.int64), method).numpy()
    return maps, np.repeat(QUARTER, count, axis=0)


@pytest.mark.parametrize("method", ["layer_cam", "occlusion"])
def test_a_classifier_that_looks_at_one_quarter_is_localised_there(method: str) -> None:
    maps, masks = found(method)
    scores = {name: value.mean() for name, value in localisation.scores(maps, masks).items()}
    assert scores["energy"] > 0.85
    assert scores["pointing"] == 1
    assert scores["pixel_auroc"] > 0.97
    assert scores["iou_best"] > 0.8


def test_random_maps_are_at_chance_and_floors_differ_in_nothing_but_what_they_are() -> None:
    maps, masks = found("random", count=400)
    scores = {name: value.mean() for name, value in localisation.scores(maps, masks).items()}
    assert scores["energy"] == pytest.approx(0.25, abs=0.02)
    assert scores["pointing"] == pytest.approx(0.25, abs=0.05)
    assert scores["pixel_auroc"] == pytest.approx(0.5, abs=0.03)
    for method in FLOORS:
        maps, masks = found(method)
        assert localisation.energy(maps, masks).mean() == pytest.approx(0.25, abs=0.06), method
