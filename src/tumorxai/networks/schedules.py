"""Schedules over training and the optimiser that they drive."""

from __future__ import annotations

import math
from typing import Any

import timm.optim
from torch import nn
from torch.optim import Optimizer

from tumorxai import config

FUSED = {"adam", "adamw", "sgd", "momentum"}  # torch's own: one kernel for all parameters


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Factor on the peak learning rate of one step: it rises over ``warmup`` steps, then falls by half a cosine.

    No step has a factor of 0, and so is none: the first has 1 / warmup, the last stands one step before the cosine's
    end, as in the authors' code of DINO (cosine_scheduler in utils.py) and of MoCo v3 (adjust_learning_rate in
    main_moco.py), whose warm-up begins at 0.

    Source: SGDR (arXiv 1608.03983, Eq. 5 without restarts), with the warm-up of arXiv 1706.02677, section 2.2.

    Args:
        step: how many came before it, in [0, steps - 1].
        steps: length of training.
        warmup: length of the warm-up, steps.

    Returns:
        In (0, 1].
    """
    if step < warmup:
        return min((step + 1) / warmup, 1.0)
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def factor(step: int, steps: int, warmup: float, schedule: str) -> float:
    """Factor on the peak learning rate of one step, in (0, 1].

    Args:
        step: how many came before it.
        steps: length of training.
        warmup: length of the warm-up, steps.
        schedule: what follows it: ``cosine``, see :func:`warmup_cosine`, or ``constant``, the peak.
    """
    if schedule == "constant":
        return min((step + 1) / warmup, 1.0) if warmup else 1.0
    return warmup_cosine(step, steps, warmup)


def momentum(base: float, progress: float) -> float:
    """Momentum of a teacher, from ``base`` to 1 by half a cosine: tau in BYOL (arXiv 2006.07733, section 3.2).

    Args:
        base: momentum at the start, in [0, 1].
        progress: share of training done, in [0, 1].
    """
    return 1.0 - (1.0 - base) * (math.cos(math.pi * progress) + 1.0) / 2.0


def optimizer(model: nn.Module, settings: config.Optimizer, batch_size: int) -> Optimizer:
    """The optimiser of a self-supervised method.

    Biases and normalisation layers are free of weight decay, and of LARS's adaptation, unless ``decay_all`` is set.

    The learning rate scales linearly with the batch: ``lr * batch_size / 256`` (arXiv 1706.02677, section 2.1).
    """
    arguments: dict[str, Any] = {} if settings.momentum is None else {"momentum": settings.momentum}
    if settings.name in FUSED:
        arguments["fused"] = True
    built: Optimizer = timm.optim.create_optimizer_v2(
        model,
        settings.name,
        lr=settings.lr * batch_size / 256,
        weight_decay=settings.weight_decay,
        filter_bias_and_bn=not settings.decay_all,
        **arguments,
    )
    return built
