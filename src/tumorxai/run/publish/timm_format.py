"""A model as a folder that timm loads by itself: ``config.json`` and ``model.safetensors``, as its own export writes.

What timm has no name for (other stems, heads and backbones than its own) is told with the reason instead: a folder is
kept only where ``timm.create_model("local-dir:FOLDER", pretrained=True)`` computes what our own loader computes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf
from torch import Tensor, nn

from tumorxai.networks.classifier import Classifier
from tumorxai.networks.encoders import FIRILDAK
from tumorxai.run.export import TOLERANCE

CONFIG, WEIGHTS = "config.json", "model.safetensors"
# What timm says of the weights that it would have fetched for the same architecture: it is not true of these.
NOT_OURS = ("origin_url", "paper_name", "paper_ids", "notes", "description", "test_input_size", "test_crop_pct")
# What building, saving and loading a model raise where timm does not know such a one.
UNKNOWN = (RuntimeError, ValueError, TypeError, AttributeError, KeyError, AssertionError)


def described(card: Mapping[str, Any], fit: str, licence: str) -> dict[str, Any]:
    """How images reach the model, in timm's words (``pretrained_cfg``).

    timm's own transform comes near to ``data.fit``, not to the bit: it pads with the mean, where we pad with black.

    Args:
        card: of the model: ``channels``, ``size``, ``mean`` and ``std``, and ``method`` where it has one.
        fit: ``pad`` or ``stretch``.
        licence: of the weights.
    """
    channels = card["channels"]
    return dict.fromkeys(NOT_OURS) | {
        "tag": card.get("method", "finetuned"),
        "license": licence,
        "input_size": (channels, card["size"], card["size"]),
        "mean": (card["mean"],) * channels,
        "std": (card["std"],) * channels,
        "interpolation": "lanczos",
        "crop_pct": 1.0,
        "crop_mode": "squash" if fit == "stretch" else "border",
    }


def joined(network: Classifier) -> nn.Module:
    """Encoder and head of a classifier as one model of timm's.

    Raises:
        ValueError: timm's model has no single linear layer on the same features.
    """
    model: Any = copy.deepcopy(network.encoder)
    model.reset_classifier(len(network.classes))
    head = model.get_classifier()
    if not isinstance(head, nn.Linear) or head.weight.shape != network.head.weight.shape:
        raise ValueError("its classifier is no linear layer on the encoder's features")
    head.load_state_dict(network.head.state_dict())
    whole: nn.Module = model.eval()
    return whole


def write(model: nn.Module, card: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> str:
    """Write a model, load it again by timm alone and compare.

    Args:
        model: an encoder, or a :class:`Classifier`, in evaluation mode.
        card: of the model, with ``timm`` and ``small_stem``.
        config: for ``config.json``, with ``pretrained_cfg`` of :func:`described`.
        folder: receives the two files.

    Returns:
        Empty; or why timm cannot load it, and then neither file is there.
    """
    if card["timm"] in FIRILDAK:
        return f"{card['timm']} is no model of timm's"
    if card["small_stem"]:
        return "timm has no name for a small stem"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        whole = joined(model) if isinstance(model, Classifier) else model
        save_for_hf(
            whole, str(folder), model_config=copy.deepcopy(dict(config)), model_args=_arguments(whole, card),
            safe_serialization=True,
        )  # fmt: skip
        loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        difference = _difference(model, loaded, card)
        wrong = "" if difference <= TOLERANCE else f"it differs by {difference:.3g} of the outputs' standard deviation"
    except UNKNOWN as error:
        wrong = str(error).split("\n")[0] or type(error).__name__
    if wrong:
        for name in (CONFIG, WEIGHTS):
            (folder / name).unlink(missing_ok=True)
    return wrong


def _arguments(model: nn.Module, card: Mapping[str, Any]) -> dict[str, Any]:
    """What timm needs to know to build it: a transformer's positions are those of one size of images."""
    sized = getattr(getattr(model, "patch_embed", None), "img_size", None) is not None
    return {"in_chans": card["channels"]} | ({"img_size": card["size"]} if sized else {})


@torch.no_grad()
def _difference(one: nn.Module, other: nn.Module, card: Mapping[str, Any]) -> float:
    """Largest difference of two models' outputs, as a share of their standard deviation."""
    shape = (4, card["channels"], card["size"], card["size"])
    images: Tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    wanted, got = one(images), other(images)
    if got.shape != wanted.shape:
        return float("inf")
    return float((got - wanted).abs().max() / wanted.std())
