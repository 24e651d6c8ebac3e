"""Every score of faithfulness on classifiers that look at the top left quarter alone, so that the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence, IncreaseInConfidence
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torch import Tensor, nn

from tests.tolerance import rounding
from tumorxai.explain import faithfulness as f

SIZE = 32
QUARTER = torch.zeros(1, SIZE, SIZE)
QUARTER[:, : SIZE // 2, : SIZE // 2] = 1
ONE = torch.ones(1, dtype=torch.int64)


class Looks(nn.Module):
    """Class 1 by the mean of the top left quarter of ``x * what``: a switch at ``threshold``, or in proportion."""

    def __init__(self, what: Tensor | float = 1.0, threshold: float | None = 0.5) -> None:
        super().__init__()
        self.what, self.threshold = what, threshold

    def forward(self, x: Tensor) -> Tensor:
        seen = (x * self.what)[:, 0, : SIZE // 2, : SIZE // 2].mean(dim=(1, 2))
        if self.threshold is not None:
            return torch.stack([torch.zeros_like(seen), 200 * (seen - self.threshold)], dim=1)
        p = 0.1 + 0.8 * seen
        return torch.stack([(1 - p).log(), p.log()], dim=1)


def noise(count: int = 1) -> Tensor:
    return torch.rand(count, SIZE, SIZE, generator=torch.Generator().manual_seed(7))


def test_deletion_and_insertion() -> None:
    """Half of the quarter decides, that is an eighth of the image: insertion is near 7/8, its converse near 1/8."""
    image, dark = torch.ones(1, 1, SIZE, SIZE), torch.zeros(1, 1, SIZE, SIZE)
    for maps, insertion, deletion in (
        (QUARTER, 7 / 8, 1 / 8),
        (1 - QUARTER, 1 / 8, 7 / 8),
        (noise(), 1 / 2, 1 / 2),
        (torch.zeros(1, SIZE, SIZE), 1 / 2, 1 / 2),  # a flat map: pixels in random order
    ):
        removed, shown = f.curves(Looks(), image, ONE, maps, dark, steps=64)
        assert removed.shape == shown.shape == (1, 65)
        assert float(f.area(shown)) == pytest.approx(insertion, abs=0.02)
        assert float(f.area(removed)) == pytest.approx(deletion, abs=0.02)
    assert removed[0, 0] == shown[0, -1] == pytest.approx(1, abs=1e-4)
    assert removed[0, -1] == shown[0, 0] == pytest.approx(0, abs=1e-4)


def test_a_smaller_decisive_part_brings_insertion_near_one() -> None:
    image, dark = torch.ones(1, 1, SIZE, SIZE), torch.zeros(1, 1, SIZE, SIZE)
    _, shown = f.curves(Looks(threshold=0.05), image, ONE, QUARTER, dark, steps=64)
    assert float(f.area(shown)) > 0.97


def test_pixels_are_ranked_from_the_highest_down_and_ties_by_chance() -> None:
    maps = torch.tensor([[[0.1, 0.9], [0.5, 0.3]]])
    np.testing.assert_allclose(f.ranks(maps, 0)[0], [[0.75, 0.0], [0.25, 0.5]])
    flat = f.ranks(torch.zeros(2, 16, 16), seed=1)
    assert sorted(flat[0].flatten().tolist()) == [i / 256 for i in range(256)]
    assert not np.allclose(flat[0].flatten(), np.arange(256) / 256)
    assert not torch.equal(f.ranks(torch.zeros(2, 16, 16), seed=2), flat)


def test_the_blurred_baseline_keeps_the_mean_and_loses_the_detail() -> None:
    constant = torch.full((1, 1, SIZE, SIZE), 0.3)
    np.testing.assert_allclose(f.blurred(constant), constant, atol=rounding(torch.float32, SIZE, stages=3))
    rough = noise()[None]
    assert f.blurred(rough).std() < 0.1 * rough.std()
    point = torch.zeros(1, 1, SIZE, SIZE)
    point[..., 16, 16] = 1
    spread = f.blurred(point)[0, 0]
    assert float(spread.sum()) == pytest.approx(1, abs=rounding(torch.float32, SIZE, stages=4))
    assert spread[16, 20] / spread[16, 16] == pytest.approx(np.exp(-0.5 * (4 / (SIZE / 8)) ** 2), rel=1e-3)


def test_imputation_is_the_authors_system_solved() -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")
    image = torch.stack([torch.sin(3 * x) + y, torch.cos(4 * x * y)])[None] + 0.1 * noise(2)[None]
    for missing in (noise() < 0.3, QUARTER > 0, noise() < 0.8):
        got = f.impute(image, missing[None], most=2000)
        expected = NoisyLinearImputer(noise=0)(image[0], (~missing[0]).float())
        np.testing.assert_allclose(got[0], expected, atol=0.02)
        np.testing.assert_array_equal(got[0, :, ~missing[0]], image[0, :, ~missing[0]])


def test_road() -> None:
    """What decides is a pattern that nobody can fill in: with the best map its removal costs all, otherwise nothing."""
    pattern = 2.0 * (noise() > 0.5) - 1
    for maps, expected in ((QUARTER, 0.5), (1 - QUARTER, -0.5), (torch.zeros(1, SIZE, SIZE), 0.0)):
        got = f.road(Looks(pattern), pattern[None], ONE, maps + 1e-3 * noise(), (0.3, 0.5))
        assert float(got) == pytest.approx(expected, abs=0.02), maps.mean()


def test_average_drop_and_increase_are_pytorch_grad_cams() -> None:
    images, maps = 1 + 0.2 * noise(6)[:, None], torch.cat([QUARTER, 1 - QUARTER, noise(4)])
    targets = torch.ones(6, dtype=torch.int64)
    model = Looks(threshold=None)
    images = images / images[:, :, : SIZE // 2, : SIZE // 2].mean(dim=(2, 3), keepdim=True) * 0.9
    drop, increase = f.drop_and_increase(model, images, targets, maps)
    close = rounding(torch.float32, (SIZE // 2) ** 2, stages=4)  # a mean over the quarter, logarithms, softmax
    assert float(drop[0]) == pytest.approx(0, abs=close)
    assert float(drop[1]) == pytest.approx((0.82 - 0.1) / 0.82, abs=close)
    wanted = [ClassifierOutputSoftmaxTarget(1)] * 6
    full = f.probability(model, images, targets)
    peer = DropInConfidence()(images, maps.numpy(), wanted, model) / full.numpy()  # which leaves the division out
    np.testing.assert_allclose(drop, peer, atol=close)
    np.testing.assert_array_equal(increase[1:], IncreaseInConfidence()(images, maps.numpy(), wanted, model)[1:])


def test_increase() -> None:
    image = torch.ones(1, 1, SIZE, SIZE)
    image[..., : SIZE // 4, :] = -1  # speaks against the class: a map that hides it raises the probability
    hides = torch.ones(1, SIZE, SIZE)
    hides[:, : SIZE // 4] = 0
    assert f.drop_and_increase(Looks(threshold=0.3), image, ONE, hides)[1] == 1
    assert f.drop_and_increase(Looks(threshold=0.3), image, ONE, 1 - hides)[1] == 0


def test_sensitivity_n() -> None:
    image = torch.ones(1, 1, SIZE, SIZE)
    sets, drops = f.removals(Looks(threshold=None), image, ONE, samples=200)
    assert sets.shape == (200, 64)
    np.testing.assert_array_equal(sets.sum(dim=1), np.full(200, 16))
    assert float(f.sensitivity_n(QUARTER, sets, drops)) == pytest.approx(1, abs=1e-4)
    assert float(f.sensitivity_n(1 - QUARTER, sets, drops)) == pytest.approx(-1, abs=1e-4)
    assert abs(float(f.sensitivity_n(noise(), sets, drops))) < 0.3
    assert f.sensitivity_n(torch.zeros(1, SIZE, SIZE), sets, drops) == 0
    bottom = torch.zeros(1, SIZE, SIZE)
    bottom[:, SIZE // 2 :] = 1
    assert abs(float(f.sensitivity_n(bottom, sets, drops))) < 0.6


@pytest.mark.parametrize("together", [1, 7, 1000])
def test_changes_that_share_a_batch_have_each_their_answer(together: int) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    images, targets = torch.randn(3, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 2, 1])
    changed = [images * factor for factor in (0.0, 0.5, 1.0, 2.0, -1.0)]
    found = f.probabilities(model, iter(changed), targets, together)
    assert len(found) == 5
    for one, x in zip(found, changed, strict=True):
        expected = model(x).softmax(dim=1)[torch.arange(3), targets]
        torch.testing.assert_close(one, expected, rtol=rounding(torch.float64, 64, stages=3), atol=0)
