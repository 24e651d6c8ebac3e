"""Class activation maps, with gradients from the target layer on and none before it.

A CAM needs the layer's activations and the gradient of a score at them. The trunk up to the layer therefore runs
without recording anything for the backward pass; recording begins at the layer, wherever in the network that is. The
maps equal those of pytorch-grad-cam, which records everything and computes the gradients of every weight as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tumorxai.explain.layers import Layer, check_finite

FLAT = 1e-6  # a spread this small, relative to the values, is rounding, not evidence for a place

Score = Callable[[Tensor], Tensor]  # the model's output (B, …) to one number for each image (B,)


def class_score(targets: Tensor) -> Score:
    """The logit of each image's class.

    Args:
        targets: (B,).
    """
    return lambda logits: logits.gather(1, targets[:, None])[:, 0]


def activations(model: nn.Module, images: Tensor, layer: Layer) -> Tensor:
    """The layer's maps (B, J, h, w), without any gradient."""
    kept: list[Tensor] = []
    handle = layer.module.register_forward_hook(lambda *given: kept.append(layer.to_map(given[2])))
    try:
        with torch.no_grad():
            model(images)
    finally:
        handle.remove()
    return check_finite(kept[0], f"the layer {layer.name}")


def activations_and_gradients(model: nn.Module, images: Tensor, layer: Layer, score: Score) -> tuple[Tensor, Tensor]:
    """The layer's maps and the gradient of each image's score at them.

    Args:
        model: in evaluation mode, so that no image influences another's output.
        images: normalised, (B, C, S, S).
        layer: where to read.
        score: what to differentiate.

    Returns:
        Both (B, J, h, w).
    """
    kept: list[Tensor] = []

    def start_recording(_module: nn.Module, _arguments: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        torch.set_grad_enabled(True)
        return kept[0].clone()  # what follows may work in place

    handle = layer.module.register_forward_hook(start_recording)
    try:
        with torch.no_grad():  # restores the caller's mode at its end
            total = score(model(images)).sum()
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(total, kept[0])
    return check_finite(layer.to_map(kept[0].detach()), f"the layer {layer.name}"), layer.to_map(gradient)


def grad_cam(A: Tensor, G: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al., arXiv 1610.02391, Eqs. 1 and 2), its ReLU left to :func:`stretch`.

    Args:
        A: activations (B, J, h, w).
        G: gradients of the score at them.

    Returns:
        Maps (B, h, w).
    """
    return torch.einsum("bj,bjhw->bhw", G.mean(dim=(2, 3)), A)


def grad_cam_plus_plus(A: Tensor, G: Tensor) -> Tensor:
    """Grad-CAM++ (Chattopadhyay et al., arXiv 1710.11063, Eqs. 5 and 19); arguments as for :func:`grad_cam`.

    As in pytorch-grad-cam, the gradient of the logit stands for that of its exponential: the factor cancels in Eq. 19.
    """
    square = G.square()
    alpha = square / (2 * square + A.sum(dim=(2, 3), keepdim=True) * square * G + 1e-6)
    weights = torch.where(G != 0, alpha * G.relu(), 0).sum(dim=(2, 3))
    return torch.einsum("bj,bjhw->bhw", weights, A)


def layer_cam(A: Tensor, G: Tensor) -> Tensor:
    """LayerCAM (Jiang et al., IEEE TIP 30:5875, 2021, Eqs. 5 and 6); arguments as for :func:`grad_cam`."""
    return (G.relu() * A).sum(dim=1)


def eigen_cam(A: Tensor) -> Tensor:
    """EigenCAM (Muhammad and Yeasin, arXiv 2008.00299): projection on the first principal component of the channels.

    The channels are centred first, as in pytorch-grad-cam, which the paper does not mention. The sign of a principal
    component is arbitrary; pytorch-grad-cam's EigenCAM takes the one that LAPACK happens to return. Here the larger
    extreme is positive (Chung and Ying, Appl. Sci. 15:7562, 2025, Eq. 13), so that a map is never shown upside down by
    chance.

    Args:
        A: activations (B, J, h, w).

    Returns:
        Maps (B, h, w).
    """
    places = A.flatten(2).transpose(1, 2)
    places = places - places.mean(dim=1, keepdim=True)
    first = torch.linalg.svd(places, full_matrices=False).Vh[:, :1]
    projection = (places @ first.transpose(1, 2)).reshape(len(A), *A.shape[2:])
    high, low = projection.amax(dim=(1, 2), keepdim=True), projection.amin(dim=(1, 2), keepdim=True)
    rounding = 10 * FLAT * A.abs().amax(dim=(1, 2, 3))[:, None, None]
    return torch.where(high - low > rounding, torch.where(-low > high, -projection, projection), 0)


GRADIENT = {"grad_cam": grad_cam, "grad_cam_plus_plus": grad_cam_plus_plus, "layer_cam": layer_cam}


def stretch(maps: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Cut off what is negative, scale each map to [0, 1] and enlarge it, as pytorch-grad-cam does.

    Args:
        maps: (B, h, w).
        size: height and width to enlarge to, bilinearly; None leaves the size.

    Returns:
        (B, *size). A map without positive evidence, or of one value, is zero everywhere.
    """
    maps = _to_unit(maps.relu())
    if size is not None:
        maps = nn.functional.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    return _to_unit(maps)


def _to_unit(maps: Tensor) -> Tensor:
    high, low = maps.amax(dim=(1, 2), keepdim=True), maps.amin(dim=(1, 2), keepdim=True)
    return torch.where(high - low > FLAT * high, (maps - low) / (1e-7 + high - low), 0)
