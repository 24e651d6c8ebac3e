"""Self-supervised methods, one file each.

A method file holds a frozen ``Config`` (the paper's values as defaults) and a ``Method``; :func:`load` finds it by
name. The loop in :mod:`tumorxai.pretrain.loop` knows no more of a method than :class:`Method` states.
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

    from tumorxai.networks.views import View


class Method(Protocol):
    """What the loop asks of a method, beside being an ``nn.Module``.

    All that a loss remembers (queues, centres, teachers) is in parameters and buffers, so that a resumed run goes on
    exactly on one machine, and is the same in every process. A method without trainable parameters is saved as it is.

    Attributes:
        encoder: what is to be learned.
        kept: may be left out; what is watched, evaluated and saved in the encoder's place, a network like it.
        optimizer: how.
        signals: detached scalars of the last ``loss``, by name; empty for most.
        classifier: may be left out; what the method itself learns to classify with, from features (B, d) to logits, the
            same in training and in evaluation. p_acc and val_p_acc are then its, not those of the online probe.
        keras: may be left out; whether batches and online probe are as in :mod:`tumorxai.networks.keras`.
        against_collapse: may be left out; the parameters to change when the features collapse, and how.
    """

    encoder: nn.Module
    optimizer: config.Optimizer
    signals: dict[str, Tensor]

    def views(self) -> list[View]:
        """The views to draw of each image, in the order in which ``loss`` wants them."""

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        """The loss of one batch.

        Args:
            views: one normalised float tensor (B, C, s, s) for each of ``views()``, of its size s.
            labels: int64 (B,), class index, -1 where the label is not to be used.
            progress: share of training done, in [0, 1].
        """

    def after_step(self, progress: float | Tensor) -> None:
        """Called after each optimiser step, for teachers that follow their student.

        Args:
            progress: as the step's loss was given it; on a GPU a scalar there, so that the step can be recorded. At 1 a
                teacher's momentum would be 1, and the step lost on it.
        """


def kept(method: Any) -> nn.Module:
    """The network of a method that is watched, evaluated and saved: its encoder, or what it names as ``kept``."""
    network: nn.Module = getattr(method, "kept", method.encoder)
    return network


def as_keras(method: Any) -> bool:
    """Whether a method wants its batches and its online probe as in :mod:`tumorxai.networks.keras`."""
    return bool(getattr(method, "keras", False))


def settings(name: str, block: Mapping[str, Any]) -> Any:
    """The block ``methods.NAME`` of the parameters as the method's ``Config``.

    Raises:
        UserError: it holds an unknown key or a value out of range.
    """
    try:
        return import_module(f"{__name__}.{name}").Config(**block)
    except ValidationError as error:
        raise UserError(config.describe(error, f"params.yaml, methods.{name},")) from None


def load(name: str, encoder: nn.Module, features: int, block: Mapping[str, Any], classes: int = 0) -> Any:
    """Build the method ``name`` around an encoder.

    Args:
        name: a file of this folder, without its ending.
        encoder: float (B, C, S, S) to (B, features).
        features: width of the encoder's output.
        block: ``methods.NAME`` of the parameters.
        classes: number of classes, for methods that learn from labels as well.

    Raises:
        UserError: the settings hold an unknown key or a value out of range, or the method cannot use the encoder.
    """
    own = settings(name, block)
    return import_module(f"{__name__}.{name}").Method(encoder, features, own, classes)
