"""What DINO and DINOv2 share: a student with a head, and a teacher that follows it and says what to predict."""

from __future__ import annotations

import copy
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from lightly.loss.swav_loss import sinkhorn
from lightly.models.modules.center import Center
from lightly.models.modules.heads import ProjectionHead
from pydantic import Field
from torch import Tensor, nn

from tumorxai import config
from tumorxai.networks import losses, multicrop, schedules
from tumorxai.networks.views import DINO_1, DINO_2, DINO_LOCAL, Augment, Crop, View, adapt


class Settings(config.Block):
    """DINO's values; :mod:`tumorxai.methods.dino` says where each is from."""

    student_temperature: config.Positive = 0.1  # tau_s, of the student's softmax
    teacher_temperature: config.Positive = 0.07  # tau_t after the warm-up
    warmup_temperature: config.Positive = 0.04  # tau_t at the start
    warmup: config.Fraction = 0.3  # share of training over which tau_t rises: 30 of 100 epochs
    freeze: config.Fraction = 0.01  # share of training over which the last layer stands still: 1 of 100 epochs
    momentum: config.Fraction = 0.996  # lambda of the teacher at the start, by half a cosine to 1
    targets: Literal["centring", "sinkhorn"] = "centring"  # what keeps the teacher from collapse (table 7)
    center_momentum: config.Fraction = 0.9  # m of Eq. 4
    hidden: config.Count = 2048  # hidden widths of the head
    bottleneck: config.Count = 256  # width before its last layer
    outputs: config.Count = 65_536  # K, width of the head that is distilled
    batch_norm: bool = False  # in the head
    local_views: Annotated[int, Field(ge=0, le=64)] = 8  # small crops of each image, beside the two large ones
    local_crop: Crop = DINO_LOCAL.crop  # least and most share of the area that they show
    crop_min: Annotated[float, Field(gt=0, le=1)] = DINO_1.crop[0]  # least share that a large crop shows
    augment: Augment = Augment()
    optimizer: config.Optimizer = config.Optimizer(name="adamw", lr=5e-4, weight_decay=0.04)


class Head(nn.Module):
    """A three-layer MLP, L2 normalisation, and a linear layer whose rows have length 1: (B, features) to (B, outputs).

    lightly's has the last layer through ``nn.utils.weight_norm``, which is deprecated and cannot be copied.
    """

    def __init__(self, features: int, settings: Settings) -> None:
        super().__init__()
        hidden = settings.hidden
        norms = [nn.BatchNorm1d(hidden) if settings.batch_norm else None for _ in range(2)]
        self.mlp = ProjectionHead(
            [
                (features, hidden, norms[0], nn.GELU(), True),
                (hidden, hidden, norms[1], nn.GELU(), True),
                (hidden, settings.bottleneck, None, None),
            ]
        )
        for layer in self.mlp.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last = nn.Linear(settings.bottleneck, settings.outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, in [-1, 1] before any temperature."""
        return F.linear(F.normalize(self.mlp(x), dim=-1), F.normalize(self.last.weight, dim=-1))


class Distillation(nn.Module):
    """Student g_s and teacher g_t, encoders with a head each; the teacher follows.

    The teacher is what is kept: DINO's authors evaluate it (--checkpoint_key teacher of eval_linear.py, eval_knn.py).
    Its batch normalisation has statistics of its own, of the large crops that it sees in training mode; what follows
    the student are the parameters (train_one_epoch in main_dino.py).
    """

    def __init__(self, encoder: nn.Module, features: int, settings: Settings, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = Head(features, settings)
        self.teacher_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        self.kept = self.teacher_encoder
        self.center = Center((1, settings.outputs), momentum=settings.center_momentum)
        self.frozen = losses.Frozen(self.head.last.weight)
        self.settings = settings
        self.optimizer = settings.optimizer
        self.signals: dict[str, Tensor] = {}

    def views(self) -> list[View]:
        """Two large crops, as in BYOL, and the small ones."""
        settings = self.settings
        large = [adapt(view, settings.crop_min, settings.augment) for view in (DINO_1, DINO_2)]
        small = multicrop.small(self.encoder, DINO_LOCAL, settings.local_crop, settings.augment)
        return large + [small] * settings.local_views

    def targets(self, teacher: Tensor, progress: float) -> Tensor:
        """The teacher's distributions of its two views, (2 B, K)."""
        return torch.cat([self.sharpened(view, self.center, progress) for view in teacher.chunk(2)])

    def sharpened(self, logits: Tensor, center: Center, progress: float) -> Tensor:
        """Distributions (N, K), centred (Eqs. 1 and 4) or balanced over the N."""
        settings = self.settings
        share = min(progress / settings.warmup, 1.0) if settings.warmup else 1.0
        temperature = settings.warmup_temperature * (1 - share) + settings.teacher_temperature * share
        if settings.targets == "centring":
            return F.softmax((logits - center.value) / temperature, dim=-1)
        balanced: Tensor = sinkhorn(logits, epsilon=temperature, gather_distributed=True)
        return balanced

    def after_step(self, progress: schedules.Progress) -> None:
        """The teacher follows: theta_t <- lambda theta_t + (1 - lambda) theta_s."""
        momentum = schedules.momentum(self.settings.momentum, progress)
        schedules.follow(self.encoder, self.teacher_encoder, momentum)
        schedules.follow(self.head, self.teacher_head, momentum)
