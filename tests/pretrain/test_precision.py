"""What is asked for as precision is what networks compute in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.pretrain.test_graphs import made
from tests.train import test_recorded
from tumorxai import config

ASKED = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}


def computed(network: nn.Module) -> set[torch.dtype]:
    """What the network's layers will have computed in, filled as they are called."""
    seen: set[torch.dtype] = set()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, given, output: seen.add(output.dtype))
    return seen


@pytest.mark.parametrize("precision", ASKED)
@pytest.mark.parametrize("name", ["simclr", "byol", "nnclr", "mocov3", "barlow_twins", "vicreg", "supcon", "joint"])
def test_pretraining_computes_in_the_precision_that_is_asked_for(
    params: config.Params, name: str, precision: str
) -> None:
    """Fabric wraps no module on one device, and a method that it only marks would run in float32 there."""
    loop = made(params, name, precision=precision)
    seen = computed(loop.method)
    loop.method.train()
    loop.step(0)
    assert seen == {ASKED[precision]}
    assert loop.epoch.losses[0].isfinite()
    assert {parameter.dtype for parameter in loop.method.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ASKED)
def test_end_to_end_training_computes_in_the_precision_that_is_asked_for(
    params: config.Params, toy: Path, precision: str
) -> None:
    one = test_recorded.made(params, toy, precision=precision)
    seen = computed(one.classifier)
    one._begin(0)
    one._step(0)
    assert seen == {ASKED[precision]}
    assert one.losses[0].isfinite()
