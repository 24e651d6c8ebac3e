"""Views: range, shape, and that each operation does what its name says."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.tolerance import rounding
from tumorxai.networks import views
from tumorxai.networks.views import View


def images(count: int = 6, channels: int = 1, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8)


PLACE = 32 / 2 * rounding(torch.float32, 6)  # of the place, in pixels, that a pixel is taken from
RECIPES = {name: value for name, value in vars(views).items() if isinstance(value, View)}
EVERYTHING = View(
    crop=(0.1, 1), rotation=180, jitter=1, brightness=0.5, contrast=0.5, shift=0.3, gamma=1, blur=1, solarise=1, noise=1
)


@pytest.mark.parametrize("view", [*RECIPES.values(), EVERYTHING], ids=[*RECIPES, "EVERYTHING"])
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_range(view: View, channels: int) -> None:
    drawn = views.draw(images(channels=channels), view, 24)
    assert drawn.shape == (6, channels, 24, 24)
    assert drawn.dtype == torch.float32
    assert 0 <= drawn.min() <= drawn.max() <= 1 + rounding(torch.float32, 10)


def test_the_images_stay_as_they_are() -> None:
    x = images()
    before = x.clone()
    views.draw(x, EVERYTHING, 32)
    assert torch.equal(x, before)


def test_the_plain_view_is_the_image() -> None:
    x = images()
    drawn = views.draw(x, View(horizontal_flip=0, ratio=(1, 1)), 32)
    torch.testing.assert_close(drawn, x / 255, atol=PLACE, rtol=0)


def test_flip() -> None:
    x = images()
    drawn = views.draw(x, View(horizontal_flip=1, ratio=(1, 1)), 32)
    torch.testing.assert_close(drawn, (x / 255).flip(-1), atol=PLACE, rtol=0)


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


@pytest.mark.parametrize("crop", [(1.0, 1.0), (0.3, 1.0), (0.08, 0.5)])
def test_a_crop_has_its_area_and_an_aspect_that_fits(crop: tuple[float, float]) -> None:
    area = torch.empty(2000).uniform_(*crop)
    aspect = views._aspect(area, (3 / 4, 4 / 3))
    room = rounding(torch.float32, 4)
    assert torch.sqrt(area * aspect).max() <= 1 + room
    assert torch.sqrt(area / aspect).max() <= 1 + room
    assert 3 / 4 - room <= aspect.min() <= aspect.max() <= 4 / 3 + room
    if crop[0] == 1.0:
        assert torch.equal(aspect, torch.ones(2000))
    else:
        small = aspect[area < 3 / 4].log()  # they fit at every ratio: uniform in the logarithm
        assert small.mean().abs() < 0.05
        assert small.std() == pytest.approx(2 * np.log(4 / 3) / np.sqrt(12), rel=0.1)


def test_blur_equals_a_direct_convolution_and_keeps_constants() -> None:
    x = torch.rand(3, 2, 20, 20)
    sigma = torch.tensor([0.5, 1.0, 1.7])
    radius = int(np.ceil(2.5 * 1.7))
    blurred = views._blur(x, sigma, radius)
    torch.testing.assert_close(views._blur(torch.ones(3, 2, 20, 20), sigma, radius), torch.ones(3, 2, 20, 20))
    offsets = np.arange(-radius, radius + 1)
    for i in range(3):
        k = np.exp(-0.5 * (offsets / float(sigma[i])) ** 2)
        k /= k.sum()
        padded = np.pad(x[i, 1].numpy().astype(np.float64), radius, mode="reflect")
        expected = sum(k[a] * k[b] * padded[a : a + 20, b : b + 20] for a in range(len(k)) for b in range(len(k)))
        np.testing.assert_allclose(
            blurred[i, 1].numpy(), expected, atol=rounding(torch.float32, 2 * radius + 1, stages=3)
        )


def test_a_sigma_of_zero_blurs_nothing() -> None:
    """On a device that must not be waited for, images that are not chosen are blurred so."""
    x = torch.rand(2, 1, 20, 20)
    torch.testing.assert_close(views._blur(x, torch.tensor([0.0, 1.0]), 3)[0], x[0], atol=0, rtol=0)


def test_blur_reaches_its_share_of_the_images() -> None:
    x = images(400, size=16)
    plain = View(horizontal_flip=0, ratio=(1, 1))
    drawn = views.draw(x, replace(plain, blur=0.3, blur_sigma=(14, 14)), 16)
    changed = (drawn - x / 255).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert 0.2 < changed.float().mean() < 0.4


def test_a_small_view_is_blurred_as_much_as_a_large_one() -> None:
    """The papers' sigmas are pixels of the drawn view, at whatever crop."""
    bright = torch.zeros(1, 1, 65, 65, dtype=torch.uint8)
    bright[..., 32, 32] = 255
    spread = []
    for size in (65, 33):
        view = View(size=size / 65, horizontal_flip=0, ratio=(1, 1), blur=1, blur_sigma=(6, 6))
        x = views.draw(torch.ones_like(bright) * bright, view, size)[0, 0]
        offset = torch.arange(size) - size // 2
        spread.append(float((x.sum(dim=0) * offset**2).sum() / x.sum()))
    assert spread[0] == pytest.approx((6 * 65 / 224) ** 2, rel=0.15)
    assert spread[1] == pytest.approx(spread[0], rel=0.15)


