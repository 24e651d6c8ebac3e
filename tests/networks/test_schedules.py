"""Schedules at the points where their value is known."""

from __future__ import annotations

import math

import pytest
from torch import nn

from tumorxai import config
from tumorxai.networks import schedules


def test_warmup_cosine() -> None:
    assert schedules.warmup_cosine(4, 100, 10) == 0.5
    assert schedules.warmup_cosine(9, 100, 10) == schedules.warmup_cosine(10, 100, 10) == 1
    assert schedules.warmup_cosine(55, 100, 10) == pytest.approx(0.5)
    assert schedules.warmup_cosine(1, 100, 0) < schedules.warmup_cosine(0, 100, 0) == 1


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (3, 0), (10, 2), (10, 2.5), (4, 4), (5, 50)])
def test_every_step_learns_and_none_learns_more_than_the_peak(steps: int, warmup: float) -> None:
    factors = [schedules.warmup_cosine(step, steps, warmup) for step in range(steps)]
    assert 0 < min(factors) <= max(factors) <= 1
    peak = factors.index(max(factors))
    assert sorted(factors[: peak + 1]) == factors[: peak + 1]
    assert sorted(factors[peak:], reverse=True) == factors[peak:]
    if warmup < steps:  # the last step is one before the cosine's end
        assert factors[-1] == pytest.approx(0.5 + 0.5 * math.cos(math.pi * (steps - 1 - warmup) / (steps - warmup)))


@pytest.mark.parametrize("warmup", [0, 4])
def test_a_constant_rate_stays_at_its_peak(warmup: float) -> None:
    factors = [schedules.factor(step, 20, warmup, "constant") for step in range(20)]
    assert factors[:4] == ([0.25, 0.5, 0.75, 1.0] if warmup else [1.0] * 4)
    assert set(factors[4:]) == {1.0}
    assert schedules.factor(7, 20, warmup, "cosine") == schedules.warmup_cosine(7, 20, warmup)


def test_teacher_momentum() -> None:
    assert schedules.momentum(0.996, 0) == pytest.approx(0.996)
    assert schedules.momentum(0.996, 0.5) == pytest.approx(0.998)
    assert schedules.momentum(0.996, 1) == 1


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw", "adam"])
def test_optimizer_scales_with_the_batch_and_spares_biases_and_norms(name: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    momentum = 0.9 if name in ("lars", "sgd") else None
    settings = config.Optimizer(name=name, lr=0.2, weight_decay=0.1, momentum=momentum)
    built = schedules.optimizer(model, settings, 128)
    decay = {p: group["weight_decay"] for group in built.param_groups for p in group["params"]}
    assert built.defaults.get("fused", False) == (name != "lars")
    assert {group["lr"] for group in built.param_groups} == {0.1}
    assert decay[model[0].weight] == 0.1
    assert decay[model[0].bias] == decay[model[1].weight] == decay[model[1].bias] == 0
    built = schedules.optimizer(model, settings.model_copy(update={"decay_all": True}), 128)
    assert {group["weight_decay"] for group in built.param_groups} == {0.1}
    assert sum(len(group["params"]) for group in built.param_groups) == 4
