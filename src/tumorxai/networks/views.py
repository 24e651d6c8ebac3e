"""Views: random, augmented versions of images, drawn for a whole batch at once on its device.

All draws come from torch's global generator, one per image; the caller seeds it. docs/views.md holds each paper's
recipe beside ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor

from tumorxai import config


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"got {list(pair)}; expected the least share first; turn it round")
    return pair


# Least and most share of the area; a list in YAML, which has no tuples.
Crop = Annotated[tuple[config.Share, config.Share], Field(strict=False), AfterValidator(_ascending)]


@dataclass(frozen=True)
class View:
    """How one view is drawn. Probabilities are in [0, 1], intensities on the scale [0, 1]."""

    size: float = 1.0  # side of the view, as a share of the pack's side
    least: int = 1  # least side, pixels, where the pack's is not smaller still
    crop: tuple[float, float] = (1.0, 1.0)  # share of the image's area, least and most
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height of the crop, as far as its area lets it fit
    horizontal_flip: float = 0.5  # probability
    rotation: float = 0.0  # largest angle, degrees
    jitter: float = 0.0  # probability of the four changes that follow
    brightness: float = 0.0  # factor drawn in [1 - brightness, 1 + brightness]
    contrast: float = 0.0  # likewise, about the image's mean
    shift: float = 0.0  # intensity added, drawn in [-shift, shift]
    gamma: float = 0.0  # exponent drawn in [1 / (1 + gamma), 1 + gamma], uniform in its logarithm
    blur: float = 0.0  # probability of a Gaussian blur
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels where the whole image has 224; scales with the pack's side
    solarise: float = 0.0  # probability of inverting intensities above one half
    noise: float = 0.0  # largest standard deviation of Gaussian noise, drawn in [0, noise]


class Augment(config.Block):
    """Changes to a method's views; what is left out stays as in its paper. The units are those of :class:`View`."""

    size: config.Share | None = None  # side of the large views, as a share of the pack's; small ones cost less
    horizontal_flip: config.Fraction | None = None  # probability
    rotation: Annotated[float, Field(ge=0, le=180)] | None = None  # largest angle to either side, degrees
    jitter: config.Fraction | None = None  # probability of the four changes that follow, drawn together
    brightness: config.Fraction | None = None  # b: intensities times a factor drawn in [1 - b, 1 + b]
    contrast: config.Fraction | None = None  # c: a factor drawn in [1 - c, 1 + c], about the image's mean
    shift: config.Fraction | None = None  # s: intensity added, drawn in [-s, s]; black to white is 1
    gamma: config.NotNegative | None = None  # g: exponent of the intensities, drawn in [1 / (1 + g), 1 + g]
    blur: config.Fraction | None = None  # probability of a Gaussian blur
    solarise: config.Fraction | None = None  # probability of inverting intensities above one half
    noise: config.Fraction | None = None  # n: Gaussian noise with a standard deviation drawn in [0, n]


# The papers' views, for grey MRI: what acts on colour (saturation, hue, grey-scale) has no effect and is left out.
SIMCLR = View(crop=(0.08, 1.0), jitter=0.8, brightness=0.8, contrast=0.8, blur=0.5)  # 2002.05709, appendix A
BYOL_1 = View(crop=(0.08, 1.0), jitter=0.8, brightness=0.4, contrast=0.4, blur=1.0)  # 2006.07733, table 6, T
BYOL_2 = replace(BYOL_1, blur=0.1, solarise=0.2)  # the same, T'
MOCO_1 = replace(BYOL_1, crop=(0.2, 1.0))  # 2104.02057: BYOL's, with the authors' --crop-min for ResNet-50
MOCO_2 = replace(BYOL_2, crop=(0.2, 1.0))
SIMSIAM = replace(BYOL_1, crop=(0.2, 1.0), blur=0.5)  # 2011.10566, appendix A
VICREG = replace(BYOL_1, blur=0.5, solarise=0.1)  # 2105.04906, appendix C.1
DINO_1 = replace(BYOL_1, crop=(0.4, 1.0))  # 2104.14294, section 3.1; crops as in the authors' main_dino.py
DINO_2 = replace(BYOL_2, crop=(0.4, 1.0))
DINO_LOCAL = replace(BYOL_1, size=96 / 224, crop=(0.05, 0.4), blur=0.5)
SWAV = replace(SIMCLR, crop=(0.14, 1.0))  # 2006.09882, appendix A.1
SWAV_LOCAL = replace(SWAV, size=96 / 224, crop=(0.05, 0.14))
LEJEPA = replace(BYOL_1, crop=(0.3, 1.0), blur=0.5, solarise=0.2)  # 2511.08544, authors' README
LEJEPA_LOCAL = replace(LEJEPA, size=98 / 224, crop=(0.05, 0.3))
MAE = View(crop=(0.2, 1.0))  # 2111.06377, table 8
FIRILDAK = View(ratio=(1.0, 1.0))  # Firildak et al., section 3: the horizontal flip alone
SUPERVISED = View(crop=(0.6, 1.0), rotation=10.0, jitter=0.8, brightness=0.2, contrast=0.2)


