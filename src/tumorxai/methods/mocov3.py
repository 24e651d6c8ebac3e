"""MoCo v3 (Chen et al., arXiv 2104.02057): a query finds its key, from a momentum encoder, among those of the batch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
from lightly.models.modules.heads import ProjectionHead
from pydantic import Field
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tumorxai import config
from tumorxai.networks import losses, schedules
from tumorxai.networks.views import MOCO_1, MOCO_2, Augment, View, adapt

ABOUT = config.About(title="MoCo v3", authors="Chen et al.", year=2021, paper="arXiv:2104.02057")


class Config(config.Block):
    """The authors' recipe for ResNet-50 and 300 epochs.

    It stands in CONFIG.md and in the defaults of main_moco.py (github.com/facebookresearch/moco-v3, commit c349e6e2).
    For ViTs the paper has temperature 0.2, crop_min 0.08 and AdamW with 1.5e-4 and weight decay 0.1 (section 4); its
    frozen patch embedding is left out, because the small ViTs here do not need it.
    """

    temperature: config.Positive = 1.0  # tau of Eq. 1
    momentum: config.Fraction = 0.99  # m at the start, by half a cosine to 1
    hidden: config.Count = 4096  # hidden widths of the projection and of the prediction head
    projection: config.Count = 256  # their output
    crop_min: Annotated[float, Field(gt=0, le=1)] = MOCO_1.crop[0]  # least share of the area that a view shows
    augment: Augment = Augment()
    optimizer: config.Optimizer = config.Optimizer(name="lars", lr=0.3, weight_decay=1e-6, momentum=0.9)


def head(widths: Sequence[int], last_norm: bool) -> ProjectionHead:
    """A head as the authors build it (_build_mlp in moco/builder.py): no biases, and no gamma and beta at the end.

    lightly's has them there.

    Args:
        widths: of the input and of each layer.
        last_norm: whether the last layer is followed by batch normalisation.
    """
    layers: list[tuple[int, int, nn.Module | None, nn.Module | None, bool]] = [
        (before, after, nn.BatchNorm1d(after), nn.ReLU(), False) for before, after in pairwise(widths[:-1])
    ]
    last = nn.BatchNorm1d(widths[-1], affine=False) if last_norm else None
    return ProjectionHead([*layers, (widths[-2], widths[-1], last, None, False)])


class Method(nn.Module):
    """f_q: encoder, projection and two-layer prediction; f_k: encoder and projection, which follow.

    ResNets, and other networks that are no vision transformers, have a projection of two layers and no batch
    normalisation after the prediction; vision transformers have three layers and one (MoCo_ResNet and MoCo_ViT in the
    authors' moco/builder.py). f_k is in training mode and has batch statistics of its own; parameters follow alone
    (_update_momentum_encoder). f_q is what is kept (main_lincls.py reads base_encoder).
    """

    against_collapse = "lower methods.mocov3.temperature or methods.mocov3.optimizer.lr"

    def __init__(self, encoder: nn.Module, features: int, settings: Config, classes: int) -> None:
        super().__init__()
        hidden, width = settings.hidden, settings.projection
        self.encoder = encoder
        transformer = isinstance(encoder, VisionTransformer)
        self.projector = head([features, *[hidden] * (2 if transformer else 1), width], last_norm=True)
        self.predictor = head([width, hidden, width], last_norm=transformer)
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

    def after_step(self, progress: schedules.Progress) -> None:
        """The key encoder follows: f_k <- m f_k + (1 - m) f_q, without the prediction head."""
        m = schedules.momentum(self.settings.momentum, progress)
        schedules.follow(self.encoder, self.key_encoder, m)
        schedules.follow(self.projector, self.key_projector, m)
