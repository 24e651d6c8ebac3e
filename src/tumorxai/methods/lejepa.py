"""LeJEPA (Balestriero and LeCun, arXiv 2511.08544): views agree, and their embeddings are spread like a Gaussian."""

from __future__ import annotations

from typing import Annotated

from lightly.loss.lejepa_loss import SIGReg, lejepa_invariance_loss
from lightly.models.modules.heads import ProjectionHead
from pydantic import Field
from torch import Tensor, nn

from tumorxai import config
from tumorxai.networks import multicrop
from tumorxai.networks.losses import full_precision
from tumorxai.networks.views import LEJEPA, LEJEPA_LOCAL, Augment, Crop, View, adapt

ABOUT = config.About(title="LeJEPA", authors="Balestriero and LeCun", year=2025, paper="arXiv:2511.08544")


class Config(config.Block):
    """The authors' README ("GOTO hyperparameters") and the example beside it, MINIMAL.md, for the head.

    (github.com/rbalestr-lab/lejepa, commit eddffdd8.) The weight decay is theirs for ResNets; ViTs have 0.05. The
    weight of the Gaussian is lightly's default and the middle of what the paper tries.
    """

    gaussian: config.Fraction = 0.05  # lambda: weight of the Gaussian, the views' agreement has the rest
    slices: config.Count = 1024  # random directions along which the embeddings are held against a Gaussian
    hidden: config.Count = 2048  # hidden widths of the head
    projection: config.Count = 128  # width of its output
    local_views: Annotated[int, Field(ge=0, le=64)] = 6  # small crops of each image, beside the two large ones
    local_crop: Crop = LEJEPA_LOCAL.crop  # least and most share of the area that they show
    crop_min: Annotated[float, Field(gt=0, le=1)] = LEJEPA.crop[0]  # least share that a large crop shows
    augment: Augment = Augment()
    optimizer: config.Optimizer = config.Optimizer(name="adamw", lr=5e-4, weight_decay=5e-4)


class Method(nn.Module):
    """An encoder and a three-layer head; no teacher, no stopped gradient, no queue."""

    against_collapse = "raise methods.lejepa.gaussian or lower methods.lejepa.optimizer.lr"

    def __init__(self, encoder: nn.Module, features: int, settings: Config, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        hidden = settings.hidden
        self.head = ProjectionHead(
            [
                (features, hidden, nn.BatchNorm1d(hidden), nn.ReLU()),
                (hidden, hidden, nn.BatchNorm1d(hidden), nn.ReLU()),
                (hidden, settings.projection, None, None),
            ]
        )
        self.gaussian = SIGReg(num_vectors=settings.slices, gather_distributed=True)
        self.settings = settings
        self.optimizer = settings.optimizer
        self.signals: dict[str, Tensor] = {}

    def views(self) -> list[View]:
        """Two large crops and the small ones."""
        settings = self.settings
        large = adapt(LEJEPA, settings.crop_min, settings.augment)
        small = multicrop.small(self.encoder, LEJEPA_LOCAL, settings.local_crop, settings.augment)
        return [large] * 2 + [small] * settings.local_views

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """(1 - lambda) agreement + lambda Gaussian.

        Agreement is the mean squared distance of all views from the mean of the large ones; SIGReg is the
        Epps-Pulley statistic of each view's batch, averaged over random directions.
        """
        z = self.head(multicrop.encode(self.encoder, views)).view(len(views), len(views[0]), -1)
        gaussian, agreement = full_precision(self.gaussian)(z), full_precision(_agreement)(z)
        self.signals = {"sigreg": gaussian.detach(), "invariance": agreement.detach()}
        return self.settings.gaussian * gaussian + (1 - self.settings.gaussian) * agreement

    def after_step(self, progress: float) -> None:
        """Nothing follows."""


def _agreement(z: Tensor) -> Tensor:
    """Of embeddings (V, B, d), the first two of which are of large crops."""
    value: Tensor = lejepa_invariance_loss(all_proj=z, global_proj=z[:2])
    return value
