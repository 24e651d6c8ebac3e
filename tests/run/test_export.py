"""Exported files compute what PyTorch computes, or are not left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.networks import encoders
from tumorxai.run import export


@pytest.fixture
def weights(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    backbone = getattr(request, "param", "test_resnet")
    encoder = encoders.build(config.Model(backbone=backbone), channels=1, size=32)
    card = {"timm": backbone, "small_stem": False, "channels": 1, "size": 32, "mean": 0.3, "std": 0.2}
    encoders.save(encoder.state_dict(), tmp_path / "encoder.safetensors", card)
    return tmp_path / "encoder.safetensors"


@pytest.mark.parametrize("weights", ["test_resnet", "test_vit"], indirect=True)
def test_the_file_takes_pixels_and_any_number_of_images(weights: Path, tmp_path: Path) -> None:
    assert export.run(weights, tmp_path / "a.onnx") < export.TOLERANCE
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    encoder, card = encoders.load(weights)
    for count in (1, 7):
        pixels = torch.rand(count, 1, 32, 32)
        got = session.run(["features"], {"images": pixels.numpy()})[0]
        with torch.no_grad():
            wanted = encoder((pixels - card["mean"]) / card["std"]).numpy()
        np.testing.assert_allclose(got, wanted, atol=export.TOLERANCE * wanted.std())
    props = {prop.key: prop.value for prop in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert json.loads(props["card"]) == card


def test_a_file_that_differs_is_not_left(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translate = export._translate

    def spoil(model: torch.nn.Module, images: torch.Tensor, path: Path) -> None:
        model.mean += 0.5
        translate(model, images, path)
        model.mean -= 0.5

    monkeypatch.setattr(export, "_translate", spoil)
    with pytest.raises(UserError, match="computes other features than PyTorch"):
        export.run(weights, tmp_path / "a.onnx")
    assert not list(tmp_path.glob("*.onnx")) + list(tmp_path.glob(".*"))


def test_an_exported_program_takes_pixels_and_any_number_of_images(weights: Path, tmp_path: Path) -> None:
    assert export.run(weights, tmp_path / "a.pt2") < export.TOLERANCE
    extra = {"card.json": ""}
    program = torch.export.load(tmp_path / "a.pt2", extra_files=extra).module()
    encoder, card = encoders.load(weights)
    assert json.loads(extra["card.json"]) == card
    for count in (1, 7):
        pixels = torch.rand(count, 1, 32, 32)
        with torch.no_grad():
            wanted = encoder((pixels - card["mean"]) / card["std"])
            torch.testing.assert_close(program(pixels), wanted, atol=export.TOLERANCE * float(wanted.std()), rtol=0)


def test_a_copy_is_a_whole_encoder(weights: Path, tmp_path: Path) -> None:
    assert export.run(weights, tmp_path / "out" / "copy.safetensors") == 0
    (encoder, card), (other, same) = (encoders.load(path) for path in (weights, tmp_path / "out" / "copy.safetensors"))
    assert card == same
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, atol=0, rtol=0)
    with pytest.raises(UserError, match="the encoder itself"):
        export.run(weights, weights)


def test_mistakes_are_told(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ends in \.safetensors, \.onnx, \.pt2"):
        export.run(weights, tmp_path / "a.tflite")
    with pytest.raises(UserError, match="expected a pretrained encoder there"):
        export.run(tmp_path / "none.safetensors", tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()
