"""Class activation maps, with gradients from the target layer on and none before it.

A CAM needs the layer's activations and the gradient of a score at them. The trunk up to the layer therefore runs
without recording anything for the backward pass; recording begins at the layer, wherever in the network that is. The
maps equal those of pytorch-grad-cam, which records everything and computes the gradients of every weight as well.

HiResCAM, XGradCAM and Grad-CAM elementwise are computed by that package's own code, called with these activations and
gradients. Where a principal component is asked for it is not: the package leaves the sign to chance and takes the
images one by one.
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


def _centred(A: Tensor) -> Tensor:
    """Activations (B, J, h, w) as places x channels (B, h w, J), each channel with mean 0."""
    places = A.flatten(2).transpose(1, 2)
    return places - places.mean(dim=1, keepdim=True)


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
    places = _centred(A)
    first = torch.linalg.svd(places, full_matrices=False).Vh[:, :1]
    projection = (places @ first.transpose(1, 2)).reshape(len(A), *A.shape[2:])
    high, low = projection.amax(dim=(1, 2), keepdim=True), projection.amin(dim=(1, 2), keepdim=True)
    rounding = 10 * FLAT * A.abs().amax(dim=(1, 2, 3))[:, None, None]
    return torch.where(high - low > rounding, torch.where(-low > high, -projection, projection), 0)


def hires_cam(A: Tensor, G: Tensor) -> Tensor:
    """HiResCAM (Draelos and Carin, arXiv 2011.08891); arguments as for :func:`grad_cam`.

    Where the rest of the network is linear, each place's value is its share in the score.
    """
    from pytorch_grad_cam import HiResCAM  # takes seconds to import, and few ask for it

    return _by_package(HiResCAM.get_cam_image, A, G, False)


def x_grad_cam(A: Tensor, G: Tensor) -> Tensor:
    """XGradCAM (Fu et al., arXiv 2008.02312); arguments as for :func:`grad_cam`."""
    from pytorch_grad_cam import XGradCAM

    return torch.einsum("bj,bjhw->bhw", _by_package(XGradCAM.get_cam_weights, A, G), A)


def grad_cam_elementwise(A: Tensor, G: Tensor) -> Tensor:
    """Positive products of activation and gradient, added over channels; arguments as for :func:`grad_cam`."""
    from pytorch_grad_cam import GradCAMElementWise

    return _by_package(GradCAMElementWise.get_cam_image, A, G, False)


def _by_package(method: Callable[..., Any], A: Tensor, G: Tensor, *more: Any) -> Tensor:
    """What a method of a class of pytorch-grad-cam makes of activations and gradients.

    Args:
        method: that reads neither the object, nor the input, the layer or the targets: they are None.
        A: activations (B, J, h, w).
        G: gradients.
        more: further arguments.
    """
    made = method(None, None, None, None, A.cpu().numpy(), G.cpu().numpy(), *more)
    return torch.from_numpy(made).to(A)


def eigen_grad_cam(A: Tensor, G: Tensor) -> Tensor:
    """:func:`eigen_cam` of activations times gradients, as in pytorch-grad-cam; arguments as for :func:`grad_cam`."""
    return eigen_cam(A * G)


def kpca_cam(A: Tensor) -> Tensor:
    """KPCA-CAM (Karmani et al., arXiv 2410.00267): the first kernel principal component of the channels.

    As in pytorch-grad-cam the channels are centred and the kernel is scikit-learn's sigmoid, tanh(x'y / J + 1). Its
    solver starts from random numbers on large grids; here the decomposition is exact, and the larger extreme positive.

    Args:
        A: activations (B, J, h, w).

    Returns:
        Maps (B, h, w).
    """
    places = _centred(A)
    kernel = torch.tanh(places @ places.transpose(1, 2) / A.shape[1] + 1)
    rows = kernel.mean(dim=1, keepdim=True)  # the centre of the places in the kernel's own space is moved to 0
    kernel = kernel - rows - rows.transpose(1, 2) + rows.mean(dim=2, keepdim=True)
    values, vectors = torch.linalg.eigh(kernel)
    projection = vectors[:, :, -1] * values[:, -1:].clamp(min=0).sqrt()
    even = values[:, -1:] < FLAT  # of a kernel whose entries are near 1 that is rounding
    upright = torch.where(-projection.amin(dim=1, keepdim=True) > projection.amax(dim=1, keepdim=True), -1, 1)
    return torch.where(even, 0, upright * projection).reshape(len(A), *A.shape[2:])


def finer_score(targets: Tensor, comparisons: int = 3) -> Score:
    """What tells each image's class from those of the most similar logits (Zhang et al., arXiv 2501.11309).

    As in pytorch-grad-cam: differences of the logits, weighted by the probabilities of the classes compared with. With
    fewer classes all others are compared with.

    Args:
        targets: (B,).
        comparisons: most classes compared with.
    """

    def score(logits: Tensor) -> Tensor:
        own = logits.gather(1, targets[:, None])
        distance = (logits - own).abs().scatter(1, targets[:, None], -1)  # the class itself comes first
        others = distance.argsort(dim=1, stable=True)[:, 1 : comparisons + 1]
        weights = logits.softmax(dim=1).gather(1, others)
        return (weights * (own - logits.gather(1, others))).sum(dim=1) / (weights.sum(dim=1) + 1e-9)

    return score


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
