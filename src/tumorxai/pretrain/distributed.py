"""One run over several processes: who takes part, and what they share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.networks import engine, losses


def launch(settings: config.Pretrain) -> Fabric:
    """Join the run: under torchrun or `fabric run` as they say, else start the processes that the parameters ask for.

    Raises:
        UserError: the machine does not have what was asked for, or the batch does not divide among the processes.
    """
    by_fabric_run = "LT_CLI_USED" in os.environ  # its options are in the environment, where Fabric finds them
    if by_fabric_run:
        size: dict[str, Any] = {}
    elif torch.distributed.is_torchelastic_launched():
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        size = {"devices": local, "num_nodes": world // local}
    else:
        size = {"devices": settings.devices, "num_nodes": settings.nodes}
    try:
        fabric = Fabric(accelerator="auto", precision=engine.precision(settings.precision), **size)
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise UserError(
            f"got pretrain.devices {settings.devices}, pretrain.nodes {settings.nodes}, pretrain.precision "
            f"{settings.precision}; this machine and launcher refuse them: {error}"
        ) from None
    if not by_fabric_run:  # which has done so
        fabric.launch()
    parts = fabric.world_size * settings.accumulate
    if settings.batch_size % parts or settings.batch_size // parts < 2:
        raise UserError(
            f"got pretrain.batch_size {settings.batch_size} for {fabric.world_size} processes x {settings.accumulate} "
            "accumulated parts; expected equal parts of at least 2 images; change pretrain.batch_size"
        )
    return fabric


def reduce(fabric: Fabric, value: Tensor, how: Literal["mean", "sum"]) -> Tensor:
    """Mean or sum over all processes, the same in each."""
    return cast(Tensor, fabric.all_reduce(value, reduce_op=how))


def synchronise_batch_norm(fabric: Fabric, module: Any) -> Any:
    """Let batch normalisation use the statistics of the batch over all processes.

    PyTorch can do so on GPUs alone. On the CPU, where several processes serve to test what runs on many GPUs, each
    process normalises the gathered batch and keeps its own rows: exact, at the price of everyone doing all the work.
    """
    if fabric.world_size == 1:
        return module
    if fabric.device.type == "cuda":
        return convert_sync_batchnorm(module)  # knows timm's own layers as well
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.forward = _on_gathered(layer, layer.forward)  # type: ignore[assignment]
    return module


def _on_gathered(layer: nn.Module, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def gathered(x: Tensor) -> Tensor:
        if not layer.training:
            return forward(x)
        return losses.own_rows(forward(losses.gathered(x.contiguous())), len(x))

    return gathered
