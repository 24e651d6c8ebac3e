"""Small crops beside the large ones (SwAV, arXiv 2006.09882, section 3.2), for the methods that have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from tumorxai.networks import encoders
from tumorxai.networks.views import Augment, Crop, View, adapt


def small(encoder: nn.Module, view: View, crop: Crop, augment: Augment) -> View:
    """A method's small crop, of a size that the encoder takes.

    Args:
        encoder: that sees it.
        view: as in the paper.
        crop: least and most share of the image's area that it shows.
        augment: further changes; its size is of the large views.
    """
    size, least = encoders.fitting(encoder, view.size)
    return replace(adapt(view, crop[0], augment), crop=crop, size=size, least=least)


def encode(encoder: nn.Module, views: Sequence[Tensor]) -> Tensor:
    """Features of all views, one below the other, (V B, d): the two large ones go through together, then the others."""
    parts = [views[:2], views[2:]] if len(views) > 2 else [views]
    return torch.cat([encoder(torch.cat(list(part))) for part in parts])
