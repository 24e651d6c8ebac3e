"""FullGrad: the gradients of the input and of every bias (Srinivas and Fleuret, arXiv 1905.00780)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tumorxai.explain.attention import NotApplicableError
from tumorxai.explain.cams import class_score
from tumorxai.explain.layers import check_finite, encoder_of

if TYPE_CHECKING:
    from tumorxai.explain.explainer import Explainer

SEEN = (nn.Conv2d, nn.BatchNorm2d)  # these very classes: one that holds an activation as well gives no bias's gradient


def biases(encoder: nn.Module) -> list[tuple[nn.Module, Tensor]]:
    """Layers whose output has places, and their biases (J,); those of dense layers have none and are left out.

    Of a batch normalisation the bias is what it adds in evaluation, the shift by its mean included.

    Raises:
        NotApplicableError: some layer of another kind has a bias, so that the sum would not be the whole gradient, or
            none has.
    """
    found: list[tuple[nn.Module, Tensor]] = []
    others = set()
    for module in encoder.modules():
        bias = module._parameters.get("bias")
        if bias is None or isinstance(module, nn.Linear):
            continue
        if type(module) not in SEEN:
            others.add(type(module).__name__)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None  # noqa: S101  in evaluation mode there are statistics
            assert module.running_var is not None  # noqa: S101
            moved = module.running_mean * module.weight / torch.sqrt(module.running_var + module.eps)
            found.append((module, (bias - moved).detach()))
        else:
            found.append((module, bias.detach()))
    if others or not found:
        raise NotApplicableError(
            f"got a {type(encoder).__name__} with biases in {', '.join(sorted(others)) or 'no layer'}; expected them "
            "in convolutions and batch normalisations, whose gradients FullGrad adds up; choose another method of "
            "explanation"
        )
    return found


def fullgrad(explainer: Explainer, images: Tensor, targets: Tensor) -> Tensor:
    """FullGrad maps, each layer's enlarged and added as in pytorch-grad-cam.

    Every channel of |gradient x bias| is scaled to [0, 1] on its own. Scaling comes before enlarging there, and
    enlarging is linear, so the channels are added before they are enlarged.

    Args:
        explainer: of the classifier; its layer is not read.
        images: normalised, (B, C, H, W).
        targets: class of each image (B,).

    Returns:
        Maps (B, H, W), not negative.

    Raises:
        NotApplicableError: see :func:`biases`.
    """
    layers, size = biases(encoder_of(explainer.model)), (images.shape[2], images.shape[3])
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, _arguments: Any, output: Tensor) -> Tensor:
        outputs[module] = output
        return output.clone()  # what follows may work in place

    with ExitStack() as stack:
        for module, _ in layers:
            stack.callback(module.register_forward_hook(keep).remove)
        with torch.enable_grad():
            seen = images.detach().requires_grad_()
            total = class_score(targets)(explainer.model(seen)).sum()
    used = [(outputs[module], bias) for module, bias in layers if module in outputs]
    gradients = torch.autograd.grad(total, [seen, *(output for output, _ in used)])
    check_finite(gradients[0], "the gradient of the input")
    maps = F.interpolate(_added(gradients[0] * images), size=size, mode="bilinear", align_corners=False)
    for (_, bias), gradient in zip(used, gradients[1:], strict=True):
        layer = _added(gradient * bias[:, None, None])
        maps = maps + F.interpolate(layer, size=size, mode="bilinear", align_corners=False)
    return maps[:, 0]


def _added(products: Tensor) -> Tensor:
    """Magnitudes of (B, J, h, w), each channel stretched to [0, 1], then all added: (B, 1, h, w)."""
    size = products.abs()
    size = size - size.amin(dim=(2, 3), keepdim=True)
    return (size / (1e-7 + size.amax(dim=(2, 3), keepdim=True))).sum(dim=1, keepdim=True)
