"""ONNX files compute what PyTorch computes, or are not left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tumorxai import config, encoders, export
from tumorxai.errors import UserError, run


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
        np.testing.assert_allclose(got, wanted, atol=1e-3 * wanted.std())
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


def test_the_command_ends_on_a_missing_encoder_with_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["export", str(tmp_path / "none.safetensors"), str(tmp_path / "a.onnx")])
    with pytest.raises(SystemExit) as end:
        run(export.main)
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith("error: got no ")
