"""Encoders: families, stems, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.files import read_json, sha256
from tumorxai.networks import encoders

FAMILIES = [
    "resnet10t",
    "resnet18",
    "mobilenetv3_small_050",
    "test_vit",
    "test_convnext",
    "firildak_cnn",
    "firildak_cnn_relu",
]


@pytest.mark.parametrize("backbone", FAMILIES)
@pytest.mark.parametrize("channels", [1, 3])
def test_any_family_gives_one_row_an_image(backbone: str, channels: int) -> None:
    encoder = encoders.build(config.Model(backbone=backbone), channels, 64).eval()
    features = encoder(torch.zeros(2, channels, 64, 64))
    assert features.shape == (2, encoders.width(encoder, channels, 64))


def test_a_small_stem_keeps_the_resolution() -> None:
    plain, small = (
        encoders.build(config.Model(backbone="resnet18", small_stem=s), 1, 32).eval() for s in (False, True)
    )
    shape = [tuple(e.forward_features(torch.zeros(1, 1, 32, 32)).shape[2:]) for e in (plain, small)]
    assert shape == [(1, 1), (4, 4)]


def test_a_deep_stem_can_be_small_as_well() -> None:
    small = encoders.build(config.Model(backbone="resnet10t", small_stem=True), 1, 32).eval()
    assert small.forward_features(torch.zeros(1, 1, 32, 32)).shape[2:] == (4, 4)


@pytest.mark.parametrize("backbone", ["test_vit", "vit_tiny_patch16_224"])
def test_a_vision_transformer_takes_smaller_crops_of_whole_patches(backbone: str) -> None:
    encoder = encoders.build(config.Model(backbone=backbone), 1, 64).eval()
    assert encoders.fitting(encoder, 96 / 224) == (0.5, 1)
    assert len(encoder(torch.zeros(2, 1, 32, 32))) == 2
    assert encoders.fitting(encoder, 0.01) == (0.25, 1)


@pytest.mark.parametrize("backbone", ["resnet10t", "test_convnext", "mobilenetv3_small_050"])
def test_convolutions_take_crops_down_to_their_stride(backbone: str) -> None:
    encoder = encoders.build(config.Model(backbone=backbone), 1, 64).eval()
    assert encoders.fitting(encoder, 0.3) == (0.3, 32)
    assert len(encoder(torch.zeros(2, 1, 32, 32))) == 2


@pytest.mark.parametrize(("backbone", "relu"), [("firildak_cnn", False), ("firildak_cnn_relu", True)])
def test_firildaks_encoder_is_that_of_the_paper(backbone: str, relu: bool) -> None:
    encoder = encoders.build(config.Model(backbone=backbone), 1, 96)
    filters = [layer.out_channels for layer in encoder.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert filters == [16, 16, 32, 32, 64, 64]
    assert sum(isinstance(layer, torch.nn.Linear) for layer in encoder.modules()) == 3
    assert encoder.forward_features(torch.zeros(1, 1, 96, 96)).shape == (1, 64, 12, 12)
    features = encoder(torch.randn(8, 1, 96, 96))
    assert features.shape == (8, 128)
    assert bool((features >= 0).all()) == relu
    with pytest.raises(UserError, match="takes one size"):
        encoder(torch.zeros(1, 1, 41, 41))


@pytest.mark.parametrize(
    ("model", "size", "words"),
    [
        (config.Model(backbone="resnet19"), 32, "did you mean"),
        (config.Model(backbone="firildak"), 32, "did you mean firildak_cnn or firildak_cnn_relu"),
        (config.Model(backbone="firildak_cnn", small_stem=True), 32, "expected a ResNet"),
        (config.Model(backbone="vit_tiny_patch16_224"), 60, "choose a data.image_size"),
        (config.Model(backbone="test_vit", small_stem=True), 64, "expected a ResNet"),
    ],
)
def test_what_cannot_be_built_says_why(model: config.Model, size: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        encoders.build(model, 1, size)


def test_files_load_here_and_with_plain_timm(tmp_path: Path) -> None:
    model = config.Model(backbone="test_resnet")
    encoder = encoders.build(model, 1, 32).eval()
    card = {"timm": model.backbone, "small_stem": False, "channels": 1, "size": 32, "mean": 0.5, "std": 0.2}
    encoders.save(encoder.state_dict(), tmp_path / "e.safetensors", card)
    x = torch.rand(2, 1, 32, 32)
    ours, read = encoders.load(tmp_path / "e.safetensors")
    plain = timm.create_model(read["timm"], num_classes=0, in_chans=read["channels"]).eval()
    plain.load_state_dict(load_file(tmp_path / "e.safetensors"))
    assert read == card | {"sha256": sha256(tmp_path / "e.safetensors")} == read_json(tmp_path / "e.json")
    assert torch.equal(ours(x), encoder(x))
    assert torch.equal(plain(x), encoder(x))


def test_firildaks_encoder_goes_through_a_file(tmp_path: Path) -> None:
    encoder = encoders.build(config.Model(backbone="firildak_cnn"), 3, 32).eval()
    card = {"timm": "firildak_cnn", "small_stem": False, "channels": 3, "size": 32, "mean": 0.5, "std": 0.2}
    encoders.save(encoder.state_dict(), tmp_path / "e.safetensors", card)
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(encoders.load(tmp_path / "e.safetensors")[0](x), encoder(x))


def test_files_that_are_missing_or_of_another_encoder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="got no"):
        encoders.load(tmp_path / "e.safetensors")
    encoder = encoders.build(config.Model(backbone="test_resnet"), 1, 32)
    card = {"timm": "resnet18", "small_stem": False, "channels": 1, "size": 32, "mean": 0.5, "std": 0.2}
    encoders.save(encoder.state_dict(), tmp_path / "e.safetensors", card)
    with pytest.raises(UserError, match="do not fit"):
        encoders.load(tmp_path / "e.safetensors")


def test_views_are_whole_patches_of_a_transformer() -> None:
    vit, resnet = (encoders.build(config.Model(backbone=name), 1, 64) for name in ("test_vit", "test_resnet"))
    encoders.check_sides(vit, [64, 32], "simclr")
    encoders.check_sides(resnet, [64, 41], "simclr")
    with pytest.raises(UserError, match=r"views of 40 px for patches of 16 px.*methods\.simclr\.augment\.size"):
        encoders.check_sides(vit, [64, 40], "simclr")
