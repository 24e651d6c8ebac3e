"""Self-supervised methods, one file each.

A method file holds a frozen ``Config`` (the paper's values as defaults) and a ``Method``; :func:`load` finds it by
name. The loop in :mod:`tumorxai.pretrain` knows no more of a method than :class:`Method` states.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from tumorxai import config
from tumorxai.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tumorxai.views import View


class Method(Protocol):
    """What the loop asks of a method, beside being an ``nn.Module``."""

    encoder: nn.Module
    optimizer: config.Optimizer

    def views(self) -> list[View]:
        """The views to draw of each image, in the order in which ``loss`` wants them."""

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """The loss of one batch.

        Args:
            views: one normalised float tensor (B, C, S, S) for each of ``views()``.
            labels: int64 (B,), class index, -1 where the label is not to be used.
            progress: share of training done, in [0, 1].
        """

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step, for teachers that follow their student."""


def load(name: str, encoder: nn.Module, features: int, settings: Mapping[str, Any]) -> Any:
    """Build the method ``name`` around an encoder.

    Args:
        name: a file of this folder, without its ending.
        encoder: float (B, C, S, S) to (B, features).
        features: width of the encoder's output.
        settings: the block ``methods.NAME`` of the parameters.

    Raises:
        UserError: the settings hold an unknown key or a value out of range.
    """
    module = import_module(f"{__name__}.{name}")
    try:
        settings = module.Config(**settings)
    except ValidationError as error:
        raise UserError(config.describe(error, f"params.yaml, methods.{name},")) from None
    return module.Method(encoder, features, settings)
