"""Views: range, shape, and that each operation does what its name says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tumorxai import views
from tumorxai.views import View


def images(count: int = 6, channels: int = 1, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8)


@pytest.mark.parametrize("view", [views.SIMCLR, views.BYOL_1, views.BYOL_2, views.SUPERVISED])
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_range(view: View, channels: int) -> None:
    drawn = views.draw(images(channels=channels), view, 24)
    assert drawn.shape == (6, channels, 24, 24)
    assert drawn.dtype == torch.float32
    assert 0 <= drawn.min() <= drawn.max() <= 1 + 1e-6


def test_the_plain_view_is_the_image() -> None:
    x = images()
    drawn = views.draw(x, View(horizontal_flip=0, ratio=(1, 1)), 32)
    torch.testing.assert_close(drawn, x / 255, atol=1e-5, rtol=0)


def test_flip() -> None:
    x = images()
    drawn = views.draw(x, View(horizontal_flip=1, ratio=(1, 1)), 32)
    torch.testing.assert_close(drawn, (x / 255).flip(-1), atol=1e-5, rtol=0)


def test_rotation_by_a_right_angle_keeps_a_disc_and_turns_a_bar() -> None:
    y, x = torch.meshgrid(torch.arange(33), torch.arange(33), indexing="ij")
    bar = (((x - 16).abs() < 3) & ((y - 16).abs() < 12)).to(torch.uint8)[None, None] * 255
    turned = [views.draw(bar, View(horizontal_flip=0, ratio=(1, 1), rotation=90.0), 33) for _ in range(40)]
    assert any(torch.linalg.vector_norm(t - bar.mT / 255) < 6 for t in turned)
    assert all(abs(float(t.sum()) - float(bar.sum()) / 255) < 8 for t in turned)


def test_crops_show_the_stated_share_inside_the_image() -> None:
    """A linear ramp tells where each corner of the crop lies."""
    ramp = torch.linspace(0, 255, 64).round().to(torch.uint8)
    x = ramp.expand(256, 1, 64, 64).contiguous()
    drawn = views.draw(x, View(crop=(0.25, 0.25), ratio=(1, 1), horizontal_flip=0), 64)
    width = (drawn[..., -1] - drawn[..., 0])[:, 0, 0]
    assert width.min() > 0.46
    assert width.max() < 0.52
    assert drawn[:, 0, 0, 0].std() > 0.1


def test_blur_equals_a_direct_convolution_and_keeps_constants() -> None:
    x = torch.rand(3, 2, 20, 20)
    sigma = torch.tensor([0.5, 1.0, 1.7])
    blurred = views._blur(x, sigma)
    torch.testing.assert_close(views._blur(torch.ones(3, 2, 20, 20), sigma), torch.ones(3, 2, 20, 20))
    radius = int(np.ceil(2.5 * 1.7))
    offsets = np.arange(-radius, radius + 1)
    for i in range(3):
        k = np.exp(-0.5 * (offsets / float(sigma[i])) ** 2)
        k /= k.sum()
        padded = np.pad(x[i, 1].numpy().astype(np.float64), radius, mode="reflect")
        expected = sum(k[a] * k[b] * padded[a : a + 20, b : b + 20] for a in range(len(k)) for b in range(len(k)))
        np.testing.assert_allclose(blurred[i, 1].numpy(), expected, atol=1e-5)


def test_solarise_inverts_the_bright_half() -> None:
    x = images()
    drawn = views.draw(x, View(horizontal_flip=0, ratio=(1, 1), solarise=1.0), 32)
    expected = torch.where(x / 255 >= 0.5, 1 - x / 255, x / 255)
    assert (drawn - expected).abs().median() < 1e-4


def test_jitter_changes_images_one_by_one() -> None:
    x = torch.full((64, 1, 16, 16), 100, dtype=torch.uint8)
    drawn = views.draw(x, View(horizontal_flip=0, ratio=(1, 1), jitter=0.5, brightness=0.5), 16)
    levels = drawn[:, 0, 8, 8]
    untouched = (levels - 100 / 255).abs() < 1e-5
    assert 0.25 < untouched.float().mean() < 0.75
    assert levels[~untouched].std() > 0.05


def test_the_same_seed_draws_the_same_views() -> None:
    x = images()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(views.draw(x, views.BYOL_2, 32))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_statistics_are_those_of_the_pixels() -> None:
    x = images(700, size=8).numpy()
    mean, std = views.statistics(x)
    assert mean == pytest.approx(x.mean() / 255, abs=1e-12)
    assert std == pytest.approx(x.std() / 255, abs=1e-12)
