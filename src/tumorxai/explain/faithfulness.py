"""Do heat-maps show what the classifier uses? Pixels are removed or shown in the order of a map, and it answers again.

Every function takes normalised images, so that 0 is the mean of the data, and gives one value for each image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 256
BLUR = 1 / 8  # standard deviation of the blurred baseline, as a share of the side: a lesion is gone in it
CELLS = 8  # on a side, of the grid whose cells sensitivity-n removes
REMOVED = 1 / 4  # share of the cells that it removes at a time
ROAD_NOISE = 0.01  # standard deviation, as in the authors' code
TOLERANCE = 1e-3  # of imputed pixels, relative to the right-hand side


@torch.no_grad()
def probability(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Probability of each image's class (B,)."""
    parts = [
        model(x).softmax(dim=1).gather(1, y[:, None])[:, 0]
        for x, y in zip(torch.split(images, BATCH), torch.split(targets, BATCH), strict=True)
    ]
    return torch.cat(parts)


def probabilities(
    model: nn.Module, changed: Iterable[Tensor], targets: Tensor, together: int | None = None
) -> list[Tensor]:
    """Probability of each image's class after each of several changes, (B,) for each.

    Args:
        model: images to logits, in evaluation mode.
        changed: the same images (B, C, H, W), changed in different ways.
        targets: class of each image (B,).
        together: images that at least go through the network at once, whatever they were changed by; None takes what
            suits the device: on a CPU each change on its own, because more leave the cache.
    """
    least = together or (1 if targets.device.type == "cpu" else BATCH)
    found: list[Tensor] = []
    waiting: list[Tensor] = []

    def pass_on() -> None:
        count = len(waiting)
        x = torch.cat(waiting) if count > 1 else waiting[0]  # a copy might lie otherwise in memory, and round otherwise
        found.extend(probability(model, x, targets.repeat(count)).chunk(count))
        waiting.clear()

    for x in changed:
        waiting.append(x)
        if len(waiting) * len(targets) >= least:
            pass_on()
    if waiting:
        pass_on()
    return found


