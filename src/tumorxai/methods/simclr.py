"""SimCLR (Chen et al., arXiv 2002.05709): two views attract, all other views of the batch repel."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from pydantic import Field
from torch import Tensor, nn

from tumorxai import config
from tumorxai.views import SIMCLR, View


class Config(config.Block):
    """Section 2.2, appendix B.1 for the ImageNet setting."""

    temperature: config.Positive = 0.1  # tau of Eq. 1
    hidden: config.Count = 2048  # width of the projection head's hidden layer
    projection: config.Count = 128  # width of its output
    crop_min: Annotated[float, Field(gt=0, le=1)] = SIMCLR.crop[0]  # least share of the area that a view shows
    optimizer: config.Optimizer = config.Optimizer(name="lars", lr=0.3, weight_decay=1e-6, momentum=0.9)


class Method(nn.Module):
    """An encoder f and a two-layer projection head g; NT-Xent on g(f(x))."""

    def __init__(self, encoder: nn.Module, features: int, settings: Config) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = SimCLRProjectionHead(features, settings.hidden, settings.projection)
        self.criterion = NTXentLoss(temperature=settings.temperature, gather_distributed=True)
        self.optimizer = settings.optimizer
        self.crop = (settings.crop_min, 1.0)

    def views(self) -> list[View]:
        """Twice the same distribution."""
        return [replace(SIMCLR, crop=self.crop)] * 2

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """NT-Xent, Eq. 1, averaged over both views of all images."""
        z1, z2 = (self.head(self.encoder(view)) for view in views)
        value: Tensor = self.criterion(z1, z2)
        return value

    def after_step(self, progress: float) -> None:
        """Nothing follows."""
