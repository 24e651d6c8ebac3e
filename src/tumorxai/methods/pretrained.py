"""Published weights, frozen: timm's for the chosen backbone, or a safetensors file. Nothing is trained."""

from __future__ import annotations

from torch import Tensor, nn

from tumorxai import config
from tumorxai.networks import published
from tumorxai.networks.views import SIMCLR, View

ABOUT = config.About(title="published weights", trains=False)


class Config(config.Block):
    """Which weights. ``model.backbone`` says of which network, such as vit_small_patch14_dinov2.lvd142m."""

    weights: str = published.HUB  # hub: the file that timm names for the backbone; else the path of a .safetensors file


class Method(nn.Module):
    """An encoder as it was published.

    The images are normalised by their own mean and deviation, not by those of the data that the weights come from.
    """

    def __init__(self, encoder: nn.Module, features: int, settings: Config, classes: int) -> None:
        super().__init__()
        published.load(encoder, settings.weights, "methods.pretrained.weights")
        self.encoder = encoder.requires_grad_(False)
        self.optimizer = config.Optimizer(name="sgd", lr=1.0, weight_decay=0.0)  # of no parameter
        self.signals: dict[str, Tensor] = {}

    def views(self) -> list[View]:
        """SimCLR's, on which the encoder is watched."""
        return [SIMCLR] * 2

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """Zero: there is nothing to learn."""
        return views[0].new_zeros(())

    def after_step(self, progress: float) -> None:
        """Nothing follows."""