def ranks(maps: Tensor, seed: int) -> Tensor:
    """Place of each pixel in the order from the highest value of its map to the lowest, as a share of the pixels.

    Args:
        maps: (B, H, W).
        seed: of the order among equal values; a flat map gives pixels in random order.

    Returns:
        (B, H, W) in [0, 1).
    """
    flat = maps.flatten(1)
    shuffled = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed)).to(maps.device)
    order = shuffled[flat[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    place = torch.empty_like(order).scatter_(1, order, torch.arange(flat.shape[1], device=maps.device).expand_as(order))
    return (place / flat.shape[1]).view_as(maps)


def blurred(images: Tensor) -> Tensor:
    """Baseline without detail: a Gaussian blur of images (B, C, H, W), the borders continued."""
    for axis in (2, 3):
        size = images.shape[axis]
        place = torch.arange(size, device=images.device, dtype=images.dtype)
        radius = math.ceil(3 * BLUR * size)
        offset = torch.arange(-radius, radius + 1, device=images.device)
        source = (place[:, None].long() + offset).clamp(0, size - 1)
        weight = torch.exp(-0.5 * (offset / (BLUR * size)) ** 2)
        kernel = torch.zeros(size, size, device=images.device, dtype=images.dtype)
        kernel.scatter_add_(1, source, (weight / weight.sum()).to(images.dtype).expand_as(source))
        images = (kernel @ images) if axis == 2 else (images @ kernel.T)
    return images


def curves(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    baseline: Tensor,
    steps: int,
    seed: int = 0,
    ends: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Deletion and insertion (Petsiuk et al., RISE, arXiv 1806.07421, section 4.2).

    Args:
        model: images to logits, in evaluation mode.
        images: (B, C, H, W).
        targets: class of each image (B,).
        maps: (B, H, W).
        baseline: what stands for a removed pixel, (B, C, H, W).
        steps: equal shares of the pixels are removed in so many steps.
        seed: of the order among pixels of equal value.
        ends: probabilities of ``images`` and of ``baseline``, each (B,), where they are known: they are the same for
            all maps.

    Returns:
        Probability after 0 to ``steps`` steps, when the highest pixels are removed from the image, and when they are
        shown on the baseline; each (B, steps + 1).
    """
    place = ranks(maps, seed)[:, None]
    full, nothing = ends or (probability(model, images, targets), probability(model, baseline, targets))
    changed = (
        torch.where(place < step / steps, *pair)
        for step in range(1, steps)
        for pair in ((baseline, images), (images, baseline))
    )
    between = probabilities(model, changed, targets)
    deletion, insertion = [full, *between[::2], nothing], [nothing, *between[1::2], full]
    return torch.stack(deletion, dim=1), torch.stack(insertion, dim=1)


def area(curve: Tensor) -> Tensor:
    """Area under curves (B, steps + 1) over [0, 1], by trapezia; shape (B,)."""
    return torch.trapezoid(curve, dx=1 / (curve.shape[1] - 1), dim=1)


def _neighbours(x: Tensor) -> Tensor:
    """Sum over the eight neighbours, 1/6 for those beside and 1/12 for those at a corner; nothing beyond the border."""
    padded = F.pad(x, (1, 1, 1, 1))
    rows = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 12 - x / 3


def impute(images: Tensor, missing: Tensor, most: int = 500) -> Tensor:
    """Fill in missing pixels so that each is the weighted mean of its neighbours (ROAD's linear imputation, no noise).

    The symmetric system of all images at once, by conjugate gradients from a smooth guess.

    Args:
        images: (B, C, H, W).
        missing: bool (B, 1, H, W); in each image some pixel must not be missing.
        most: iterations.

    Returns:
        (B, C, H, W), untouched where nothing is missing.
    """
    gaps = missing.to(images.dtype)
    known = images * (1 - gaps)
    inside = _neighbours(torch.ones_like(gaps))  # less than 1 at the border
    right = gaps * _neighbours(known)

    def apply(x: Tensor) -> Tensor:
        return gaps * (inside * x - _neighbours(x))

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dim=(1, 2, 3), keepdim=True)

    x = gaps * _pyramid(known, 1 - gaps)
    residual = right - apply(x)
    direction, square = residual, dot(residual, residual)
    goal = TOLERANCE**2 * dot(right, right)
    for _ in range(most):
        if bool((square <= goal).all()):
            break
        image = apply(direction)
        length = square / dot(direction, image).clamp(min=1e-30)
        x, residual = x + length * direction, residual - length * image
        before, square = square, dot(residual, residual)
        direction = residual + square / before.clamp(min=1e-30) * direction
    return known + gaps * x


def _pyramid(values: Tensor, weights: Tensor) -> Tensor:
    """Guess at every pixel: the mean of the known ones around, of the smallest neighbourhood that has any."""
    if min(values.shape[2:]) < 2:
        return values / weights.clamp(min=1e-12)
    coarse = _pyramid(F.avg_pool2d(values, 2, ceil_mode=True), F.avg_pool2d(weights, 2, ceil_mode=True))
    wide = F.interpolate(coarse, size=values.shape[2:], mode="bilinear", align_corners=False)
    share = weights.clamp(max=1)
    return torch.where(weights > 0, values / weights.clamp(min=1e-12), wide) * share + wide * (1 - share)


def road(
    model: nn.Module, images: Tensor, targets: Tensor, maps: Tensor, shares: tuple[float, ...], seed: int = 0
) -> Tensor:
    """ROAD (Rong et al., arXiv 2202.00449): removed pixels are imputed, so that the hole itself gives nothing away.

    Args:
        model: images to logits, in evaluation mode.
        images: (B, C, H, W).
        targets: class of each image (B,).
        maps: (B, H, W).
        shares: of the pixels that are removed, each in (0, 1).
        seed: of the order among equal pixels and of the noise on imputed ones.

    Returns:
        (B,): half the probability with the lowest pixels removed minus that with the highest removed, the mean over
        ``shares``, as ``ROADCombined`` of pytorch-grad-cam; higher is better, 0 is chance.
    """
    place = ranks(maps, seed)[:, None]
    drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed)).to(images.device)
    total = torch.zeros_like(images[:, 0, 0, 0])
    for share in shares:
        for sign, missing in ((-1, place < share), (1, place >= 1 - share)):
            filled = impute(images, missing) + ROAD_NOISE * drawn * missing
            total += sign * probability(model, filled, targets) / (2 * len(shares))
    return total


def drop_and_increase(model: nn.Module, images: Tensor, targets: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Average drop and increase of the probability (Chattopadhyay et al., arXiv 1710.11063, section 4.1).

    The classifier sees the image multiplied by its map. A map that hides nothing cannot lose: read it with the floors.

    Args:
        model: images to logits, in evaluation mode.
        images: (B, C, H, W).
        targets: class of each image (B,).
        maps: (B, H, W) in [0, 1].

    Returns:
        Share of the probability that is lost, in [0, 1] (lower is better), and 1 where it rises, else 0 (higher is).
    """
    full = probability(model, images, targets)
    masked = probability(model, images * maps[:, None], targets)
    return ((full - masked) / full.clamp(min=1e-12)).clamp(min=0), (masked > full).to(images.dtype)


def removals(model: nn.Module, images: Tensor, targets: Tensor, samples: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Remove random sets of cells from the images, the same for every map that is judged by them.

    Args:
        model: images to logits, in evaluation mode.
        images: (B, C, H, W), at least CELLS pixels on a side.
        targets: class of each image (B,).
        samples: number of sets.
        seed: of the sets.

    Returns:
        The sets, 0 or 1, (samples, CELLS ** 2), and how far the probability drops for each, (B, samples).
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(samples, CELLS**2, generator=generator).argsort(dim=1)
    sets = (order < round(REMOVED * CELLS**2)).to(images)
    full = probability(model, images, targets)
    holes = (F.interpolate(one.view(1, 1, CELLS, CELLS), size=images.shape[2:], mode="nearest") for one in sets)
    left = probabilities(model, (images * (1 - hole) for hole in holes), targets)
    return sets, torch.stack([full - one for one in left], dim=1)


def sensitivity_n(maps: Tensor, sets: Tensor, drops: Tensor) -> Tensor:
    """Sensitivity-n (Ancona et al., arXiv 1711.06104, section 3.2): a map's sums over removed cells against the drops.

    Args:
        maps: (B, H, W).
        sets: see :func:`removals`.
        drops: see :func:`removals`.

    Returns:
        Pearson correlation over the sets (B,), in [-1, 1]; 0 where the map or the drops are flat.
    """
    sums = F.adaptive_avg_pool2d(maps[:, None], CELLS).flatten(1) @ sets.T
    a, b = (x - x.mean(dim=1, keepdim=True) for x in (sums, drops))
    norm = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(norm > 1e-9, (a * b).sum(dim=1) / norm.clamp(min=1e-12), 0)
