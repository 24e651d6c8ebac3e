"""SimSiam (Chen and He, arXiv 2011.10566): predict the other view; a stopped gradient is enough not to collapse."""

from __future__ import annotations

from typing import Annotated

from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead
from pydantic import Field
from torch import Tensor, nn

from tumorxai import config
from tumorxai.networks.losses import full_precision
from tumorxai.networks.views import SIMSIAM, Augment, View, adapt

ABOUT = config.About(title="SimSiam", authors="Chen and He", year=2020, paper="arXiv:2011.10566")


class Config(config.Block):
    """Section 3, "Baseline settings". The constant learning rate of the predictor (table 1) is left out.

    The weight decay is that of all parameters, normalisation layers and biases included: the authors' optimiser has no
    exceptions (github.com/facebookresearch/simsiam, commit 39ac33e6, main_simsiam.py).
    """

    hidden: config.Count = 2048  # hidden widths of the projector
    projection: config.Count = 2048  # width of its output
    bottleneck: config.Count = 512  # hidden width of the predictor
    crop_min: Annotated[float, Field(gt=0, le=1)] = SIMSIAM.crop[0]  # least share of the area that a view shows
    augment: Augment = Augment()
    optimizer: config.Optimizer = config.Optimizer(name="sgd", lr=0.05, weight_decay=1e-4, decay_all=True, momentum=0.9)


class Method(nn.Module):
    """An encoder with a three-layer projector, and a two-layer predictor h."""

    against_collapse = "lower methods.simsiam.optimizer.lr or methods.simsiam.bottleneck"

    def __init__(self, encoder: nn.Module, features: int, settings: Config, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = SimSiamProjectionHead(features, settings.hidden, settings.projection)
        self.predictor = SimSiamPredictionHead(settings.projection, settings.bottleneck, settings.projection)
        self.criterion = full_precision(NegativeCosineSimilarity())
        self.settings = settings
        self.optimizer = settings.optimizer
        self.signals: dict[str, Tensor] = {}

    def views(self) -> list[View]:
        """Twice the same distribution."""
        return [adapt(SIMSIAM, self.settings.crop_min, self.settings.augment)] * 2

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """Symmetric negative cosine, Eqs. 2 and 4, in [-1, 1]; the gradient is stopped at z."""
        z1, z2 = (self.projector(self.encoder(view)) for view in views)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        return 0.5 * (self.criterion(p1, z2.detach()) + self.criterion(p2, z1.detach()))

    def after_step(self, progress: float) -> None:
        """Nothing follows."""
