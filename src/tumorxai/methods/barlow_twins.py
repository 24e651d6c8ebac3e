"""Barlow Twins (Zbontar et al., arXiv 2103.03230): each feature agrees with itself across views, and with no other."""

from __future__ import annotations

from typing import Annotated

from lightly.models.modules.heads import BarlowTwinsProjectionHead
from pydantic import Field
from torch import Tensor, nn

from tumorxai import config
from tumorxai.networks import keras, losses
from tumorxai.networks.views import BYOL_1, BYOL_2, Augment, View, adapt

ABOUT = config.About(title="Barlow Twins", authors="Zbontar et al.", year=2021, paper="arXiv:2103.03230")


class Config(config.Block):
    """Section 2.2. The paper has its own learning rate, 0.0048, for biases and normalisation; here there is one."""

    redundancy: config.Positive = 0.005  # lambda of Eq. 1; not used by the Keras example's loss
    hidden: config.Count = 8192  # hidden widths of the projector
    projection: config.Count = 8192  # width of its output
    keras: bool = False  # head, loss and batches of the Keras example that Firildak et al. built on: networks/keras.py
    crop_min: Annotated[float, Field(gt=0, le=1)] = BYOL_1.crop[0]  # least share of the area that a view shows
    augment: Augment = Augment()
    optimizer: config.Optimizer = config.Optimizer(name="lars", lr=0.2, weight_decay=1.5e-6, momentum=0.9)


class Method(nn.Module):
    """An encoder and a three-layer projector; the cross-correlation of two views is to be the identity."""

    def __init__(self, encoder: nn.Module, features: int, settings: Config, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        widths = features, settings.hidden, settings.projection
        self.head = keras.head(*widths) if settings.keras else BarlowTwinsProjectionHead(*widths)
        self.settings = settings
        self.keras = settings.keras
        self.optimizer = settings.optimizer
        self.signals: dict[str, Tensor] = {}

    def views(self) -> list[View]:
        """BYOL's two distributions."""
        crop_min, augment = self.settings.crop_min, self.settings.augment
        return [adapt(view, crop_min, augment) for view in (BYOL_1, BYOL_2)]

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """Invariance and redundancy reduction, Eq. 1, summed over the entries of the matrix."""
        z1, z2 = (self.head(self.encoder(view)) for view in views)
        return (
            keras.barlow_twins(z1, z2) if self.settings.keras else losses.barlow_twins(z1, z2, self.settings.redundancy)
        )

    def after_step(self, progress: float) -> None:
        """Nothing follows."""
