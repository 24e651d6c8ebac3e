"""VICReg (Bardes et al., arXiv 2105.04906): views agree, features keep their variance and do not covary."""

from __future__ import annotations

from typing import Annotated

from lightly.models.modules.heads import VICRegProjectionHead
from pydantic import Field
from torch import Tensor, nn

from tumorxai import config
from tumorxai.networks import losses
from tumorxai.networks.views import VICREG, Augment, View, adapt

ABOUT = config.About(title="VICReg", authors="Bardes et al.", year=2021, paper="arXiv:2105.04906")


class Config(config.Block):
    """Section 4.2 and appendix C.1.

    As in the authors' code, the variance term of Eq. 6 is halved, and the invariance term averaged over the features
    as well.
    """

    invariance: config.NotNegative = 25.0  # lambda of Eq. 6, weight of the invariance term
    variance: config.NotNegative = 25.0  # mu, weight of the variance term
    covariance: config.NotNegative = 1.0  # nu, weight of the covariance term
    hidden: config.Count = 8192  # hidden widths of the expander
    projection: config.Count = 8192  # width of its output
    crop_min: Annotated[float, Field(gt=0, le=1)] = VICREG.crop[0]  # least share of the area that a view shows
    augment: Augment = Augment()
    optimizer: config.Optimizer = config.Optimizer(name="lars", lr=0.2, weight_decay=1e-6, momentum=0.9)


class Method(nn.Module):
    """An encoder and a three-layer expander."""

    against_collapse = "raise methods.vicreg.variance or lower methods.vicreg.optimizer.lr"

    def __init__(self, encoder: nn.Module, features: int, settings: Config, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = VICRegProjectionHead(features, settings.hidden, settings.projection)
        self.settings = settings
        self.optimizer = settings.optimizer
        self.signals: dict[str, Tensor] = {}

    def views(self) -> list[View]:
        """Twice the same distribution."""
        return [adapt(VICREG, self.settings.crop_min, self.settings.augment)] * 2

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """Invariance, variance and covariance, Eq. 6."""
        z1, z2 = (self.head(self.encoder(view)) for view in views)
        weights = self.settings
        return losses.vicreg(z1, z2, weights.invariance, weights.variance, weights.covariance)

    def after_step(self, progress: float) -> None:
        """Nothing follows."""
