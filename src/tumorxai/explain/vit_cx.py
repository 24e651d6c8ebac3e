"""ViT-CX: saliency as the causal effect of feature masks (Xie et al., "Causal Explanation of Vision Transformers").

arXiv 2211.03064, after the authors' code (github.com/vaynexie/CausalX-ViT, commit a120d993), which the paper leaves
the details to. Forward passes only; all masks of an image go through the network in batches. Where the authors' code
has no guard and gives NaN, a channel or a cluster that is constant is dropped: it prefers no place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor, nn

from tumorxai.explain.layers import Layer, check_finite

if TYPE_CHECKING:
    from tumorxai.explain.explainer import Explainer

THRESHOLD = 0.1  # cosine distance at which channels stop being merged
NOISE = 0.1  # standard deviation of the noise, in units of the normalised image
FLAT = 1e-5  # a spread this small, relative to the values, is rounding: scaling would blow it up to a mask
CHANNELS = 128  # enlarged at a time
AT_ONCE = {"cpu": 8}  # images of a forward pass: more leave the cache and are slower


def _enlarging(cells: int, size: int, like: Tensor) -> Tensor:
    """Matrix (size, cells) of bilinear interpolation along one axis, with half-pixel centres."""
    identity = torch.eye(cells, dtype=like.dtype, device=like.device)
    return F.interpolate(identity[None], size=size, mode="linear", align_corners=False)[0].T


def _distance(features: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine distance between channels, each enlarged and then stretched to [0, 1], without holding them enlarged.

    Enlarging is linear, u = R f C', so inner products of enlarged channels are inner products on the coarse grid, with
    R'R and C'C between.

    Args:
        features: (J, h, w), none of them constant.
        rows: (H, h).
        columns: (W, w).

    Returns:
        Distances (J, J), and the enlarged channels' spread max - min (J,).
    """
    low, high = [], []
    for part in torch.split(features, CHANNELS):
        enlarged = rows @ part @ columns.T
        low.append(enlarged.amin(dim=(1, 2)))
        high.append(enlarged.amax(dim=(1, 2)))
    least = torch.cat(low)
    spread = torch.cat(high) - least
    pixels = len(rows) * len(columns)
    total = (rows.sum(dim=0) @ features) @ columns.sum(dim=0)
    inner = ((rows.T @ rows) @ features @ (columns.T @ columns)).flatten(1) @ features.flatten(1).T
    shifted = torch.outer(least, total)
    inner = (inner - shifted - shifted.T + pixels * torch.outer(least, least)) / torch.outer(spread, spread)
    norm = inner.diagonal().clamp(min=1e-12).sqrt()
    return 1 - inner / torch.outer(norm, norm), spread


def cluster(distance: NDArray[np.float64], most: int | None = None) -> NDArray[np.int64]:
    """Merge channels by complete linkage while the distance is below THRESHOLD.

    Args:
        distance: (J, J).
        most: number of clusters at which merging goes on regardless of the threshold; None for no such limit.

    Returns:
        Cluster of each channel (J,).
    """
    if len(distance) < 2:
        return np.zeros(len(distance), dtype=np.int64)
    tree = {"metric": "precomputed", "linkage": "complete", "compute_full_tree": True}
    labels = AgglomerativeClustering(n_clusters=None, distance_threshold=THRESHOLD, **tree).fit_predict(distance)
    if most is not None and labels.max() >= most:
        labels = AgglomerativeClustering(n_clusters=most, **tree).fit_predict(distance)
    return np.asarray(labels, dtype=np.int64)


def feature_masks(features: Tensor, size: tuple[int, int], most: int | None = None) -> Tensor:
    """One mask for each cluster of similar channels.

    Args:
        features: (J, h, w).
        size: height and width of the image, pixels.
        most: see :func:`cluster`.

    Returns:
        Masks (N, *size) in [0, 1], float32, N from 0 (every channel is constant) to J.
    """
    channels = features.double()
    flat = channels.flatten(1)
    uneven = flat.amax(dim=1) - flat.amin(dim=1) > FLAT * flat.abs().amax(dim=1)
    channels = channels[uneven]
    if not len(channels):
        return torch.zeros(0, *size, device=features.device)
    rows, columns = (_enlarging(n, s, channels) for n, s in zip(features.shape[1:], size, strict=True))
    distance, spread = _distance(channels, rows, columns)
    labels = torch.from_numpy(cluster(distance.cpu().numpy(), most)).to(features.device)
    members = F.one_hot(labels).to(channels.dtype).T  # (N, J)
    sums = torch.einsum("nj,jhw->nhw", members, channels / spread[:, None, None])
    masks = rows @ sums @ columns.T
    masks = masks - masks.amin(dim=(1, 2), keepdim=True)
    top = masks.amax(dim=(1, 2))
    kept = top > FLAT * members.sum(dim=1)  # a channel and its mirror image cancel
    return (masks[kept] / top[kept, None, None]).float()