def test_gamma_keeps_black_white_and_order() -> None:
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(32, 1, 1, 1)
    drawn = views.draw(x, View(horizontal_flip=0, ratio=(1, 1), jitter=1, gamma=1.0), 16).flatten(1)
    close = 2 * rounding(torch.float32, 2)  # the exponent is up to 2
    assert drawn[:, 0].max() < close
    torch.testing.assert_close(drawn[:, -1], torch.ones(32), atol=close, rtol=0)
    assert (drawn.diff(dim=1) > -close).all()
    exponents = (drawn[:, 128].log() / np.log(128 / 255)).sort().values
    assert 0.5 - 1e-3 < exponents[0] < 0.7
    assert 1.5 < exponents[-1] < 2 + 1e-3


def test_shift_moves_all_pixels_of_an_image_alike() -> None:
    x = torch.full((64, 1, 8, 8), 128, dtype=torch.uint8)
    drawn = views.draw(x, View(horizontal_flip=0, ratio=(1, 1), jitter=1, shift=0.2), 8) - 128 / 255
    assert drawn.std(dim=(1, 2, 3)).max() < rounding(torch.float32, 4)
    assert drawn.min() < -0.15
    assert 0.15 < drawn.max() <= 0.2 + rounding(torch.float32, 4)


def test_noise_is_drawn_anew_for_each_pixel_and_of_a_strength_for_each_image() -> None:
    x = torch.full((64, 1, 32, 32), 128, dtype=torch.uint8)
    drawn = views.draw(x, View(horizontal_flip=0, ratio=(1, 1), noise=0.1), 32) - 128 / 255
    strength = drawn.std(dim=(1, 2, 3))
    assert drawn.mean().abs() < 0.002
    assert strength.min() < 0.02
    assert 0.08 < strength.max() < 0.11


def test_parameters_change_a_view() -> None:
    changed = views.adapt(views.SIMCLR, 0.3, views.Augment(rotation=15, noise=0.1, blur=0.0))
    assert changed == replace(views.SIMCLR, crop=(0.3, 1.0), rotation=15, noise=0.1, blur=0.0)
    assert views.side(views.adapt(views.SIMCLR, 0.3, views.Augment(size=0.75)), 64) == 48
    for wrong in ({"rotation": 181}, {"size": 0.0}, {"size": 1.5}):
        with pytest.raises(ValidationError):
            views.Augment.model_validate(wrong)


def test_every_change_has_its_field_in_a_view() -> None:
    assert set(views.Augment.model_fields) <= {field.name for field in fields(View)}


def test_a_side_is_its_share_of_the_pack() -> None:
    assert [views.side(view, 224) for view in (views.SIMCLR, views.DINO_LOCAL)] == [224, 96]
    assert [views.side(View(size=0.1, least=32), full) for full in (400, 224, 16)] == [40, 32, 16]


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
