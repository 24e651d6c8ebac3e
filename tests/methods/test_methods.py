"""Every method: its loss against a naive oracle, what it is blind to, and that it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from torch import Tensor

from tumorxai import config, encoders, methods, schedules, views
from tumorxai.errors import UserError

NAMES = config.method_names()


def build(name: str, **settings: object) -> torch.nn.Module:
    encoder = encoders.build(config.Model(backbone="test_resnet"), 1, 32)
    return methods.load(name, encoder, encoders.width(encoder, 1, 32), settings)


def batch(method: torch.nn.Module, count: int = 16) -> list[Tensor]:
    images = torch.randint(0, 256, (count, 1, 32, 32), dtype=torch.uint8)
    return [(views.draw(images, view, 32) - 0.5) / 0.25 for view in method.views()]


@pytest.mark.parametrize("name", NAMES)
def test_twenty_steps_lower_the_loss(name: str) -> None:
    method = build(name, optimizer={"name": "adamw", "lr": 1e-2, "weight_decay": 0.0})
    optimizer = schedules.optimizer(method, method.optimizer, 16)
    drawn, labels = batch(method), torch.full((16,), -1)
    values = []
    for step in range(20):
        loss = method.loss(drawn, labels, step / 20)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step((step + 1) / 20)
        values.append(loss.item())
    assert np.mean(values[-3:]) < values[0] - 0.05 * abs(values[0])


@pytest.mark.parametrize("name", NAMES)
def test_every_trained_parameter_gets_a_gradient(name: str) -> None:
    method = build(name)
    method.loss(batch(method), torch.full((16,), -1), 0.0).backward()
    without = [key for key, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize("name", NAMES)
def test_wrong_settings_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"methods.{name}.*\n.*tau: unknown parameter"):
        build(name, tau=0.1)


def test_nt_xent_equals_the_reference(golden: Path) -> None:
    data = np.load(golden / "losses.npz", allow_pickle=False)
    keys = [key for key in data.files if "xent" in key and key.endswith("tau01_loss")]
    assert keys
    for key in keys:
        prefix = key.removesuffix("tau01_loss")
        z1, z2 = (torch.from_numpy(data[f"{prefix}z{i}"]).requires_grad_() for i in (1, 2))
        loss = NTXentLoss(temperature=0.1)(z1, z2)
        loss.backward()
        assert loss.item() == pytest.approx(float(data[key]), abs=1e-9)
        np.testing.assert_allclose(z1.grad, data[f"{key}_grad_z1"], atol=1e-9)
        np.testing.assert_allclose(z2.grad, data[f"{key}_grad_z2"], atol=1e-9)


def test_nt_xent_equals_two_loops() -> None:
    z1, z2 = torch.randn(2, 5, 7, dtype=torch.float64)
    z = torch.cat([z1, z2])
    total = 0.0
    for i in range(10):
        s = [float(torch.cosine_similarity(z[i], z[k], dim=0)) / 0.5 for k in range(10)]
        total -= s[(i + 5) % 10] - np.log(sum(np.exp(s[k]) for k in range(10) if k != i))
    assert float(NTXentLoss(temperature=0.5)(z1, z2)) == pytest.approx(total / 10, abs=1e-9)


def test_byol_loss_equals_the_reference(golden: Path) -> None:
    data = np.load(golden / "losses.npz", allow_pickle=False)
    criterion = NegativeCosineSimilarity()
    keys = [key for key in data.files if key.startswith("byol") and key.endswith("_loss") and "paper" not in key]
    assert keys
    for key in keys:
        prefix = key.removesuffix("loss")
        p1, p2, z1, z2 = (torch.from_numpy(data[f"{prefix}{name}"]) for name in ("p1", "p2", "z1", "z2"))
        value = 0.5 * (criterion(p1, z2) + criterion(p2, z1))
        assert value.item() == pytest.approx(float(data[key]), abs=1e-9)


def test_byol_target_follows_and_takes_no_gradient() -> None:
    method = build("byol", momentum=0.9)
    before = [p.clone() for p in method.target_encoder.parameters()]
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1.0)
    method.after_step(0.0)
    for old, new in zip(before, method.target_encoder.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)
        assert not new.requires_grad
    method.after_step(1.0)  # tau has become 1: the target stands still
    for old, new in zip(before, method.target_encoder.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)


def test_byol_is_blind_to_the_order_of_its_views_when_they_swap_roles() -> None:
    method = build("byol").eval()
    drawn = batch(method)
    with torch.no_grad():
        there, back = (method.loss(order, torch.empty(0), 0.0) for order in (drawn, drawn[::-1]))
    torch.testing.assert_close(there, back)
