"""MoCo v3 (Chen et al., arXiv 2104.02057): a query finds its key, from a momentum encoder, among those of the batch."""

from __future__ import annotations

import copy
from typing import Annotated

import torch
from lightly.models.modules.heads import MoCoProjectionHead
from lightly.models.utils import update_momentum
from pydantic import Field
from torch import Tensor, nn

from tumorxai import config
from tumorxai.networks import losses, schedules
from tumorxai.networks.views import MOCO_1, MOCO_2, Augment, View, adapt

ABOUT = config.About(title="MoCo v3", authors="Chen et al.", year=2021, paper="arXiv:2104.02057")


class Config(config.Block):
    """Section 3 for the heads; the rest is the authors' recipe for ResNet-50 and 300 epochs.

    That recipe stands in CONFIG.md and in the defaults of main_moco.py (github.com/facebookresearch/moco-v3, commit
    c349e6e2). For ViTs the paper has temperature 0.2, crop_min 0.08 and AdamW with 1.5e-4 and weight decay 0.1
    (section 4); its frozen patch embedding is left out, because the small ViTs here do not need it.
    """

    temperature: config.Positive = 1.0  # tau of Eq. 1
    momentum: config.Fraction = 0.99  # m at the start, by half a cosine to 1
    hidden: config.Count = 4096  # hidden widths of the projection and of the prediction head
    projection: config.Count = 256  # their output
    crop_min: Annotated[float, Field(gt=0, le=1)] = MOCO_1.crop[0]  # least share of the area that a view shows
    augment: Augment = Augment()
    optimizer: config.Optimizer = config.Optimizer(name="lars", lr=0.3, weight_decay=1e-6, momentum=0.9)


class Method(nn.Module):
    """f_q: encoder, three-layer projection and two-layer prediction; f_k: encoder and projection, which follow."""

    against_collapse = "lower methods.mocov3.temperature or methods.mocov3.optimizer.lr"

    def __init__(self, encoder: nn.Module, features: int, settings: Config, classes: int) -> None:
        super().__init__()
        hidden, width = settings.hidden, settings.projection
        self.encoder = encoder
        self.projector = MoCoProjectionHead(features, hidden, width, num_layers=3, batch_norm=True)
        self.predictor = MoCoProjectionHead(width, hidden, width, num_layers=2, batch_norm=True)
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.key_projector = copy.deepcopy(self.projector).requires_grad_(False)
        self.settings = settings
        self.optimizer = settings.optimizer
        self.signals: dict[str, Tensor] = {}

    def views(self) -> list[View]:
        """BYOL's two distributions."""
        crop_min, augment = self.settings.crop_min, self.settings.augment
        return [adapt(view, crop_min, augment) for view in (MOCO_1, MOCO_2)]

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """Symmetric InfoNCE, Eq. 1 and Alg. 1; keys carry no gradient."""
        q1, q2 = (self.predictor(self.projector(self.encoder(view))) for view in views)
        with torch.no_grad():
            k1, k2 = (self.key_projector(self.key_encoder(view)) for view in views)
        return losses.moco_v3(q1, q2, k1, k2, self.settings.temperature)

    def after_step(self, progress: float) -> None:
        """The key encoder follows: f_k <- m f_k + (1 - m) f_q, without the prediction head."""
        m = schedules.momentum(self.settings.momentum, progress)
        update_momentum(self.encoder, self.key_encoder, m)
        update_momentum(self.projector, self.key_projector, m)
