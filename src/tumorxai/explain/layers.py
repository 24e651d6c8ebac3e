"""Where a heat-map is read off, found for any timm CNN or transformer, and how its output becomes maps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tumorxai.errors import UserError
from tumorxai.networks import encoders

GRID = 4  # cells on a side: a coarser map cannot tell where a lesion is


@dataclass(frozen=True)
class Layer:
    """Where a heat-map is read off.

    Attributes:
        name: of the module inside the encoder, as ``named_modules`` has it.
        module: the module itself.
        grid: height and width of its map, cells.
        to_map: its output to (B, channels, height, width).
        axis: of the channels in its output.
    """

    name: str
    module: nn.Module
    grid: tuple[int, int]
    to_map: Callable[[Tensor], Tensor]
    axis: int = 1


def encoder_of(model: nn.Module) -> Any:
    """The timm model inside a classifier, or the model itself where it is an encoder without classes."""
    return getattr(model, "encoder", model)


def token_grid(encoder: Any, tokens: int) -> tuple[int, tuple[int, int]] | None:
    """How many tokens stand before the patches (class, distillation, registers), and the patches' grid.

    Args:
        encoder: a timm transformer.
        tokens: length of a sequence inside it.

    Returns:
        None where the tokens fill neither the encoder's own grid nor a square.
    """
    prefix: int = getattr(encoder, "num_prefix_tokens", 0)
    _, own = encoders.patches(encoder)
    if own is not None and own[0] * own[1] == tokens - prefix:
        return prefix, (own[0], own[1])
    side = math.isqrt(max(tokens - prefix, 0))
    return (prefix, (side, side)) if side and side * side == tokens - prefix else None


def _tokens_to_map(prefix: int, grid: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """From tokens (B, prefix + H * W, C) to maps (B, C, H, W)."""
    return lambda x: x[:, prefix:].reshape(len(x), *grid, -1).permute(0, 3, 1, 2)


def _layer(encoder: Any, name: str, module: nn.Module, output: Tensor) -> Layer | None:
    """One module with the way to see its output as maps; None where that has no places."""
    if output.ndim == 3:
        found = token_grid(encoder, output.shape[1])
        return None if found is None else Layer(name, module, found[1], _tokens_to_map(*found), axis=-1)
    if output.ndim != 4:
        return None
    if getattr(encoder, "output_fmt", "NCHW") == "NHWC":
        return Layer(name, module, (output.shape[1], output.shape[2]), lambda x: x.permute(0, 3, 1, 2), axis=-1)
    return Layer(name, module, (output.shape[2], output.shape[3]), lambda x: x)


def _outputs(model: nn.Module, images: Tensor) -> tuple[Tensor, list[tuple[str, nn.Module, Tensor]]]:
    """Run once; the model's output and every tensor that a module inside the encoder gave, in order of finishing.

    A module that runs twice has no single map and is left out.
    """
    seen: list[tuple[str, nn.Module, Any]] = []
    handles = [
        module.register_forward_hook(lambda m, _, out, name=name: seen.append((name, m, out)))
        for name, module in encoder_of(model).named_modules()
        if name
    ]
    try:
        with torch.enable_grad():
            result: Tensor = model(images.detach().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    runs = Counter(id(module) for _, module, _ in seen)
    return result, [(n, m, out) for n, m, out in seen if isinstance(out, Tensor) and runs[id(m)] == 1]


def target_layer(model: nn.Module, images: Tensor, name: str | None = None) -> Layer:
    """Find the layer that a CAM is read off: the last map that still has places and that the output depends on.

    Nothing is looked up in a table of names. A feature map has the shape of what ``encoder.forward_features`` gives, or
    belongs to a stage in timm's ``feature_info``; an encoder that has neither, but flattens its maps, offers all of
    them. The last one wins that has at least ``GRID`` x ``GRID`` cells (else the finest one) and in which a place
    makes a difference to the output. The last condition matters for transformers whose head reads the class token
    alone: behind the last attention no patch has any influence, so the layer is the normalisation before it, as
    pytorch-grad-cam advises for ViTs.

    Args:
        model: in evaluation mode: a classifier with ``encoder``, a timm model, or an encoder itself.
        images: normalised, (B, C, S, S); one is enough.
        name: of a module inside the encoder, to take that one instead.

    Raises:
        UserError: the encoder has no feature map of more than one cell, or the named module gives none.
    """
    encoder = encoder_of(model)
    output, seen = _outputs(model, images)
    if name is not None:
        return _named(encoder, seen, name)
    shape = None
    if hasattr(encoder, "forward_features"):
        with torch.no_grad():
            shape = encoder.forward_features(images).shape
    stages = {stage["module"] for stage in getattr(encoder, "feature_info", ())}
    found = []
    for module_name, module, given in seen:
        if given.requires_grad and (shape is None or given.shape == shape or module_name in stages):
            layer = _layer(encoder, module_name, module, given)
            if layer and min(layer.grid) > 1:
                found.append((layer, given))
    if not found:
        raise UserError(
            f"got a {type(encoder).__name__} without a feature map of more than one cell for images of "
            f"{images.shape[-1]} px; expected at least 2 x 2; raise data.image_size or choose another model.backbone"
        )
    gradients = torch.autograd.grad(output.square().sum(), [given for _, given in found], allow_unused=True)
    used = [
        layer
        for (layer, _), gradient in zip(found, gradients, strict=True)
        if gradient is not None and bool(layer.to_map(gradient).any())
    ]
    layers = used or [layer for layer, _ in found]  # a dead classifier: its maps will be zero, and be counted
    side = min(GRID, max(min(layer.grid) for layer in layers))
    return [layer for layer in layers if min(layer.grid) >= side][-1]


def _named(encoder: Any, seen: list[tuple[str, nn.Module, Tensor]], name: str) -> Layer:
    layers = [_layer(encoder, n, module, out) for n, module, out in seen if out.requires_grad]
    maps = {layer.name: layer for layer in layers if layer and min(layer.grid) > 1}
    if name not in maps:
        raise UserError(
            f"got the layer {name!r}; expected a module of {type(encoder).__name__} that runs once and gives a map of "
            f"more than one cell, such as {', '.join(list(maps)[-4:]) or 'none at this image size'}"
        )
    return maps[name]


def attention_input(model: nn.Module, images: Tensor) -> Layer | None:
    """The normalised input of the last attention layer of a ViT; None for other encoders.

    Args:
        model: see :func:`target_layer`.
        images: see :func:`target_layer`.
    """
    blocks = getattr(encoder_of(model), "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or not hasattr(blocks[-1], "attn"):
        return None
    name = f"blocks.{len(blocks) - 1}.norm1"
    encoder, (_, seen) = encoder_of(model), _outputs(model, images)
    layers = [_layer(encoder, n, module, out) for n, module, out in seen if n == name]
    return layers[0] if layers else None


def check_finite(values: Tensor, what: str) -> Tensor:
    """Give values (B, …) back if they are finite: a map with NaN would be shown black, as if it said something.

    Raises:
        UserError: names the images of the batch.
    """
    finite = values.isfinite().flatten(1).all(dim=1)
    if not bool(finite.all()):
        places = ", ".join(str(place) for place in (~finite).nonzero()[:8, 0].tolist())
        raise UserError(
            f"got NaN or infinite values in {what} for {int((~finite).sum())} of {len(values)} images (place {places} "
            "in the batch); expected finite numbers; the weights are damaged or training diverged: train again"
        )
    return values
