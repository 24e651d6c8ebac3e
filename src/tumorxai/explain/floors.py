"""Maps that know nothing of the classifier: what every method has to beat."""

from __future__ import annotations

import zlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIGMA = 0.25  # of the centre's Gaussian, as a share of the image's side


def uniform(images: Tensor) -> Tensor:
    """One everywhere: (B, H, W) for images (B, C, H, W)."""
    return torch.ones_like(images[:, 0])


def random(images: Tensor, grid: tuple[int, int], seed: int) -> Tensor:
    """Noise on a grid: a heat-map is as coarse as the layer that it comes from.

    Args:
        images: (B, C, H, W); each draws by its own content, so that a map does not depend on its place in the batch.
        grid: cells of the map, h and w.
        seed: of the noise.

    Returns:
        (B, h, w), uniform in [0, 1).
    """
    contents = [zlib.crc32(image.numpy().tobytes()) for image in images.detach().cpu().contiguous()]
    drawn = [np.random.default_rng([seed, content]).random(grid, dtype=np.float32) for content in contents]
    return torch.from_numpy(np.stack(drawn)).to(images.device)


def centre(images: Tensor) -> Tensor:
    """A Gaussian in the middle, for lesions tend to it: (B, H, W)."""
    sides = [(torch.arange(size, device=images.device) + 0.5) / size - 0.5 for size in images.shape[2:]]
    y, x = (torch.exp(-side.square() / (2 * SIGMA**2)) for side in sides)
    return torch.outer(y, x).expand_as(images[:, 0])


def edges(images: Tensor) -> Tensor:
    """Size of the Sobel gradient, blurred a little, as a map that shows the image and not the classifier: (B, H, W)."""
    grey = F.pad(images.mean(dim=1, keepdim=True), (2, 2, 2, 2), mode="replicate")
    smooth = F.avg_pool2d(grey, 3, stride=1)
    kernel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]], device=images.device)
    gradient = F.conv2d(smooth, torch.stack([kernel, kernel.T])[:, None])
    return gradient.square().sum(dim=1).sqrt()
