"""Heat-maps of a classifier, through pytorch-grad-cam, for any timm backbone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from tumorxai.errors import UserError

METHODS: dict[str, type[BaseCAM]] = {"grad_cam": GradCAM}  # Selvaraju et al., arXiv 1610.02391, Eqs. 1-2
GRID = 4  # cells on a side: a coarser map cannot tell where a lesion is


@dataclass(frozen=True)
class Layer:
    """Where a heat-map is read off.

    Attributes:
        name: of the module inside the encoder, as ``named_modules`` has it.
        module: the module itself.
        grid: height and width of its map, cells.
        to_map: its output to (B, channels, height, width).
    """

    name: str
    module: nn.Module
    grid: tuple[int, int]
    to_map: Callable[[Tensor], Tensor]


def _channels_first(x: Tensor) -> Tensor:
    """(B, H, W, C) to (B, C, H, W)."""
    return x.permute(0, 3, 1, 2)


def _tokens_to_map(prefix: int, grid: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """From tokens (B, prefix + H * W, C) to maps (B, C, H, W): class and register tokens have no place."""
    return lambda x: x[:, prefix:].reshape(len(x), *grid, -1).permute(0, 3, 1, 2)


def _layer(encoder: Any, name: str, module: nn.Module, output: Tensor) -> Layer | None:
    """One module with the way to see its output as maps; None where the tokens fill no square."""
    if output.ndim == 3:
        prefix: int = getattr(encoder, "num_prefix_tokens", 0)
        side = math.isqrt(output.shape[1] - prefix)
        if side * side != output.shape[1] - prefix:
            return None
        return Layer(name, module, (side, side), _tokens_to_map(prefix, (side, side)))
    if getattr(encoder, "output_fmt", "NCHW") == "NHWC":
        return Layer(name, module, (output.shape[1], output.shape[2]), _channels_first)
    return Layer(name, module, (output.shape[2], output.shape[3]), lambda x: x)


def _candidates(model: nn.Module, images: Tensor) -> tuple[Tensor, list[tuple[Layer, Tensor]]]:
    """Run once and record every feature map, in the order in which the modules finish.

    A feature map has the shape of what ``encoder.forward_features`` gives, or belongs to a stage in timm's
    ``feature_info``, and more than one cell.

    Returns:
        The logits, and the layers with their outputs.
    """
    encoder: Any = model.encoder
    seen: list[tuple[str, nn.Module, Any]] = []
    handles = [
        module.register_forward_hook(lambda m, _, out, name=name: seen.append((name, m, out)))
        for name, module in encoder.named_modules()
        if name
    ]
    try:
        logits: Tensor = model(images.detach().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    with torch.no_grad():
        shape = encoder.forward_features(images).shape
    stages = {stage["module"] for stage in getattr(encoder, "feature_info", ())}
    runs = Counter(id(module) for _, module, _ in seen)
    found = []
    for name, module, output in seen:
        # a module that runs twice has no single map
        if not isinstance(output, Tensor) or output.ndim != len(shape) or runs[id(module)] > 1:
            continue
        if output.requires_grad and (output.shape == shape or name in stages):
            layer = _layer(encoder, name, module, output)
            if layer and min(layer.grid) > 1:
                found.append((layer, output))
    return logits, found


def target_layer(model: nn.Module, images: Tensor) -> Layer:
    """Find the layer that a CAM is read off: the last map that still has places and that the logits depend on.

    Nothing is looked up in a table of names. The last feature map wins that has at least ``GRID`` x ``GRID`` cells
    (else the finest one) and in which a place makes a difference to the logits. The last condition matters for
    transformers whose head reads the class token alone: behind the last attention no patch has any influence, so the
    layer is the normalisation before it, as pytorch-grad-cam advises for ViTs.

    Args:
        model: in evaluation mode; has ``encoder``, a timm model, and gives logits (B, K) for ``images``.
        images: normalised, (B, C, S, S); one is enough.

    Raises:
        UserError: the encoder has no feature map of more than one cell.
    """
    logits, found = _candidates(model, images)
    if not found:
        raise UserError(
            f"got a {type(model.encoder).__name__} without a feature map of more than one cell for images of "
            f"{images.shape[-1]} px; expected at least 2 x 2; raise data.image_size or choose another model.backbone"
        )
    gradients = torch.autograd.grad(logits.square().sum(), [output for _, output in found], allow_unused=True)
    used = [
        layer
        for (layer, _), gradient in zip(found, gradients, strict=True)
        if gradient is not None and bool(layer.to_map(gradient).any())
    ]
    layers = used or [layer for layer, _ in found]  # a dead classifier: its maps will be zero, and be counted
    side = min(GRID, max(min(layer.grid) for layer in layers))
    return [layer for layer in layers if min(layer.grid) >= side][-1]


def heat_maps(
    model: nn.Module, images: Tensor, targets: NDArray[np.int64], method: str = "grad_cam", layer: Layer | None = None
) -> NDArray[np.float32]:
    """Where the evidence for a class lies.

    The maps are stretched to [0, 1] one by one, as pytorch-grad-cam does: their values compare within an image only.

    Args:
        model: a classifier in evaluation mode, with a timm model as ``encoder``.
        images: normalised, (B, C, S, S).
        targets: class to explain for each image (B,).
        method: a key of ``METHODS``.
        layer: where to read the map off; found by :func:`target_layer` when not given.

    Returns:
        Maps (B, S, S) in [0, 1]. A map without any evidence is all zero: count those with :func:`is_zero`.
    """
    layer = layer or target_layer(model, images[:1])
    with METHODS[method](model, [layer.module], reshape_transform=layer.to_map) as cam:
        maps = cam(images.detach().requires_grad_(), [ClassifierOutputTarget(int(target)) for target in targets])
    model.zero_grad(set_to_none=True)
    clipped: NDArray[np.float32] = np.clip(np.nan_to_num(maps), 0.0, 1.0, dtype=np.float32)
    return clipped


def is_zero(maps: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of the maps (B, S, S) are zero everywhere, that is: show nothing. Shape (B,)."""
    return np.asarray(maps.max(axis=(1, 2)) == 0)
