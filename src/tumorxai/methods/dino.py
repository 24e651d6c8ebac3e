"""DINO (Caron et al., arXiv 2104.14294): from any crop, predict what one's moving average sees in the large crops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tumorxai import config
from tumorxai.networks import encoders, losses, multicrop
from tumorxai.networks.distillation import Distillation, Settings

ABOUT = config.About(title="DINO", authors="Caron et al.", year=2021, paper="arXiv:2104.14294")


class Config(Settings):
    """Sections 3.1 and 3.2; what they leave open is as in the authors' main_dino.py, for its 100 epochs.

    (github.com/facebookresearch/dino, commit 7c446df5.) Crops and optimiser are for ViTs; of what is not set of these,
    convolutional backbones get CONVOLUTIONAL. 65,536 outputs are for "complex and large datasets" (its --out_dim). Left
    out: the weight decay's way from 0.04 to 0.4.
    """


# "ResNet-50 and other convnets trainings" of the authors' README
CONVOLUTIONAL: dict[str, Any] = {
    "crop_min": 0.14,
    "local_crop": (0.05, 0.14),
    "optimizer": config.Optimizer(name="sgd", lr=0.03, weight_decay=1e-4, momentum=0.9),
}


class Method(Distillation):
    """Student and teacher, which agree on whole images."""

    against_collapse = (
        "lower methods.dino.teacher_temperature or methods.dino.optimizer.lr, or raise methods.dino.momentum"
    )

    def __init__(self, encoder: nn.Module, features: int, settings: Settings, classes: int) -> None:
        if encoders.patches(encoder)[1] is None:
            own = {key: value for key, value in CONVOLUTIONAL.items() if key not in settings.model_fields_set}
            settings = settings.model_copy(update=own)
        super().__init__(encoder, features, settings, classes)

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """Cross-entropy of Eq. 3 over all pairs of a large crop and another view, averaged over the pairs."""
        settings = self.settings
        self.frozen(progress < settings.freeze)
        student = self.head(multicrop.encode(self.encoder, views)).chunk(len(views))
        with torch.no_grad():
            teacher = self.teacher_head(self.teacher_encoder(torch.cat(views[:2]))).float()
            targets = self.targets(teacher, progress)
            self.center.update(teacher)
        value = losses.cross_view_entropy(targets.view(2, len(views[0]), -1), student, settings.student_temperature)
        entropy = torch.special.entr(targets).sum(dim=-1).mean()
        self.signals = {"teacher_entropy": entropy, "teacher_student_kl": value.detach() - entropy}
        return value
