"""How every training loop meets its device: in what precision, and how seldom it waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tumorxai.errors import UserError
from tumorxai.networks.store import sent

if TYPE_CHECKING:
    from lightning_fabric import Fabric  # slow to load, and needed by nothing that trains nothing

LOOK = 10  # steps between two looks at the losses and for signals, where a look makes devices wait for each other


def precision(asked: str) -> Any:
    """Lightning Fabric's name of the precision: bf16 only where the hardware is fast at it."""
    if asked != "auto":
        return asked
    return "bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true"


def steps_between_looks(fabric: Fabric) -> int:
    """On one CPU a look costs nothing; elsewhere the device, or the other processes, would have to wait for it."""
    return 1 if fabric.device.type == "cpu" and fabric.world_size == 1 else LOOK


def on_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """A copy of an array on a device. For a GPU, the copy runs beside the steps before, from pinned memory."""
    return sent(torch.from_numpy(np.ascontiguousarray(array)), device)


def machine(device: torch.device, asked: str) -> dict[str, Any]:
    """What the bits of a network's results hang on beside code and packages.

    On a CPU the number of threads decides in which order sums are taken; on a GPU they compute nothing.
    """
    threads = {"threads": torch.get_num_threads()} if device.type == "cpu" else {}
    return {"device": device.type, "precision": precision(asked), **threads}


def not_finite(what: str, loss: float, step: int, steps: int, remedy: str) -> UserError:
    """The end of a training whose loss is not finite.

    Args:
        what: is trained.
        loss: NaN or infinite.
        step: that it was found at, from 1 on.
        steps: of the training.
        remedy: what to change.
    """
    return UserError(f"the loss of {what} is {loss} at step {step} of {steps}; expected a finite number; {remedy}")
