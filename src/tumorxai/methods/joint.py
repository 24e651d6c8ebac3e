"""Firildak, Celik and Talu's proposed model: SimCLR and a classifier trained together, where labels are known.

"SimCLR-based Self-Supervised Learning Approach for Limited Brain MRI and Unlabeled Images", section 2.2.4.
"""

from __future__ import annotations

from typing import Annotated

import torch
from lightly.models.modules.heads import ProjectionHead
from pydantic import Field
from torch import Tensor, nn

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.networks import keras, losses
from tumorxai.networks.views import FIRILDAK, Augment, View, adapt

ABOUT = config.About(title="SimCLR with a joint classifier", authors="Firildak, Celik and Talu", uses_labels=True)


class Config(config.Block):
    """Sections 2.2.4 and 3. The paper states neither a weight between the losses nor a learning rate or a batch size.

    Here the losses are summed and Adam has Keras's 0.001. The heads' widths are the paper's and fixed.
    """

    temperature: config.Positive = 0.1  # tau of Eq. 1
    weight: config.NotNegative = 1.0  # of the cross-entropy, beside the contrastive loss
    keras: bool = False  # loss and batches of the Keras example that Firildak et al. built on: networks/keras.py
    crop_min: Annotated[float, Field(gt=0, le=1)] = FIRILDAK.crop[0]  # least share of the area that a view shows
    augment: Augment = Augment()
    optimizer: config.Optimizer = config.Optimizer(name="adam", lr=1e-3, weight_decay=0.0)


class Method(nn.Module):
    """An encoder with a projection head, 256-128-64, and a classification head, 256-128-classes."""

    def __init__(self, encoder: nn.Module, features: int, settings: Config, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise UserError(
                f"got {classes} classes for method joint, which learns from labels as well; expected at least 2; "
                "choose labelled data or another method"
            )
        relu = nn.ReLU()
        self.encoder = encoder
        layers = [(features, 256, None, relu), (256, 128, None, relu)]
        self.head = ProjectionHead([*layers, (128, 64, None, relu)])
        self.classifier = ProjectionHead([*layers, (128, classes, None, None)])
        self.settings = settings
        self.keras = settings.keras
        self.optimizer = settings.optimizer
        self.signals: dict[str, Tensor] = {}

    def views(self) -> list[View]:
        """Twice the same distribution."""
        return [adapt(FIRILDAK, self.settings.crop_min, self.settings.augment)] * 2

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """NT-Xent, Eq. 1, of all images and the cross-entropy, Eq. 5, of the labelled ones, over both views."""
        h1, h2 = (self.encoder(view) for view in views)
        z1, z2 = self.head(h1), self.head(h2)
        settings = self.settings
        contrast = (keras.info_nce if settings.keras else losses.nt_xent)(z1, z2, settings.temperature)
        entropy = losses.partial_cross_entropy(self.classifier(torch.cat([h1, h2])), labels.repeat(2))
        self.signals = {"contrastive_loss": contrast.detach(), "cross_entropy": entropy.detach()}
        return contrast + settings.weight * entropy

    def after_step(self, progress: float) -> None:
        """Nothing follows."""
