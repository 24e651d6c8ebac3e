"""Encoders: any timm backbone without its classifier, and the files that hold one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.files import atomic, read_json, write_json


def build(model: config.Model, channels: int, size: int) -> nn.Module:
    """Make a randomly initialised encoder: float (B, channels, size, size) to features (B, width).

    Raises:
        UserError: timm has no such backbone, or the backbone does not take such images.
    """
    if not timm.is_model(model.backbone):
        near = difflib.get_close_matches(model.backbone, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`timm.list_models()` lists them"
        raise UserError(f"got model.backbone {model.backbone!r}; expected a timm model; {hint}")
    arguments: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
    try:
        try:
            encoder: nn.Module = timm.create_model(model.backbone, img_size=size, **arguments)
        except TypeError:  # convolutional backbones take any size and no such argument
            encoder = timm.create_model(model.backbone, **arguments)
    except (AssertionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"got model.backbone {model.backbone!r} with images of {size} px; the backbone refuses them: {error}; "
            "choose another data.image_size"
        ) from None
    patch = getattr(getattr(encoder, "patch_embed", None), "patch_size", (1, 1))
    if size % patch[0]:  # timm would leave the last pixels out without a word
        raise UserError(
            f"got model.backbone {model.backbone!r}, of patches of {patch[0]} px, with images of {size} px; "
            "expected whole patches; choose a data.image_size that they divide"
        )
    if model.small_stem:
        _small_stem(encoder, model.backbone)
    return encoder


def _small_stem(encoder: nn.Module, backbone: str) -> None:
    """The first 7x7 stride-2 convolution becomes 3x3 stride 1 and max-pooling goes (SimCLR, appendix B.9)."""
    stem = getattr(encoder, "conv1", None)
    if not isinstance(stem, nn.Conv2d) or not hasattr(encoder, "maxpool"):
        raise UserError(
            f"got model.small_stem with {backbone!r}; expected a ResNet with one stem convolution; "
            "set model.small_stem to false"
        )
    encoder.conv1 = nn.Conv2d(stem.in_channels, stem.out_channels, 3, stride=1, padding=1, bias=False)
    encoder.maxpool = nn.Identity()


@torch.no_grad()
def width(encoder: nn.Module, channels: int, size: int) -> int:
    """Number of features, asked of the encoder itself: timm's attributes differ between families."""
    training = encoder.training
    encoder.eval()
    features: Tensor = encoder(torch.zeros(1, channels, size, size))
    encoder.train(training)
    return features.shape[1]


def save(state: Mapping[str, Tensor], path: Path, card: Mapping[str, Any]) -> None:
    """Write weights as safetensors, and what is needed to use them as JSON beside them."""
    with atomic(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, temporary)
    write_json(path.with_suffix(".json"), card)


def load(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Read an encoder and its card; the encoder is in evaluation mode.

    Raises:
        UserError: a file is missing or the weights do not fit the card.
    """
    card_path = path.with_suffix(".json")
    for file in (path, card_path):
        if not file.exists():
            raise UserError(f"got no {file}; expected a pretrained encoder there; run `dvc repro pretrain`")
    card = read_json(card_path)
    encoder = build(config.Model(backbone=card["timm"], small_stem=card["small_stem"]), card["channels"], card["size"])
    try:
        encoder.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise UserError(f"the weights in {path} do not fit {card['timm']} as its card describes it: {error}") from None
    return encoder.eval(), card
