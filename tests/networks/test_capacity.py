"""How many images go through a network at once."""

from __future__ import annotations

import torch
from torch import nn

from tumorxai.networks import capacity


def test_they_take_half_of_the_free_memory_within_bounds() -> None:
    assert capacity.fitting(1e6, 2e9) == 1000
    assert capacity.fitting(1e9, 2e9) == capacity.TRIED
    assert capacity.fitting(1.0, 2e9) == capacity.MOST
    assert capacity.fitting(0.0, 2e9) == capacity.MOST


def test_off_a_gpu_nothing_is_tried() -> None:
    calls: list[torch.Tensor] = []
    model = nn.Identity()
    model.register_forward_hook(lambda *given: calls.append(given[2]))
    assert capacity.at_once(model, torch.zeros(1, 1, 4, 4), 8) == 8
    assert not calls
