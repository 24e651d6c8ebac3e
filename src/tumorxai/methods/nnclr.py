"""NNCLR (Dwibedi et al., arXiv 2104.14548): the positive of a view is its nearest neighbour among earlier images."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from lightly.models.modules.heads import NNCLRPredictionHead, NNCLRProjectionHead
from pydantic import Field
from torch import Tensor, nn

from tumorxai import config
from tumorxai.networks import keras, losses
from tumorxai.networks.views import SIMCLR, Augment, View, adapt

ABOUT = config.About(title="NNCLR", authors="Dwibedi et al.", year=2021, paper="arXiv:2104.14548")


class Config(config.Block):
    """Section 4.1."""

    temperature: config.Positive = 0.1  # tau of Eq. 3
    support: config.Count = 98_304  # embeddings that the support set Q holds
    hidden: config.Count = 2048  # hidden widths of the projection head
    predictor_hidden: config.Count = 4096  # hidden width of the prediction head
    projection: config.Count = 256  # output of both
    keras: bool = False  # head, loss and batches of the Keras example that Firildak et al. built on: networks/keras.py
    crop_min: Annotated[float, Field(gt=0, le=1)] = SIMCLR.crop[0]  # least share of the area that a view shows
    augment: Augment = Augment()
    optimizer: config.Optimizer = config.Optimizer(name="lars", lr=0.3, weight_decay=1e-6, momentum=0.9)


class Method(nn.Module):
    """An encoder, a projection and a prediction head, and the support set Q."""

    def __init__(self, encoder: nn.Module, features: int, settings: Config, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        widths = features, settings.hidden, settings.projection
        self.projector = keras.head(*widths) if settings.keras else NNCLRProjectionHead(*widths)
        self.predictor: nn.Module = nn.Identity()
        if not settings.keras:
            self.predictor = NNCLRPredictionHead(settings.projection, settings.predictor_hidden, settings.projection)
        self.support = losses.Queue(settings.support, settings.projection)
        self.settings = settings
        self.keras = settings.keras
        self.optimizer = settings.optimizer
        self.signals: dict[str, Tensor] = {}

    def views(self) -> list[View]:
        """SimCLR's distribution, twice."""
        return [adapt(SIMCLR, self.settings.crop_min, self.settings.augment)] * 2

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """InfoNCE between neighbours and predictions, Eq. 3; then view 1 enters the support set (Alg. 1)."""
        z1, z2 = (self.projector(self.encoder(view)) for view in views)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        nn1, nn2 = self.support.nearest(z1), self.support.nearest(z2)
        self.support.push(F.normalize(z1))
        if self.settings.keras:
            return keras.nnclr(nn1, nn2, F.normalize(z1), F.normalize(z2), self.settings.temperature)
        return losses.nnclr(nn1, nn2, p1, p2, self.settings.temperature)

    def after_step(self, progress: float) -> None:
        """Nothing follows."""
