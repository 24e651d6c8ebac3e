"""An augmentation that is switched off is off, for every method and preset; and what is on changes its share."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from tumorxai import config, methods
from tumorxai.networks import encoders, unchanged, views
from tumorxai.networks.views import View

ROOT = Path(__file__).resolve().parents[2]
PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))
TRAINED = [name for name in config.method_names() if config.about(name).trains]
ALL_OFF = dict.fromkeys(views.Augment.model_fields, 0.0) | {"size": 1.0}
COUNT = 400
FAR = 5 * (0.25 / COUNT) ** 0.5  # five standard errors of a share, at most


def images(count: int = COUNT) -> torch.Tensor:
    return torch.randint(0, 256, (count, 1, 64, 64), dtype=torch.uint8)


def recipes(preset: str, name: str, **changes: Any) -> list[View]:
    """What a method is shown under a preset, its large crops where it has small ones as well, at the image's size."""
    block = config.preset(ROOT / f"presets/{preset}.yaml")["methods"][name]
    encoder = encoders.build(config.Model(backbone="test_vit" if config.about(name).vit else "test_resnet"), 1, 64)
    drawn: list[View] = methods.load(name, encoder, 8, {**block, **changes}, 2).views()
    return [replace(view, size=1.0) for view in drawn[:2]]


@pytest.mark.parametrize(("preset", "name"), list(product(PRESETS, TRAINED)))
def test_with_all_off_every_view_is_the_image(preset: str, name: str) -> None:
    several = {"local_views": 0} if name in ("dino", "swav") else {}
    off = recipes(preset, name, crop_min=1.0, augment=ALL_OFF, **several)
    assert len(off) == 2
    for view in off:
        assert unchanged.shares(view, images(50)) == dict.fromkeys([*unchanged.OFF, "all"], 1.0)


@pytest.mark.parametrize(("preset", "name"), list(product(PRESETS, TRAINED)))
def test_each_augmentation_changes_the_share_that_its_probability_says(preset: str, name: str) -> None:
    for view in dict.fromkeys(recipes(preset, name)):
        found = unchanged.shares(view, images())
        assert found["crop"] == (1.0 if view.crop[0] == 1 else pytest.approx(0.0, abs=FAR))
        assert found["mirror"] == pytest.approx(1 - view.horizontal_flip, abs=FAR)
        # A weak change is none: most sigmas of a blur of 64 px are far below a pixel.
        assert found["blur"] >= 1 - view.blur - FAR
        assert found["intensity"] == pytest.approx(1 - view.jitter, abs=FAR)
        assert found["solarise"] == pytest.approx(1 - view.solarise, abs=FAR)
        assert found["rotation"] == found["noise"] == 1.0
        assert found["all"] <= min(found.values())


@pytest.mark.parametrize("name", ["simclr", "barlow_twins", "nnclr", "joint"])
def test_firildaks_views_are_the_image_or_its_mirror(name: str) -> None:
    x = images(100)
    for view in recipes("firildak", name):
        assert view.horizontal_flip == 0.5
        drawn = views.draw(x, view, 64)
        apart = [(drawn - other / 255).abs().amax(dim=(1, 2, 3)) for other in (x, x.flip(-1))]
        assert (torch.minimum(*apart) <= unchanged.LEVEL).all()


def test_each_change_is_switched_off_somewhere() -> None:
    """A new field of a view must be told how it is switched off."""
    off = {field for changes in unchanged.OFF.values() for field in changes}
    of_jitter, of_others = {"brightness", "contrast", "shift", "gamma"}, {"ratio", "blur_sigma", "least"}
    assert {field.name for field in fields(View)} == off | of_jitter | of_others


@pytest.mark.parametrize("change", [{"rotation": 10.0}, {"noise": 0.1}, {"jitter": 1.0, "gamma": 0.5}])
def test_what_only_parameters_switch_on_is_counted(change: dict[str, float]) -> None:
    view = View(horizontal_flip=0.0, **change)  # type: ignore[arg-type]
    found = unchanged.shares(view, images(100))
    assert found["all"] < 0.2
    assert sorted(found.values())[2:] == [1.0] * (len(found) - 2)


def test_a_smaller_view_is_never_the_image() -> None:
    assert unchanged.share(View(size=0.5, horizontal_flip=0.0), images(4)) == 0.0


def test_the_generator_is_left_as_it_is() -> None:
    x, state = images(4), torch.random.get_rng_state()
    unchanged.shares(views.BYOL_1, x)
    assert torch.equal(state, torch.random.get_rng_state())
