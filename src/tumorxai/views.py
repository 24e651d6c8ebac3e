"""Views: random, augmented versions of images, drawn for a whole batch at once on its device.

All draws come from torch's global generator, one per image; the caller seeds it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class View:
    """How one view is drawn. Probabilities are in [0, 1]."""

    crop: tuple[float, float] = (1.0, 1.0)  # share of the image's area, least and most
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height of the crop
    horizontal_flip: float = 0.5  # probability
    rotation: float = 0.0  # largest angle, degrees
    jitter: float = 0.0  # probability of changing brightness and contrast
    brightness: float = 0.0  # factor drawn in [1 - brightness, 1 + brightness]
    contrast: float = 0.0  # likewise, about the image's mean
    blur: float = 0.0  # probability of a Gaussian blur
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels of a 224-pixel view; scales with the view's size
    solarise: float = 0.0  # probability of inverting intensities above one half


# The papers' views, for grey MRI: what acts on colour (saturation, hue, grey-scale) has no effect and is left out.
#
#              crop          flip  jitter (brightness, contrast)  blur         solarise   source
SIMCLR = View(crop=(0.08, 1.0), jitter=0.8, brightness=0.8, contrast=0.8, blur=0.5)  # 2002.05709, appendix A
BYOL_1 = View(crop=(0.08, 1.0), jitter=0.8, brightness=0.4, contrast=0.4, blur=1.0)  # 2006.07733, table 6, T
BYOL_2 = replace(BYOL_1, blur=0.1, solarise=0.2)  # the same, T'
SUPERVISED = View(crop=(0.6, 1.0), rotation=10.0, jitter=0.8, brightness=0.2, contrast=0.2)


def statistics(images: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation of all pixels, on the scale [0, 1].

    Args:
        images: uint8 array of any shape, read in blocks so that a memory-mapped one stays on disk.
    """
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, len(images), 256):
        counts += np.bincount(np.asarray(images[start : start + 256]).reshape(-1), minlength=256)
    levels = np.arange(256) / 255.0
    mean = float((counts * levels).sum() / counts.sum())
    variance = float((counts * (levels - mean) ** 2).sum() / counts.sum())
    return mean, max(math.sqrt(variance), 1e-3)


def _uniform(count: int, low: float, high: float, device: torch.device) -> Tensor:
    return torch.empty(count, device=device).uniform_(low, high)


def _chosen(count: int, probability: float, device: torch.device) -> Tensor:
    return torch.rand(count, device=device) < probability


def _crops(count: int, view: View, device: torch.device) -> Tensor:
    """Affine matrices (count, 2, 3) that map the view's square to a random crop of the image's, both [-1, 1]."""
    area = _uniform(count, *view.crop, device)
    aspect = torch.exp(_uniform(count, math.log(view.ratio[0]), math.log(view.ratio[1]), device))
    width = torch.sqrt(area * aspect).clamp(max=1.0)
    height = torch.sqrt(area / aspect).clamp(max=1.0)
    x = _uniform(count, -1.0, 1.0, device) * (1.0 - width)
    y = _uniform(count, -1.0, 1.0, device) * (1.0 - height)
    flip = 1.0 - 2.0 * _chosen(count, view.horizontal_flip, device).float()
    angle = _uniform(count, -view.rotation, view.rotation, device) * (math.pi / 180)
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [width * flip * cos, -width * sin, x, height * flip * sin, height * cos, y]
    return torch.stack(rows, dim=1).view(count, 2, 3)


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of (B, C, H, W) with one sigma an image, in pixels; edges are reflected."""
    count, channels, height, width = images.shape
    radius = min(max(1, math.ceil(2.5 * float(sigma.max()))), min(height, width) - 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernels = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    flat = F.pad(images.reshape(1, count * channels, height, width), (radius,) * 4, mode="reflect")
    flat = F.conv2d(flat, kernels[:, None, None, :], groups=count * channels)
    flat = F.conv2d(flat, kernels[:, None, :, None], groups=count * channels)
    return flat.view(count, channels, height, width)


def draw(images: Tensor, view: View, size: int) -> Tensor:
    """Draw one view of each image.

    Args:
        images: uint8 (B, C, S, S).
        view: what to draw.
        size: side of the view, pixels.

    Returns:
        float32 (B, C, size, size) in [0, 1].
    """
    count, channels = images.shape[:2]
    device = images.device
    crops = _crops(count, view, device)
    grid = F.affine_grid(crops, [count, channels, size, size], align_corners=False)
    x = F.grid_sample(images.float() / 255.0, grid, mode="bilinear", padding_mode="border", align_corners=False)

    if view.jitter:
        chosen = _chosen(count, view.jitter, device)
        brightness = torch.where(chosen, _uniform(count, 1 - view.brightness, 1 + view.brightness, device), 1.0)
        contrast = torch.where(chosen, _uniform(count, 1 - view.contrast, 1 + view.contrast, device), 1.0)
        x = (x * brightness.view(-1, 1, 1, 1)).clamp(0, 1)
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        x = (mean + (x - mean) * contrast.view(-1, 1, 1, 1)).clamp(0, 1)
    if view.blur:
        chosen = _chosen(count, view.blur, device).nonzero()[:, 0]
        sigma = _uniform(count, *view.blur_sigma, device)[chosen] * (size / 224)
        if len(chosen):
            x = x.index_copy(0, chosen, _blur(x[chosen], sigma))
    if view.solarise:
        chosen = _chosen(count, view.solarise, device).view(-1, 1, 1, 1)
        x = torch.where(chosen & (x >= 0.5), 1.0 - x, x)
    return x
