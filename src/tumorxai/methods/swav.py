"""SwAV (Caron et al., arXiv 2006.09882): predict, from any crop, the cluster that a large crop is assigned to."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from lightly.loss.swav_loss import sinkhorn
from lightly.models.modules.heads import SwaVProjectionHead
from lightly.models.utils import normalize_weight
from pydantic import Field
from torch import Tensor, nn

from tumorxai import config
from tumorxai.networks import losses, multicrop
from tumorxai.networks.views import SWAV, SWAV_LOCAL, Augment, Crop, View, adapt

ABOUT = config.About(title="SwAV", authors="Caron et al.", year=2020, paper="arXiv:2006.09882")


class Config(config.Block):
    """Section 4.1 and appendix A.1. The queue serves small batches: the paper's has 3,840 from epoch 15 of 200 on.

    All parameters decay and are adapted, normalisation layers and biases included, as by the authors' optimiser
    (github.com/facebookresearch/swav, main_swav.py: SGD of all parameters within LARC).
    """

    temperature: config.Positive = 0.1  # tau of Eq. 2
    epsilon: config.Positive = 0.05  # smoothness of the assignments, Eq. 3
    iterations: config.Count = 3  # of Sinkhorn and Knopp
    prototypes: config.Count = 3000  # K, prototypes that views are assigned to
    freeze: config.Fraction = 0.01  # share of training over which the prototypes stand still: the first epoch
    queue: config.CountOrZero = 0  # earlier embeddings of each large crop that take part in the assignment
    queue_start: config.Fraction = 0.075  # share of training before they do
    hidden: config.Count = 2048  # hidden width of the projection head
    projection: config.Count = 128  # width of its output
    local_views: Annotated[int, Field(ge=0, le=64)] = 6  # small crops of each image, beside the two large ones
    local_crop: Crop = SWAV_LOCAL.crop  # least and most share of the area that they show
    crop_min: Annotated[float, Field(gt=0, le=1)] = SWAV.crop[0]  # least share that a large crop shows
    augment: Augment = Augment()
    optimizer: config.Optimizer = config.Optimizer(name="lars", lr=0.3, weight_decay=1e-6, decay_all=True, momentum=0.9)


class Method(nn.Module):
    """An encoder, a two-layer projection head, and K prototypes of length 1."""

    against_collapse = "raise methods.swav.queue or methods.swav.freeze, or lower methods.swav.optimizer.lr"

    def __init__(self, encoder: nn.Module, features: int, settings: Config, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = SwaVProjectionHead(features, settings.hidden, settings.projection)
        self.prototypes = nn.Linear(settings.projection, settings.prototypes, bias=False)
        self.queue_1 = losses.Queue(settings.queue, settings.projection)
        self.queue_2 = losses.Queue(settings.queue, settings.projection)
        self.frozen = losses.Frozen(self.prototypes.weight)
        self.settings = settings
        self.optimizer = settings.optimizer
        self.signals: dict[str, Tensor] = {}

    def views(self) -> list[View]:
        """Two large crops and the small ones."""
        settings = self.settings
        large = adapt(SWAV, settings.crop_min, settings.augment)
        small = multicrop.small(self.encoder, SWAV_LOCAL, settings.local_crop, settings.augment)
        return [large] * 2 + [small] * settings.local_views

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """Swapped prediction, Eqs. 1-2, from every view for each of the large ones (Eq. 6), averaged over the pairs."""
        settings = self.settings
        self.frozen(progress < settings.freeze)
        normalize_weight(self.prototypes.weight)
        z = F.normalize(self.head(multicrop.encode(self.encoder, views))).chunk(len(views))
        queued = progress >= settings.queue_start
        codes = torch.stack([self._codes(z[0], self.queue_1, queued), self._codes(z[1], self.queue_2, queued)])
        return losses.cross_view_entropy(codes, [self.prototypes(view) for view in z], settings.temperature)

    @torch.no_grad()
    def _codes(self, z: Tensor, queue: losses.Queue, queued: bool) -> Tensor:
        """Soft assignments of one view's embeddings (B, d), balanced over the batch of all processes: (B, K)."""
        pool = losses.gathered(z.float())
        if queued:
            pool = torch.cat([pool, queue.rows])
        queue.push(z)
        codes: Tensor = sinkhorn(self.prototypes(pool).float(), self.settings.iterations, self.settings.epsilon)
        return losses.own_rows(codes, len(z))

    def after_step(self, progress: float) -> None:
        """Nothing follows."""
