"""What `gpu.py` needs of lightly where lightly is not installed: the same layers, so that the speed is the same.

A card that is lent for minutes may have PyTorch and timm, and no network to fetch more. Only the head and the functions
of SimCLR for one process are here; other methods do not run.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from torch import Tensor, nn


class SimCLRProjectionHead(nn.Sequential):
    """lightly's head of SimCLR: (B, features) to (B, projection)."""

    def __init__(self, features: int, hidden: int, projection: int) -> None:
        super().__init__(
            nn.Linear(features, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, projection, bias=False),
            nn.BatchNorm1d(projection),
        )


class Absent:
    """A part of lightly that is not here."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise ImportError("got a method that needs lightly; expected simclr; install lightly")


def rank() -> int:
    """Of the only process."""
    return 0


def world_size() -> int:
    """One."""
    return 1


def gather(rows: Tensor) -> tuple[Tensor]:
    """Those of the only process."""
    return (rows,)


def stand_in_for_lightly() -> bool:
    """Let `import lightly` find what is here where there is no lightly; whether it had to."""
    try:
        importlib.import_module("lightly.loss")
    except ImportError:
        pass
    else:
        return False
    parts: dict[str, dict[str, Any]] = {
        "lightly": {},
        "lightly.loss": {"BarlowTwinsLoss": Absent},
        "lightly.models": {},
        "lightly.models.modules": {},
        "lightly.models.modules.heads": {"SimCLRProjectionHead": SimCLRProjectionHead},
        "lightly.utils": {},
        "lightly.utils.dist": {"rank": rank, "world_size": world_size, "gather": gather},
    }
    for name, content in parts.items():
        module = sys.modules[name] = ModuleType(name)
        module.__dict__.update(content, __path__=[])
        if "." in name:
            above, own = name.rsplit(".", 1)
            setattr(sys.modules[above], own, module)
    return True
