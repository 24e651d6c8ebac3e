"""Every method: that it learns, what it asks of an encoder, and that its state is complete."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tumorxai import config, methods
from tumorxai.errors import UserError
from tumorxai.networks import encoders, schedules, views

NAMES = config.method_names()
TRAINED = [name for name in NAMES if config.about(name).trains]
CLASSES = 3

VITS = [name for name in NAMES if config.about(name).vit]

# Small enough to run all of them in seconds.
SMALL: dict[str, dict[str, Any]] = {
    "barlow_twins": {"hidden": 64, "projection": 64},
    "byol": {"hidden": 64, "projection": 32},
    "dino": {"hidden": 64, "bottleneck": 32, "outputs": 64, "local_views": 2},
    "dinov2": {"hidden": 64, "bottleneck": 32, "outputs": 64, "local_views": 2},
    "joint": {"crop_min": 0.3},
    "lejepa": {"hidden": 64, "projection": 32, "slices": 64, "local_views": 2},
    "mae": {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2},
    "mocov3": {"hidden": 64, "projection": 32, "temperature": 0.2},
    "nnclr": {"hidden": 64, "predictor_hidden": 64, "projection": 32, "support": 24},
    "pretrained": {},
    "simclr": {"hidden": 64},
    "simsiam": {"hidden": 64, "projection": 64, "bottleneck": 32},
    "supcon": {"hidden": 64},
    "swav": {"hidden": 64, "projection": 32, "prototypes": 16, "local_views": 2, "queue": 24, "queue_start": 0.0},
    "vicreg": {"hidden": 64, "projection": 64},
}


@pytest.fixture(scope="session", autouse=True)
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A file of weights for the method that trains none."""
    file = tmp_path_factory.mktemp("published") / "test_resnet.safetensors"
    save_file(encoders.build(config.Model(backbone="test_resnet"), 3, 32).state_dict(), file)
    SMALL["pretrained"]["weights"] = str(file)
    yield
    del SMALL["pretrained"]["weights"]


def side(name: str) -> int:
    return 64 if name in VITS else 32


def build(name: str, backbone: str | None = None, **settings: object) -> Any:
    model = config.Model(backbone=backbone or ("test_vit" if name in VITS else "test_resnet"))
    encoder = encoders.build(model, 1, side(name))
    width = encoders.width(encoder, 1, side(name))
    return methods.load(name, encoder, width, {**SMALL.get(name, {}), **settings}, CLASSES)


def batch(method: Any, count: int = 16, size: int = 32) -> list[Tensor]:
    images = torch.randint(0, 256, (count, 1, size, size), dtype=torch.uint8)
    return [(views.draw(images, view, views.side(view, size)) - 0.5) / 0.25 for view in method.views()]


def labels(count: int = 16) -> Tensor:
    return torch.arange(count) % (CLASSES + 1) - 1


def train(method: Any, optimizer: torch.optim.Optimizer, drawn: list[Tensor], steps: range, of: int) -> list[float]:
    values = []
    for step in steps:
        torch.manual_seed(step)
        loss = method.loss(drawn, labels(), step / of)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step / of)
        values.append(loss.item())
    return values


@pytest.mark.parametrize("name", TRAINED)
def test_twenty_steps_lower_the_loss(name: str) -> None:
    still = {"momentum": 1.0, "center_momentum": 1.0} if name == "dinov2" else {}  # or its targets change, and the loss
    method = build(name, optimizer={"name": "adamw", "lr": 5e-2, "weight_decay": 0.0}, **still)
    optimizer = schedules.optimizer(method, method.optimizer, 16)
    values = train(method, optimizer, batch(method, size=side(name)), range(20), 20)
    assert np.mean(values[-3:]) < values[0] - 0.05 * abs(values[0])