def adapt(view: View, crop_min: float, augment: Augment) -> View:
    """A method's view with the changes that its parameters ask for.

    A crop shows things larger than the whole image does. Views of a smaller side undo that (arXiv 1906.06423, section
    3.1: networks do best on images in which things are as large as in training).

    Args:
        view: as in the paper.
        crop_min: least share of the image's area that the view shows.
        augment: further changes.
    """
    return replace(view, crop=(crop_min, max(crop_min, view.crop[1])), **augment.model_dump(exclude_none=True))


def side(view: View, full: int) -> int:
    """Side of a view in pixels, where the pack's images have ``full``."""
    return min(max(view.least, round(view.size * full)), full)


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


def _aspect(area: Tensor, ratio: tuple[float, float]) -> Tensor:
    """Width / height of crops, (B,), uniform in its logarithm where a crop of its area fits into the image.

    A crop of the share a of a square fits if its aspect lies in [a, 1 / a]: the whole image has none but 1, and a crop
    that is switched off changes nothing. torchvision's RandomResizedCrop draws so too: area and aspect anew until both
    fit.

    Args:
        area: shares of the image's area, (B,), in (0, 1].
        ratio: least and largest, on either side of 1.
    """
    low, high = area.log().clamp(min=math.log(ratio[0])), (-area.log()).clamp(max=math.log(ratio[1]))
    return torch.exp(low + torch.rand_like(area) * (high - low))


def sample(count: int, view: View, device: torch.device) -> dict[str, Tensor]:
    """All that is drawn for one view of some images but the noise of its pixels, each (count,), by name.

    Args:
        count: images.
        view: what it may be; of what it leaves out nothing is drawn.
        device: whose generator draws.

    Returns:
        ``width`` and ``height`` of the crop, shares of the image's side; ``x`` and ``y`` of its centre in [-1, 1];
        ``flip``, -1 for a mirrored one, else 1; ``angle``, radians. Where the view asks for them: ``brightness`` and
        ``contrast``, factors; ``shift``, added; ``gamma``, an exponent; ``blurred`` and ``solarised``, bool; ``sigma``
        of the blur where the whole image has 224 pixels.
    """
    area = _uniform(count, *view.crop, device)
    aspect = _aspect(area, view.ratio)
    drawn = {
        "width": torch.sqrt(area * aspect).clamp(max=1.0),
        "height": torch.sqrt(area / aspect).clamp(max=1.0),
    }
    drawn["x"] = _uniform(count, -1.0, 1.0, device) * (1.0 - drawn["width"])
    drawn["y"] = _uniform(count, -1.0, 1.0, device) * (1.0 - drawn["height"])
    drawn["flip"] = 1.0 - 2.0 * _chosen(count, view.horizontal_flip, device).float()
    drawn["angle"] = _uniform(count, -view.rotation, view.rotation, device) * (math.pi / 180)
    if view.jitter:
        chosen = _chosen(count, view.jitter, device)
        if view.brightness:
            drawn["brightness"] = _uniform(count, 1 - view.brightness, 1 + view.brightness, device).where(chosen, 1.0)
        if view.contrast:
            drawn["contrast"] = _uniform(count, 1 - view.contrast, 1 + view.contrast, device).where(chosen, 1.0)
        if view.shift:
            drawn["shift"] = _uniform(count, -view.shift, view.shift, device) * chosen
        if view.gamma:
            width = math.log1p(view.gamma)
            drawn["gamma"] = torch.exp(_uniform(count, -width, width, device) * chosen)
    if view.blur:
        drawn["blurred"] = _chosen(count, view.blur, device)
        drawn["sigma"] = _uniform(count, *view.blur_sigma, device)
    if view.solarise:
        drawn["solarised"] = _chosen(count, view.solarise, device)
    return drawn


def affine(drawn: dict[str, Tensor]) -> Tensor:
    """Where the pixels of a crop lie in their image: x and y as a column's part, a row's part and a start, (B, 3, 2).

    A pixel at (a, b) of the view, both in [-1, 1], lies at a times the first row plus b times the second plus the last.

    Args:
        drawn: what :func:`sample` gives.
    """
    width, height, flip = drawn["width"], drawn["height"], drawn["flip"]
    cos, sin = torch.cos(drawn["angle"]), torch.sin(drawn["angle"])
    by_column = torch.stack([width * flip * cos, height * flip * sin], dim=1)
    by_row = torch.stack([-width * sin, height * cos], dim=1)
    return torch.stack([by_column, by_row, torch.stack([drawn["x"], drawn["y"]], dim=1)], dim=1)


