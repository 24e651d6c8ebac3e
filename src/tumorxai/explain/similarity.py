"""Explanations without classes: what in an image makes an encoder find it similar to another one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tumorxai.errors import UserError, known
from tumorxai.explain import cams, methods
from tumorxai.explain.layers import Layer, check_finite, target_layer
from tumorxai.explain.methods import METHODS


def similarity_maps(
    encoder: nn.Module,
    images: Tensor,
    neighbours: Tensor,
    method: str = "grad_cam",
    layer: Layer | None = None,
) -> tuple[Tensor, Tensor]:
    """Where in each image the evidence for its similarity to its neighbour lies.

    A CAM of the cosine similarity of the two embeddings, of which the neighbour's is held fixed (Chen et al., "Adapting
    Grad-CAM for Embedding Networks", arXiv 2001.06538). Swap the two for the map of the neighbour.

    Args:
        encoder: images to features (B, d), in evaluation mode.
        images: normalised, (B, C, S, S).
        neighbours: normalised, one for each image, of the same shape.
        method: a gradient CAM of any score: a row of the table with ``of_similarity``.
        layer: where to read the maps off; found when not given.

    Returns:
        Maps (B, S, S) in [0, 1], zero where there is no evidence, and the cosine similarities (B,).

    Raises:
        UserError: shapes that do not fit, an unknown method, or values that are not finite.
    """
    if images.shape != neighbours.shape:
        raise UserError(
            f"got images of shape {tuple(images.shape)} and neighbours of shape {tuple(neighbours.shape)}; expected "
            "one neighbour of the same size for each image"
        )
    known("method", method, (name for name, row in METHODS.items() if row.of_similarity))
    layer = layer or target_layer(encoder, images[:1])
    with torch.no_grad():
        fixed = encoder(neighbours)
    reached: list[Tensor] = []

    def score(features: Tensor) -> Tensor:
        reached.append(F.cosine_similarity(features, fixed, dim=1))
        return reached[0]

    raw = methods.load(METHODS[method].function)(*cams.activations_and_gradients(encoder, images, layer, score))
    return cams.stretch(check_finite(raw, method), (images.shape[2], images.shape[3])), reached[0].detach()