@pytest.mark.parametrize("name", TRAINED)
def test_every_trained_parameter_gets_a_gradient(name: str) -> None:
    method = build(name)
    method.loss(batch(method, size=side(name)), labels(), 0.5).backward()
    without = [key for key, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize("name", TRAINED)
def test_the_state_is_all_that_a_method_remembers(name: str) -> None:
    """A method that goes on from a state does exactly what one does that was never interrupted."""
    method = build(name)
    drawn = batch(method, size=side(name))
    optimizer = schedules.optimizer(method, method.optimizer, 16)
    train(method, optimizer, drawn, range(3), 6)
    state, rest = copy.deepcopy(method.state_dict()), copy.deepcopy(optimizer.state_dict())
    expected = train(method, optimizer, drawn, range(3, 6), 6)
    again = build(name)
    again.load_state_dict(state)
    optimizer = schedules.optimizer(again, again.optimizer, 16)
    optimizer.load_state_dict(rest)
    assert train(again, optimizer, drawn, range(3, 6), 6) == expected
    for key, value in method.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


@pytest.mark.parametrize("name", NAMES)
def test_the_first_features_are_those_of_the_first_views(name: str) -> None:
    """Rows 0 to B - 1 belong to view 1, the next B to view 2: the monitors read them off."""
    method = build(name).double()
    drawn, seen = [view.double() for view in batch(method, size=side(name))], list[Tensor]()
    kept = methods.kept(method)
    kept.register_forward_hook(lambda *call: seen.append(call[2].detach()))
    for layer in kept.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()  # so that views may be encoded apart or together
    method.loss(drawn, labels(), 0.5)
    if seen:
        rows = torch.cat(seen)[:32]
        torch.testing.assert_close(rows, torch.cat([kept(view) for view in drawn[:2]]))
    else:
        assert name == "mae" or name not in TRAINED
    assert len(drawn) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_signals_are_detached_scalars(name: str) -> None:
    method = build(name)
    assert method.signals == {}
    method.loss(batch(method, size=side(name)), labels(), 0.5)
    for signal in method.signals.values():
        assert signal.ndim == 0
        assert not signal.requires_grad


@pytest.mark.parametrize("name", TRAINED)
def test_bf16_gives_nearly_the_same_loss(name: str) -> None:
    method = build(name).eval()  # dropout and batch statistics aside
    drawn = batch(method, size=side(name))
    found = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            found.append(copy.deepcopy(method).loss(drawn, labels(), 0.5))
    assert found[1].dtype == torch.float32
    torch.testing.assert_close(found[1], found[0], rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", [name for name in TRAINED if name not in VITS])
@pytest.mark.parametrize("backbone", ["test_vit", "test_convnext"])
def test_other_families_of_encoders(name: str, backbone: str) -> None:
    method = build(name, backbone)
    loss = method.loss(batch(method), labels(), 0.5)
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("name", NAMES)
def test_the_advice_against_a_collapse_names_parameters_that_exist(name: str) -> None:
    settings = import_module(f"tumorxai.methods.{name}").Config.model_fields
    for owner, field in re.findall(r"methods\.(\w+)\.(\w+)", getattr(build(name), "against_collapse", "")):
        assert owner == name
        assert field in settings


@pytest.mark.parametrize("name", NAMES)
def test_wrong_settings_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"methods.{name}.*\n.*tau: unknown parameter"):
        build(name, tau=0.1)


@pytest.mark.parametrize("name", TRAINED)
def test_the_views_can_be_changed_by_parameters(name: str) -> None:
    changed = build(name, crop_min=0.5, augment={"rotation": 20.0, "noise": 0.1}).views()
    assert all((view.rotation, view.noise) == (20.0, 0.1) for view in changed)
    if name != "mae":
        smaller = [view.size for view in build(name, augment={"size": 0.75}).views()]
        assert smaller == [0.75, 0.75, *(view.size for view in changed[2:])]
    assert all(view.crop[0] == 0.5 for view in changed[:2])


FOLLOWERS: Mapping[str, tuple[str, str]] = {
    "byol": ("target_encoder", "momentum"),
    "mocov3": ("key_encoder", "momentum"),
    "dino": ("teacher_encoder", "momentum"),
    "dinov2": ("teacher_encoder", "momentum"),
}


@pytest.mark.parametrize("name", FOLLOWERS)
def test_a_momentum_encoder_follows_and_takes_no_gradient(name: str) -> None:
    attribute, setting = FOLLOWERS[name]
    method = build(name, **{setting: 0.9})
    follower = getattr(method, attribute)
    before = [p.clone() for p in follower.parameters()]
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1.0)
    for progress in (0.0, 1.0):  # in the end the momentum has become 1: the follower stands still
        method.after_step(progress)
        for old, new in zip(before, follower.parameters(), strict=True):
            torch.testing.assert_close(new, old + 0.1)
            assert not new.requires_grad


@pytest.mark.parametrize("name", ["byol", "mocov3", "dino"])
def test_a_momentum_encoder_has_batch_statistics_of_its_own(name: str) -> None:
    """As BYOL's, DINO's and MoCo v3's authors have it: they come from what it sees, in training mode."""
    method = build(name, **{FOLLOWERS[name][1]: 0.5})
    follower, drawn = getattr(method, FOLLOWERS[name][0]), batch(method)
    alone = copy.deepcopy(follower)
    with torch.no_grad():
        for view in [torch.cat(drawn[:2])] if name == "dino" else drawn:
            alone(view)
    method.loss(drawn, labels(), 0.5)
    for _ in range(3):
        method.after_step(0.0)
    buffers = dict(alone.named_buffers())
    assert len(buffers) > 3
    for key, value in follower.named_buffers():
        torch.testing.assert_close(value, buffers[key])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_is_a_network_like_the_encoder(name: str) -> None:
    method = build(name)
    network = methods.kept(method)
    assert {key: value.shape for key, value in network.state_dict().items()} == {
        key: value.shape for key, value in method.encoder.state_dict().items()
    }
    assert (network is method.encoder) == (name not in ("dino", "dinov2"))


@pytest.mark.parametrize("name", ["simclr", "byol", "barlow_twins", "mocov3", "simsiam", "vicreg", "nnclr"])
def test_views_may_swap_their_roles(name: str) -> None:
    method = build(name).eval().double()
    drawn = [view.double() for view in batch(method)]
    with torch.no_grad():
        there, back = (copy.deepcopy(method).loss(order, labels(), 0.0) for order in (drawn, drawn[::-1]))
    torch.testing.assert_close(there, back)