def across(size: int, device: torch.device) -> Tensor:
    """Centres of a view's pixels along one side, (size,), in [-1, 1]."""
    return (torch.arange(size, device=device) * 2 + 1) / size - 1


def _grid(matrix: Tensor, size: int) -> Tensor:
    """Where each pixel of a view lies in its image: (B, size, size, 2), x and y in [-1, 1].

    Args:
        matrix: what :func:`affine` gives.
        size: side of the view, pixels.
    """
    places = across(size, matrix.device)
    grid = torch.empty(len(matrix), size, size, 2, device=matrix.device)
    for axis in range(2):
        by_column, by_row, start = matrix[:, :, axis].unbind(dim=1)
        columns = by_column[:, None] * places + start[:, None]
        torch.add(columns[:, None, :], (by_row[:, None] * places)[:, :, None], out=grid[..., axis])
    return grid


def _each(values: Tensor) -> Tensor:
    """One number an image, (B,), so that it multiplies images (B, C, H, W)."""
    return values.view(-1, 1, 1, 1)


def blur_radius(view: View, full: int, size: int) -> int:
    """Radius of a view's blur, pixels, where the pack's images have ``full`` and the view has ``size``."""
    return min(max(1, math.ceil(2.5 * view.blur_sigma[1] * full / 224)), size - 1)


def blur_weights(sigma: Tensor, radius: int) -> Tensor:
    """One half of Gaussian kernels, from the middle outwards: (B, radius + 1); sigmas (B,) and the radius in pixels."""
    offsets = torch.arange(radius + 1, device=sigma.device)
    weights = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-3)[:, None]) ** 2)
    return weights / (2 * weights.sum(dim=1, keepdim=True) - 1)


def _blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Gaussian blur of (B, C, H, W) with one sigma an image; sigmas and the kernels' radius in pixels.

    Edges are reflected. The kernels are short, so shifted sums cost less than convolutions, whose libraries prepare
    themselves anew for every number of images.
    """
    weights = blur_weights(sigma, radius)
    for axis, padding in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        padded, side = F.pad(images, padding, mode="reflect"), images.shape[axis]
        images = padded.narrow(axis, radius, side) * _each(weights[:, 0])
        for i in range(1, radius + 1):
            pair = padded.narrow(axis, radius - i, side) + padded.narrow(axis, radius + i, side)
            images.addcmul_(pair, _each(weights[:, i]))
    return images


def _blur_some(x: Tensor, view: View, full: int, drawn: dict[str, Tensor]) -> Tensor:
    """Blur the images that were chosen."""
    sigma, radius = drawn["sigma"] * (full / 224), blur_radius(view, full, min(x.shape[2:]))
    if x.device.type != "cpu":  # to know how many are chosen would mean to wait for the device; sigma 0 blurs nothing
        return _blur(x, sigma * drawn["blurred"], radius)
    index = drawn["blurred"].nonzero()[:, 0]
    return x.index_copy_(0, index, _blur(x[index], sigma[index], radius)) if len(index) else x


def _jitter(x: Tensor, drawn: dict[str, Tensor]) -> None:
    """Change brightness, contrast, level and gamma of each image in place."""
    if "brightness" in drawn:
        x.mul_(_each(drawn["brightness"])).clamp_(0, 1)
    if "contrast" in drawn:
        factor = _each(drawn["contrast"])
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        x.mul_(factor).add_(mean * (1 - factor)).clamp_(0, 1)
    if "shift" in drawn:
        x.add_(_each(drawn["shift"])).clamp_(0, 1)
    if "gamma" in drawn:
        x.pow_(_each(drawn["gamma"]))


def draw(images: Tensor, view: View, size: int) -> Tensor:
    """Draw one view of each image.

    Args:
        images: uint8 (B, C, S, S).
        view: what to draw.
        size: side of the view, pixels; :func:`side` gives it.

    Returns:
        float32 (B, C, size, size) in [0, 1].
    """
    count, device = len(images), images.device
    drawn = sample(count, view, device)
    grid = _grid(affine(drawn), size)
    x = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    x.mul_(1 / 255).clamp_(0, 1)
    _jitter(x, drawn)
    if view.blur:
        x = _blur_some(x, view, images.shape[-1], drawn)
    if view.solarise:
        chosen = _each(drawn["solarised"])
        x.sub_((2 * x - 1).clamp_(min=0).mul_(chosen))  # x - (2 x - 1) = 1 - x, where x is above one half
    if view.noise:
        x.add_(torch.randn_like(x).mul_(_each(_uniform(count, 0.0, view.noise, device)))).clamp_(0, 1)
    return x
