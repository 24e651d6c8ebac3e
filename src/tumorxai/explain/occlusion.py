"""Occlusion: how much of the class's probability goes when a window of the image does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from tumorxai.explain.explainer import Explainer


def window_masks(windows: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Overlapping windows on a grid, twice as wide as the grid's step.

    Args:
        windows: on a side.
        size: height and width of the image, pixels.
        device: of the result.

    Returns:
        (windows ** 2, *size), 1 inside the window; row by row. Every pixel is inside at least one.
    """
    sides = []
    for pixels in size:
        width = 2 * pixels / (windows + 1)
        place = torch.arange(pixels, device=device) + 0.5
        start = torch.arange(windows, device=device)[:, None] * width / 2
        sides.append(((place >= start) & (place < start + width)).float())
    return torch.einsum("ih,jw->ijhw", sides[0], sides[1]).reshape(-1, *size)


@torch.no_grad()
def occlusion(model: nn.Module, images: Tensor, targets: Tensor, windows: int = 8, batch: int = 64) -> Tensor:
    """Occlusion maps (Zeiler and Fergus, arXiv 1311.2901, section 4.2); windows are filled with the mean of the data.

    Args:
        model: images to logits, in evaluation mode.
        images: normalised, so that 0 is the mean; (B, C, H, W).
        targets: class of each image (B,).
        windows: on a side.
        batch: occluded images that go through the network at once.

    Returns:
        (B, H, W): mean drop of the probability over the windows that hold a pixel; negative where hiding it helps.
    """
    masks = window_masks(windows, (images.shape[2], images.shape[3]), images.device)
    count = len(masks)
    clean = model(images).softmax(dim=1).gather(1, targets[:, None])
    left = []
    for some in torch.split(torch.arange(len(images) * count, device=images.device), batch):
        image, window = some // count, some % count
        p = model(images[image] * (1 - masks[window, None])).softmax(dim=1)
        left.append(p.gather(1, targets[image, None])[:, 0])
    drops = clean - torch.cat(left).view(len(images), count)
    return torch.einsum("bn,nhw->bhw", drops, masks) / masks.sum(dim=0)


def heat_maps(explainer: Explainer, images: Tensor, targets: Tensor) -> Tensor:
    """Maps as :class:`~tumorxai.explain.explainer.Explainer` asks for them."""
    return occlusion(explainer.model, images, targets, explainer.windows)
