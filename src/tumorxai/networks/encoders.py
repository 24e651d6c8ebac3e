"""Encoders: any timm backbone without its classifier, Firildak's own, and the files that hold one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from tumorxai import config
from tumorxai.base.sides import of_sides
from tumorxai.errors import UserError
from tumorxai.networks import weights
from tumorxai.networks.weights import save as save  # what writes what `load` reads

# The backbones that are not timm's, and whether the last dense layer has a ReLU, which the paper does not say.
FIRILDAK = {"firildak_cnn": False, "firildak_cnn_relu": True}


class FirildakCNN(nn.Module):
    """The encoder of Firildak, Celik and Talu (section 2.2.4, figure 6): float (B, channels, size, size) to (B, 128).

    Three blocks of two 3x3 convolutions with ReLU (16, 32 and 64 filters) and max-pooling, then three dense layers. The
    paper does not state their widths; the last one follows from its table 1, where SimCLR's r_acc, 0.78 %, is at the
    chance level 1/128.

    Args:
        channels: 1 or 3.
        size: side of the images, pixels; the dense layers take no other.
        relu: whether the features pass a ReLU. Those that it turns off for good are what lowers r_acc.
    """

    def __init__(self, channels: int, size: int, relu: bool) -> None:
        super().__init__()
        self.size = size
        self.blocks = nn.Sequential(*map(_convolutions, (channels, 16, 32), (16, 32, 64)))
        self.dense = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(64 * (size // 8) ** 2, 512), nn.ReLU()),
            *(nn.Linear(512, 256), nn.ReLU()),
            nn.Linear(256, 128),
            *([nn.ReLU()] if relu else []),
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps (B, 64, size / 8, size / 8)."""
        if x.shape[-1] != self.size:
            raise UserError(
                f"got images of {x.shape[-1]} px for an encoder of {self.size} px; it flattens its maps and takes one "
                "size; choose another model.backbone, or set the method's local_views to 0 and leave out augment.size"
            )
        maps: Tensor = self.blocks(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 128)."""
        features: Tensor = self.dense(self.forward_features(x))
        return features


def _convolutions(wide: int, filters: int) -> nn.Sequential:
    first, second = nn.Conv2d(wide, filters, 3, padding=1), nn.Conv2d(filters, filters, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d(2))


def build(model: config.Model, channels: int, size: int) -> nn.Module:
    """Make a randomly initialised encoder: float (B, channels, size, size) to features (B, width).

    Vision transformers take smaller images as well, of whole patches: their positions are interpolated.

    Raises:
        UserError: timm has no such backbone, or the backbone does not take such images.
    """
    if model.backbone in FIRILDAK:
        encoder: nn.Module = FirildakCNN(channels, size, FIRILDAK[model.backbone])
    else:
        encoder = _build_timm(model.backbone, channels, size)
    if model.small_stem:
        _small_stem(encoder, model.backbone)
    return encoder


def _build_timm(backbone: str, channels: int, size: int) -> nn.Module:
    if not timm.is_model(backbone):
        near = difflib.get_close_matches(backbone, [*timm.list_models(), *FIRILDAK], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`timm.list_models()` lists them"
        raise UserError(f"got model.backbone {backbone!r}; expected a timm model or {' or '.join(FIRILDAK)}; {hint}")
    # Convolutional backbones take any size, and some transformers only their own: neither knows these arguments.
    sizes: tuple[dict[str, Any], ...] = ({"img_size": size, "dynamic_img_size": True}, {"img_size": size}, {})
    for arguments in sizes:
        try:
            encoder: nn.Module = timm.create_model(backbone, num_classes=0, in_chans=channels, **arguments)
            break
        except TypeError as error:
            unknown = error
        except (AssertionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"got model.backbone {backbone!r} with images of {size} px; the backbone refuses them: {error}; "
                "choose another data.image_size"
            ) from None
    else:
        raise unknown
    patch, _ = patches(encoder)
    if size % patch:  # timm would leave the last pixels out without a word
        raise UserError(
            f"got model.backbone {backbone!r}, of patches of {patch} px, with images of {size} px; "
            "expected whole patches; choose a data.image_size that they divide"
        )
    return encoder


def patches(encoder: nn.Module) -> tuple[int, tuple[int, int] | None]:
    """Side of a transformer's patches, pixels, and their grid; 1 and None of an encoder that takes single pixels."""
    embedding = getattr(encoder, "patch_embed", None)
    return getattr(embedding, "patch_size", (1, 1))[0], getattr(embedding, "grid_size", None)


def _small_stem(encoder: nn.Module, backbone: str) -> None:
    """The first convolution becomes 3x3 with stride 1 and max-pooling goes (SimCLR, appendix B.9).

    A stem of several 3x3 convolutions, as ResNet-D has it, only loses its stride.
    """
    stem = getattr(encoder, "conv1", None)
    first = stem[0] if isinstance(stem, nn.Sequential) else stem
    if not isinstance(first, nn.Conv2d) or not hasattr(encoder, "maxpool"):
        raise UserError(f"got model.small_stem with {backbone!r}; expected a ResNet; set model.small_stem to false")
    encoder.maxpool = nn.Identity()
    if isinstance(stem, nn.Sequential):
        first.stride = (1, 1)
    else:
        encoder.conv1 = nn.Conv2d(first.in_channels, first.out_channels, 3, stride=1, padding=1, bias=False)


def fitting(encoder: nn.Module, share: float) -> tuple[float, int]:
    """How small a crop may be: the share of the image's side nearest to ``share``, and the least side in pixels.

    A vision transformer takes whole patches; a convolutional encoder any side that its strides leave something of.
    """
    _, grid = patches(encoder)
    if grid:
        return max(1, round(share * grid[0])) / grid[0], 1
    stages = getattr(encoder, "feature_info", None)
    return share, stages[-1]["reduction"] if stages else 1


def check_sides(encoder: nn.Module, sides: Sequence[int], method: str) -> None:
    """See that the views of a method are whole patches of its encoder.

    Args:
        encoder: as :func:`build` gives it.
        sides: of the views, pixels.
        method: its name.

    Raises:
        UserError: one of them is not.
    """
    patch, _ = patches(encoder)
    if wrong := [side for side in sides if side % patch]:
        raise UserError(
            f"got views of {wrong[0]} px for patches of {patch} px; expected whole patches; change "
            f"methods.{method}.augment.size"
        )


@torch.no_grad()
def width(encoder: nn.Module, channels: int, size: int) -> int:
    """Number of features, asked of the encoder itself: timm's attributes differ between families."""
    training = encoder.training
    encoder.eval()
    features: Tensor = encoder(torch.zeros(1, channels, size, size))
    encoder.train(training)
    return features.shape[1]


def load(path: Path, data: Path | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """Read an encoder and its card; the encoder is in evaluation mode.

    Args:
        path: of the weights.
        data: folder of the run whose sides they must have been trained on; None for any.

    Raises:
        UserError: a file is missing or damaged, or the weights are not those of the card, or of another run.
    """
    remedy = "run `dvc repro pretrain`"
    card = weights.card(path, "a pretrained encoder", remedy)
    of_sides(path, card, data, remedy)
    encoder = build(config.Model(backbone=card["timm"], small_stem=card["small_stem"]), card["channels"], card["size"])
    state = weights.read(path, card, remedy)
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"the weights in {path} do not fit {card['timm']} as its card describes it: {error}") from None
    return encoder.eval(), card
