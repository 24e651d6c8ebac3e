"""Schedules over training, and what they drive: the optimiser and teachers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import timm.optim
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.networks.store import sent

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


Progress = float | Tensor  # share of training done, in [0, 1]; where a step is recorded, a scalar on the device


def momentum(base: float, progress: Progress) -> Progress:
    """Momentum of a teacher, from ``base`` to 1 by half a cosine: tau in BYOL (arXiv 2006.07733, section 3.2).

    Args:
        base: momentum at the start, in [0, 1].
        progress: share of training done.
    """
    turn = math.pi * progress
    cosine = torch.cos(turn) if isinstance(turn, Tensor) else math.cos(turn)
    return 1.0 - (1.0 - base) * (cosine + 1.0) / 2.0


@torch.no_grad()
def follow(student: nn.Module, teacher: nn.Module, momentum: Progress) -> None:
    """The parameters of a teacher take a step: theta_t <- m theta_t + (1 - m) theta_s; buffers stay its own.

    lightly's update_momentum needs m on the host, which no recorded step can ask for.

    Args:
        student: theta_s.
        teacher: theta_t, of the same shapes.
        momentum: m, in [0, 1].
    """
    own: list[Tensor] = list(teacher.parameters())
    theirs: list[Tensor] = list(student.parameters())
    m: Any = momentum  # these take scalars and scalar tensors alike
    torch._foreach_mul_(own, m)
    torch._foreach_add_(own, torch._foreach_mul(theirs, 1.0 - m))


def optimizer(model: nn.Module, settings: config.Optimizer, batch_size: int) -> Optimizer:
    """The optimiser of a self-supervised method.

    Biases and normalisation layers are free of weight decay, and of LARS's adaptation, unless ``decay_all`` is set.

    The learning rate scales linearly with the batch: ``lr * batch_size / 256`` (arXiv 1706.02677, section 2.1).

    Raises:
        UserError: timm has no such optimiser, or it has no momentum and one is set.
    """
    arguments: dict[str, Any] = {} if settings.momentum is None else {"momentum": settings.momentum}
    if settings.name in FUSED:
        arguments["fused"] = True
    try:
        if settings.momentum is not None and not timm.optim.get_optimizer_info(settings.name).has_momentum:
            raise ValueError(f"the momentum {settings.momentum:g}, which it does not have")
        built: Optimizer = timm.optim.create_optimizer_v2(
            model,
            settings.name,
            lr=settings.lr * batch_size / 256,
            weight_decay=settings.weight_decay,
            filter_bias_and_bn=not settings.decay_all,
            **arguments,
        )
    except (ValueError, TypeError, AssertionError) as error:
        raise UserError(
            f"got an optimizer {settings.name!r} that timm does not build ({error}); expected one of its own, such as "
            "adamw, or lars with a momentum; correct the method's optimizer in params.yaml"
        ) from None
    return built


class Rates:
    """The learning rates of an optimiser: of each group, a factor times its peak.

    On the host they are numbers. Where a step may be recorded they lie on the device, with the progress of training:
    what a recorded step reads cannot come from the host.

    Args:
        optimizer: whose rates are now the peaks.
        device: of its parameters.
        on_host: the rates are to be numbers.
    """

    def __init__(self, optimizer: Any, device: torch.device, on_host: bool) -> None:
        self.optimizer, self.device = optimizer, device
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        # Only PyTorch's fused optimisers take a rate from the device.
        self.on_host = on_host or not all(group.get("fused") for group in optimizer.param_groups)
        if not self.on_host:
            self.highest = torch.tensor(self.peaks, device=device)
            self.rates = self.highest.clone()
            self.bind()

    def bind(self) -> None:
        """Let the optimiser read the rates here; once more after it has loaded a state."""
        if not self.on_host:
            for group, rate in zip(self.optimizer.param_groups, self.rates.unbind(), strict=True):
                group["lr"] = rate
                if "capturable" in group:
                    group["capturable"] = True

    def give(self, factor: float, progress: float) -> list[Tensor]:
        """What :meth:`take` takes, of one step: nothing from the host, where the rates are set at once.

        Args:
            factor: on each peak, in (0, 1].
            progress: share of training done.
        """
        if not self.on_host:
            return [sent(torch.tensor([factor, progress]), self.device)]
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        return []

    def take(self, given: Sequence[Tensor], progress: float) -> Progress:
        """Set the rates on a device, and say where the progress is to be read."""
        if not given:
            return progress
        factor, share = given[0].unbind()
        torch.mul(self.highest, factor, out=self.rates)
        return share