@torch.no_grad()
def causal_scores(
    model: nn.Module, image: Tensor, masks: Tensor, target: int, noise: Tensor, batch: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What each mask lets the network see, against the same noise on the whole image.

    Args:
        model: images to logits.
        image: normalised, (C, H, W).
        masks: (N, H, W) in [0, 1].
        target: class.
        noise: standard normal, (N, C, H, W).
        batch: images that go through the network at once; None takes what suits the device.

    Returns:
        Scores p(masked) - p(noisy) without the clean image's p, (N,); p(masked) and p(noisy), each (N, K).
    """
    masked, noisy = [], []
    half = max(1, (batch or AT_ONCE.get(image.device.type, 128)) // 2)
    for mask, draw in zip(torch.split(masks[:, None], half), torch.split(noise, half), strict=True):
        error = NOISE * draw * (1 - mask)
        p = model(torch.cat([image * mask + error, image + error])).softmax(dim=1)
        masked.append(p[: len(mask)])
        noisy.append(p[len(mask) :])
    p_masked, p_noisy = torch.cat(masked), torch.cat(noisy)
    return p_masked[:, target] - p_noisy[:, target], p_masked, p_noisy


def combine(masks: Tensor, scores: Tensor) -> Tensor:
    """The masks' mean, weighted by their scores and corrected for how often a pixel is covered.

    Args:
        masks: (N, H, W).
        scores: (N,).

    Returns:
        Saliency (H, W). A pixel that no mask covers gets what a pixel covered by all alike would; without masks, zero.
    """
    if not len(masks):
        return masks.sum(dim=0)
    coverage = masks.sum(dim=0)
    weighted = torch.einsum("n,nhw->hw", scores, masks)
    return torch.where(coverage > 0, weighted / coverage.clamp(min=1e-12), scores.mean()) / len(masks)


@torch.no_grad()
def vit_cx(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    layer: Layer,
    seed: int = 0,
    most: int | None = None,
    batch: int | None = None,
) -> Tensor:
    """Saliency maps of some images.

    With one cluster the map is the same everywhere: all channels say the same, so no place stands out.

    Args:
        model: images to logits, in evaluation mode.
        images: normalised, (B, C, H, W).
        targets: class of each image (B,).
        layer: what the masks are made of; for a ViT the normalised input of the last attention layer.
        seed: of the noise, the same for every image.
        most: most masks of an image; None leaves their number to the threshold.
        batch: perturbed images that go through the network at once; None takes what suits the device.

    Returns:
        (B, H, W), not scaled; values can be negative.
    """
    kept: list[Tensor] = []
    handle = layer.module.register_forward_hook(lambda *given: kept.append(layer.to_map(given[2])))
    try:
        clean = model(images).softmax(dim=1)
    finally:
        handle.remove()
    maps = []
    made_of = check_finite(kept[0], f"the layer {layer.name}")
    for image, features, p, target in zip(images, made_of, clean, targets.tolist(), strict=True):
        masks = feature_masks(features, (image.shape[1], image.shape[2]), most)
        noise = torch.randn(len(masks), *image.shape, generator=torch.Generator().manual_seed(seed)).to(image.device)
        if len(masks):
            effect, _, _ = causal_scores(model, image, masks, target, noise, batch)
            maps.append(combine(masks, effect + p[target]))
        else:
            maps.append(combine(masks, masks.new_zeros(0)))
    return torch.stack(maps)


def heat_maps(explainer: Explainer, images: Tensor, targets: Tensor) -> Tensor:
    """Maps as :class:`~tumorxai.explain.explainer.Explainer` asks for them, shifted so that the least is 0.

    Causal scores can be negative altogether, and only their differences tell.
    """
    maps = vit_cx(explainer.model, images, targets, explainer.features, explainer.seed, explainer.masks)
    return maps - maps.amin(dim=(1, 2), keepdim=True)
