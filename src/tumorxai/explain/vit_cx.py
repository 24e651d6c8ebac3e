"""ViT-CX: saliency as the causal effect of feature masks (Xie et al., "Causal Explanation of Vision Transformers").

arXiv 2211.03064, after the authors' code (github.com/vaynexie/CausalX-ViT, commit a120d993), which the paper leaves
the details to. Forward passes only; all masks of an image go through the network in batches. Where the authors' code
has no guard and gives NaN, a channel or a cluster that is constant is dropped: it prefers no place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor, nn

from tumorxai.explain.layers import Layer, check_finite
from tumorxai.networks import capacity

if TYPE_CHECKING:
    from tumorxai.explain.explainer import Explainer

THRESHOLD = 0.1  # cosine distance at which channels stop being merged
NOISE = 0.1  # standard deviation of the noise, in units of the normalised image
FLAT = 1e-5  # a spread this small, relative to the values, is rounding: scaling would blow it up to a mask
CHANNELS = 128  # enlarged at a time
AT_ONCE = 8  # images of a forward pass on a CPU: more leave the cache and are slower


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
    model: nn.Module, image: Tensor, masks: Tensor, target: int | Tensor, noise: Tensor, batch: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What each mask lets the network see, against the same noise on the whole image.

    Args:
        model: images to logits.
        image: normalised, (C, H, W), or that of each mask, (N, C, H, W).
        masks: (N, H, W) in [0, 1].
        target: class, or that of each mask (N,).
        noise: standard normal, (N, C, H, W).
        batch: images that go through the network at once; None takes what suits the device.

    Returns:
        Scores p(masked) - p(noisy) without the clean image's p, (N,); p(masked) and p(noisy), each (N, K).
    """
    masked, noisy = [], []
    whole = image.expand(len(masks), *noise.shape[1:])
    half = max(1, (batch or capacity.at_once(model, whole[:1], AT_ONCE)) // 2)
    for own, mask, draw in zip(*(torch.split(x, half) for x in (whole, masks[:, None], noise)), strict=True):
        error = NOISE * draw * (1 - mask)
        p = model(torch.cat([own * mask + error, own + error])).softmax(dim=1)
        masked.append(p[: len(mask)])
        noisy.append(p[len(mask) :])
    p_masked, p_noisy = torch.cat(masked), torch.cat(noisy)
    of = torch.as_tensor(target, device=masks.device).expand(len(masks))[:, None]
    return (p_masked.gather(1, of) - p_noisy.gather(1, of))[:, 0], p_masked, p_noisy


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
    together: int | None = None,
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
        batch: perturbed images that go through the network at once; None takes what suits the device: on a GPU what
            half of its free memory holds.
        together: masks that several images may have together to share a batch; None shares on a GPU alone.

    Returns:
        (B, H, W), not scaled; values can be negative.
    """
    kept: list[Tensor] = []
    handle = layer.module.register_forward_hook(lambda *given: kept.append(layer.to_map(given[2])))
    try:
        clean = model(images).softmax(dim=1)
    finally:
        handle.remove()
    made_of = check_finite(kept[0], f"the layer {layer.name}")
    size = (images.shape[2], images.shape[3])
    batch = batch or capacity.at_once(model, images[:1], AT_ONCE)
    if together is None:
        together = batch // 2 if images.device.type == "cuda" else 0
    noise = Noise(images, seed)
    maps: list[Tensor] = []
    waiting: list[Tensor] = []  # masks of images whose maps are not made yet

    def make() -> None:
        counts = [len(masks) for masks in waiting]
        of = torch.arange(len(maps), len(maps) + len(counts)).repeat_interleave(torch.tensor(counts)).to(images.device)
        scores = clean[of, targets[of]]
        if len(of):
            own = images[len(maps)] if len(counts) == 1 else images[of]
            scores = causal_scores(model, own, torch.cat(waiting), targets[of], noise(counts), batch)[0] + scores
        maps.extend(combine(masks, part) for masks, part in zip(waiting, scores.split(counts), strict=True))
        waiting.clear()

    for features in made_of:
        masks = feature_masks(features, size, most)
        if waiting and sum(map(len, waiting)) + len(masks) > together:
            make()
        waiting.append(masks)
    make()
    return torch.stack(maps)


class Noise:
    """Noise of the masks of images: drawn from one seed for each image, so that the first mask has always the same.

    torch fills in sixteens: where an image has a multiple of 16 values, fewer draws are the first ones of more.

    Args:
        images: (B, C, H, W).
        seed: of the noise.
    """

    def __init__(self, images: Tensor, seed: int) -> None:
        self.like, self.seed = images[0], seed
        self.drawn = images.new_zeros(0, *images.shape[1:])

    def __call__(self, counts: Sequence[int]) -> Tensor:
        """Standard normal, (sum of counts, C, H, W): for some images the noise of so many masks each."""
        parts = [self._of(count) for count in counts]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _of(self, count: int) -> Tensor:
        if count > len(self.drawn) or self.like.numel() % 16:
            generator = torch.Generator().manual_seed(self.seed)
            self.drawn = torch.randn(count, *self.like.shape, generator=generator).to(self.like.device)
        return self.drawn[:count]


def heat_maps(explainer: Explainer, images: Tensor, targets: Tensor) -> Tensor:
    """Maps as :class:`~tumorxai.explain.explainer.Explainer` asks for them, shifted so that the least is 0.

    Causal scores can be negative altogether, and only their differences tell.
    """
    maps = vit_cx(explainer.model, images, targets, explainer.features, explainer.seed, explainer.masks)
    return maps - maps.amin(dim=(1, 2), keepdim=True)
