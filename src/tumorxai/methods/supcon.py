"""SupCon (Khosla et al., arXiv 2004.11362): views of one class attract, where labels are known; all others repel."""

from __future__ import annotations

from typing import Annotated

import torch
from lightly.models.modules.heads import SimCLRProjectionHead
from pydantic import Field
from torch import Tensor, nn

from tumorxai import config
from tumorxai.networks import losses
from tumorxai.networks.views import SIMCLR, Augment, View, adapt

ABOUT = config.About(
    title="Supervised contrastive learning",
    authors="Khosla et al.",
    year=2020,
    paper="arXiv:2004.11362",
    uses_labels=True,
)


class Config(config.Block):
    """Section 4; the optimizer is that of the authors' code for small images.

    (github.com/HobbitLong/SupContrast: SGD, 0.5 at batches of 1,024, weight decay 1e-4.) The views are SimCLR's, one of
    the four kinds that the paper tries.
    """

    temperature: config.Positive = 0.1  # tau of Eq. 2
    hidden: config.Count = 2048  # width of the projection head's hidden layer
    projection: config.Count = 128  # width of its output
    crop_min: Annotated[float, Field(gt=0, le=1)] = SIMCLR.crop[0]  # least share of the area that a view shows
    augment: Augment = Augment()
    optimizer: config.Optimizer = config.Optimizer(name="sgd", lr=0.125, weight_decay=1e-4, momentum=0.9)


class Method(nn.Module):
    """An encoder and a two-layer projection head. An image without a label has one positive, its other view."""

    def __init__(self, encoder: nn.Module, features: int, settings: Config, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = SimCLRProjectionHead(features, settings.hidden, settings.projection)
        self.settings = settings
        self.optimizer = settings.optimizer
        self.signals: dict[str, Tensor] = {}

    def views(self) -> list[View]:
        """Twice the same distribution."""
        return [adapt(SIMCLR, self.settings.crop_min, self.settings.augment)] * 2

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """L_out of Eq. 2, averaged over both views of all images."""
        z = torch.stack([self.head(self.encoder(view)) for view in views])
        return losses.supervised_contrastive(z, labels, self.settings.temperature)

    def after_step(self, progress: float) -> None:
        """Nothing follows."""
