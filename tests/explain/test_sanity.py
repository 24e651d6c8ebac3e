"""Stability and the sanity checks: copies of a classifier that have forgotten, and comparisons of maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tests.explain.test_cams import Classifier
from tumorxai.explain import sanity, stability
from tumorxai.explain.explainer import Explainer


def test_rank_correlation_is_scipys() -> None:
    first, second = torch.rand(4, 8, 8), torch.rand(4, 8, 8).round(decimals=1)  # with ties
    first[3] = 0.5
    got = stability.rank_correlation(first, second)
    for i in range(3):
        assert got[i] == pytest.approx(spearmanr(first[i].flatten(), second[i].flatten()).statistic)
    assert np.isnan(got[3])
    np.testing.assert_allclose(stability.rank_correlation(second, 1 - second), -np.ones(4))


def test_agreement_is_symmetric_and_leaves_flat_maps_out() -> None:
    maps = {"a": torch.rand(3, 8, 8), "b": torch.rand(3, 8, 8), "flat": torch.zeros(3, 8, 8)}
    table = stability.agreement(maps)
    assert table["a"]["b"] == table["b"]["a"] == pytest.approx(stability.rank_correlation(maps["a"], maps["b"]).mean())
    assert table["a"]["a"] == pytest.approx(1)
    assert table["a"]["flat"] is None
    assert list(table) == list(table["b"]) == list(maps)


def test_max_sensitivity() -> None:
    """The centre never moves; the random floor is drawn by the image's content, so noise changes it altogether.

    The largest of three changes then exceeds the distance of two images by 0.85 standard deviations on average, a mean
    over 200 images knows it to 0.1: whatever the last digit of the content draws, it is seen.
    """
    model = Classifier("test_resnet", 32)
    images, targets = torch.randn(200, 1, 32, 32), torch.zeros(200, dtype=torch.int64)
    explainer = Explainer.of(model, images[:1])
    maps = explainer.maps(images, targets, "random")
    changes = stability.max_sensitivity(explainer, images, targets, "random", maps, samples=3)
    assert changes.mean() > stability.other_image(maps).mean()
    images, targets, found = images[:6], targets[:6], {}
    for method in ("centre", "uniform", "grad_cam"):
        maps = explainer.maps(images, targets, method)
        found[method] = stability.max_sensitivity(explainer, images, targets, method, maps, samples=3)
    assert (found["centre"] == 0).all()
    assert np.isnan(found["uniform"]).all()
    assert (found["grad_cam"] > 0).all()
    again = stability.max_sensitivity(
        explainer, images, targets, "grad_cam", explainer.maps(images, targets, "grad_cam"), 3
    )
    np.testing.assert_array_equal(again, found["grad_cam"])


@pytest.mark.parametrize("name", ["test_resnet", "vit_tiny_patch16_224"])
def test_the_cascade_goes_from_the_head_to_the_input(name: str) -> None:
    model = Classifier(name, 64, **({"depth": 3} if "vit" in name else {}))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    made = sanity.cascade(model, stages=3)
    assert made[0][0] == "head"
    assert len(made) == 4
    changed = [
        {key for key, value in copy.state_dict().items() if not torch.equal(value, before[key])} for _, copy in made
    ]
    assert changed[0] == {"head.weight", "head.bias"}
    assert changed[0] < changed[1] < changed[2] < changed[3]
    first = next(key for key in before if key.endswith("weight") and before[key].ndim == 4)
    assert first not in changed[2]
    assert first in changed[3]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for key in changed[3]:  # shuffled, not drawn
        assert torch.equal(made[-1][1].state_dict()[key].flatten().sort()[0], before[key].flatten().sort()[0])


def test_a_map_that_does_not_read_the_head_survives_its_randomisation() -> None:
    model = Classifier("test_resnet", 64)
    images, targets = torch.randn(6, 1, 64, 64), torch.zeros(6, dtype=torch.int64)
    explainer = Explainer.of(model, images[:1])
    head = explainer.of_copy(sanity.cascade(model, 2)[0][1])
    everything = explainer.of_copy(sanity.cascade(model, 2)[-1][1])
    for method, survives in (("eigen_cam", True), ("edges", True), ("grad_cam", False)):
        maps = explainer.maps(images, targets, method)
        similar = stability.rank_correlation(head.maps(images, targets, method), maps)
        assert (similar.mean() > 0.99) == survives, method
        end = stability.rank_correlation(everything.maps(images, targets, method), maps)
        assert (end.mean() > 0.99) == (method == "edges"), method


def test_random_labels_change_the_head_alone() -> None:
    model = Classifier("test_resnet", 32)
    images = torch.randn(60, 1, 32, 32)
    changed = sanity.random_labels(model, images, classes=3, seed=1)
    for key, value in changed.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]) == (not key.startswith("head")), key
    with torch.no_grad():
        said = changed(images).argmax(dim=1)
    labels = torch.randperm(60, generator=torch.Generator().manual_seed(1)) % 3
    assert (said == labels).float().mean() > 0.6  # more features than images: it has learned them


def test_the_other_class_is_the_second_most_probable() -> None:
    model = Classifier("test_resnet", 32)
    images = torch.randn(5, 1, 32, 32)
    with torch.no_grad():
        order = model(images).argsort(dim=1, descending=True)
    assert torch.equal(sanity.runner_up(model, images, order[:, 0]), order[:, 1])
    assert torch.equal(sanity.runner_up(model, images, order[:, 2]), order[:, 0])
