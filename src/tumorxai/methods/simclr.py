"""SimCLR (Chen et al., arXiv 2002.05709): two views attract, all other views of the batch repel."""

from __future__ import annotations

from typing import Annotated

from lightly.models.modules.heads import SimCLRProjectionHead
from pydantic import Field
from torch import Tensor, nn

from tumorxai import config
from tumorxai.networks import keras, losses
from tumorxai.networks.views import SIMCLR, Augment, View, adapt

ABOUT = config.About(title="SimCLR", authors="Chen et al.", year=2020, paper="arXiv:2002.05709")


class Config(config.Block):
    """Section 2.2, appendix B.1 for the ImageNet setting."""

    temperature: config.Positive = 0.1  # tau of Eq. 1
    hidden: config.Count = 2048  # width of the projection head's hidden layer
    projection: config.Count = 128  # width of its output
    keras: bool = False  # head, loss and batches of the Keras example that Firildak et al. built on: networks/keras.py
    crop_min: Annotated[float, Field(gt=0, le=1)] = SIMCLR.crop[0]  # least share of the area that a view shows
    augment: Augment = Augment()
    optimizer: config.Optimizer = config.Optimizer(name="lars", lr=0.3, weight_decay=1e-6, momentum=0.9)


class Method(nn.Module):
    """An encoder f and a two-layer projection head g; NT-Xent on g(f(x))."""

    def __init__(self, encoder: nn.Module, features: int, settings: Config, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        widths = features, settings.hidden, settings.projection
        self.head = keras.head(*widths) if settings.keras else SimCLRProjectionHead(*widths)
        self.settings = settings
        self.keras = settings.keras
        self.optimizer = settings.optimizer
        self.signals: dict[str, Tensor] = {}

    def views(self) -> list[View]:
        """Twice the same distribution."""
        return [adapt(SIMCLR, self.settings.crop_min, self.settings.augment)] * 2

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """NT-Xent, Eq. 1, averaged over both views of all images."""
        z1, z2 = (self.head(self.encoder(view)) for view in views)
        return (keras.info_nce if self.settings.keras else losses.nt_xent)(z1, z2, self.settings.temperature)

    def after_step(self, progress: float) -> None:
        """Nothing follows."""
