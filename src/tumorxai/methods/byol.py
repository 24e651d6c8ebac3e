"""BYOL (Grill et al., arXiv 2006.07733): predict a slowly moving average of oneself; no negatives."""

from __future__ import annotations

import copy
from typing import Annotated

import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from pydantic import Field
from torch import Tensor, nn

from tumorxai import config
from tumorxai.networks import schedules
from tumorxai.networks.losses import full_precision
from tumorxai.networks.views import BYOL_1, BYOL_2, Augment, View, adapt

ABOUT = config.About(title="BYOL", authors="Grill et al.", year=2020, paper="arXiv:2006.07733")


class Config(config.Block):
    """Section 3.2 and appendix B, for 1000 epochs; BYOL's optimiser is SimCLR's with other numbers."""

    momentum: config.Fraction = 0.996  # tau_base of the target network
    predictor: bool = True  # without it the online network learns to be constant (table 5b)
    hidden: config.Count = 4096  # hidden width of the projector and of the predictor
    projection: config.Count = 256  # their output
    crop_min: Annotated[float, Field(gt=0, le=1)] = BYOL_1.crop[0]  # least share of the area that a view shows
    augment: Augment = Augment()
    optimizer: config.Optimizer = config.Optimizer(name="lars", lr=0.2, weight_decay=1.5e-6, momentum=0.9)


class Method(nn.Module):
    """Online encoder f, projector g and predictor q; target f' and g', which follow f and g.

    The target's batch normalisation has statistics of its own, from training mode: the authors' loss_fn applies it with
    is_training=True and a target_state, and only parameters follow (github.com/google-deepmind/deepmind-research,
    commit 4822a455, byol_experiment.py). The online encoder is what is kept (section 3.1).
    """

    against_collapse = (
        "set methods.byol.predictor to true, raise methods.byol.momentum or lower methods.byol.optimizer.lr"
    )

    def __init__(self, encoder: nn.Module, features: int, settings: Config, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = BYOLProjectionHead(features, settings.hidden, settings.projection)
        widths = settings.projection, settings.hidden, settings.projection
        self.predictor = BYOLPredictionHead(*widths) if settings.predictor else nn.Identity()
        self.target_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.target_projector = copy.deepcopy(self.projector).requires_grad_(False)
        self.criterion = full_precision(NegativeCosineSimilarity())
        self.settings = settings
        self.optimizer = settings.optimizer
        self.signals: dict[str, Tensor] = {}

    def views(self) -> list[View]:
        """Two distributions that differ in blur and solarisation."""
        crop_min, augment = self.settings.crop_min, self.settings.augment
        return [adapt(view, crop_min, augment) for view in (BYOL_1, BYOL_2)]

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """Negative cosine of Eq. 2, in [-1, 1], averaged over both directions; targets carry no gradient."""
        p1, p2 = (self.predictor(self.projector(self.encoder(view))) for view in views)
        with torch.no_grad():
            z1, z2 = (self.target_projector(self.target_encoder(view)) for view in views)
        return 0.5 * (self.criterion(p1, z2) + self.criterion(p2, z1))

    def after_step(self, progress: schedules.Progress) -> None:
        """The target follows: xi <- tau xi + (1 - tau) theta, Eq. 1."""
        tau = schedules.momentum(self.settings.momentum, progress)
        schedules.follow(self.encoder, self.target_encoder, tau)
        schedules.follow(self.projector, self.target_projector, tau)
