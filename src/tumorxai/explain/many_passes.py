"""CAMs whose weights come from scores instead of gradients: one forward pass for each channel, in batches.

pytorch-grad-cam has both, image by image; Ablation-CAM replaces the layer inside the model meanwhile. The code here
leaves the model alone, holds one batch in memory at a time, and runs the trunk once for many channels where it can.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from tumorxai.explain.cams import activations
from tumorxai.explain.layers import Layer

if TYPE_CHECKING:
    from tumorxai.explain.explainer import Explainer

AT_ONCE = 64  # images of a forward pass
PATIENCE = 2  # seconds before a bar is shown


def _each(name: str, images: Tensor, A: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Image (1, C, H, W), activations (J, h, w) and class of each image, with a bar where it takes long."""
    rows = zip(torch.split(images, 1), A, targets.tolist(), strict=True)
    return iter(tqdm(rows, desc=name, unit="image", total=len(images), delay=PATIENCE, leave=False))


@torch.no_grad()
def score_cam(explainer: Explainer, images: Tensor, targets: Tensor) -> Tensor:
    """Score-CAM (Wang et al., arXiv 1910.01279, algorithm 1), as in pytorch-grad-cam.

    The weights are the softmax over the channels of the class's logit for the image times the channel, enlarged with
    aligned corners and scaled to [0, 1].

    Args:
        explainer: of the classifier; a forward pass goes through all of it for each channel of its layer.
        images: normalised, (B, C, H, W).
        targets: class of each image (B,).

    Returns:
        Maps (B, h, w).
    """
    maps, size = [], (images.shape[2], images.shape[3])
    A = activations(explainer.model, images, explainer.layer)
    for image, own, target in _each("Score-CAM", images, A, targets):
        scores = []
        for part in torch.split(own, AT_ONCE):
            masks = F.interpolate(part[:, None], size=size, mode="bilinear", align_corners=True)
            low, high = masks.amin(dim=(2, 3), keepdim=True), masks.amax(dim=(2, 3), keepdim=True)
            scores.append(explainer.model(image * ((masks - low) / (high - low + 1e-8)))[:, target])
        maps.append(torch.einsum("j,jhw->hw", torch.cat(scores).softmax(dim=0), own))
    return torch.stack(maps)


@torch.no_grad()
def ablation_cam(explainer: Explainer, images: Tensor, targets: Tensor) -> Tensor:
    """Ablation-CAM (Desai and Ramaswamy, WACV 2020).

    A channel's weight is what the class's logit loses when the channel is 0 everywhere. The paper divides the weights
    by the logit, which scales the map; where the logit is negative, as pytorch-grad-cam takes it, that would turn the
    map upside down, so here it is left out. Where activations can be negative, as in transformers, that package sets a
    channel to -10^7 instead of 0, each next one lower; here it is 0, as in the paper.

    Args:
        explainer: of the classifier; the part of it behind its layer is passed for each channel of the layer.
        images: normalised, (B, C, H, W).
        targets: class of each image (B,).

    Returns:
        Maps (B, h, w).
    """
    maps, model, layer = [], explainer.model, explainer.layer
    A = activations(model, images, layer)
    channels = A.shape[1]
    wide = _widens(model, images[:1], layer, channels)
    for image, own, target in _each("Ablation-CAM", images, A, targets):
        whole = model(image)[0, target]
        scores = [
            _without(model, image, layer, 1 - F.one_hot(some, channels).to(own), wide)[:, target]
            for some in torch.split(torch.arange(channels, device=own.device), AT_ONCE)
        ]
        maps.append(torch.einsum("j,jhw->hw", whole - torch.cat(scores), own))
    return torch.stack(maps)


def _without(model: nn.Module, image: Tensor, layer: Layer, kept: Tensor, wide: bool) -> Tensor:
    """The model's output (n, K) for one image (1, C, H, W), some of the layer's channels being 0.

    Args:
        model: images to logits.
        image: normalised.
        layer: whose channels.
        kept: factors of the channels, (n, J).
        wide: run up to the layer with the image once, and from there on with all n; not every network allows it.
    """

    def ablate(_module: nn.Module, _arguments: object, output: Tensor) -> Tensor:
        shape = [1] * output.ndim
        shape[0], shape[layer.axis] = kept.shape
        return output * kept.view(shape)

    handle = layer.module.register_forward_hook(ablate)
    try:
        result: Tensor = model(image if wide else image.expand(len(kept), -1, -1, -1))
    finally:
        handle.remove()
    return result


def _widens(model: nn.Module, image: Tensor, layer: Layer, channels: int) -> bool:
    """Whether the batch may grow at the layer: tried on two halves of the channels, against the plain way."""
    even = (torch.arange(channels, device=image.device) % 2).to(image)
    kept = torch.stack([even, 1 - even])
    plain = _without(model, image, layer, kept, wide=False)
    try:
        grown = _without(model, image, layer, kept, wide=True)
    except RuntimeError:  # a shape written down before the layer
        return False
    return grown.shape == plain.shape and torch.allclose(grown, plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))
