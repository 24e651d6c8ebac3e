"""Heat-maps: where they are read off, and against Grad-CAM written down once more."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from tumorxai.errors import UserError
from tumorxai.explain import cams


class Classifier(nn.Module):
    """What the real classifier has that matters here."""

    def __init__(self, name: str, size: int, **arguments: object) -> None:
        super().__init__()
        if "vit" in name:
            arguments["img_size"] = size
        self.encoder = timm.create_model(name, num_classes=0, in_chans=1, **arguments)
        self.encoder.eval()
        with torch.no_grad():
            width = self.encoder(torch.zeros(1, 1, size, size)).shape[1]
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(x))
        return logits


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        ("test_resnet", 64, (4, 4)),  # its last map has 2 x 2 cells at this size: the stage before is taken
        ("test_resnet", 128, (4, 4)),
        ("resnet10t", 128, (4, 4)),
        ("test_efficientnet", 64, (4, 4)),
        ("test_convnext", 64, (4, 4)),
        ("test_vit", 64, (4, 4)),
        ("test_vit2", 64, (4, 4)),
        ("test_mambaout", 64, (4, 4)),
    ],
)
def test_the_layer_is_found_for_every_family(name: str, size: int, grid: tuple[int, int]) -> None:
    if not timm.is_model(name):
        pytest.skip(f"this timm has no {name}")
    model = Classifier(name, size).eval()
    images = torch.randn(3, 1, size, size)
    layer = cams.target_layer(model, images[:1])
    assert layer.grid == grid
    maps = cams.heat_maps(model, images, np.array([0, 1, 2]))
    assert maps.shape == (3, size, size)
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    assert maps.max() <= 1
    for image in maps[~cams.is_zero(maps)]:
        assert image.max() == pytest.approx(1, abs=1e-4)


def test_grad_cam_is_the_formula() -> None:
    model = Classifier("test_resnet", 64).eval()
    images, targets = torch.randn(4, 1, 64, 64), np.array([0, 1, 2, 1])
    layer = cams.target_layer(model, images[:1])
    kept: list[Tensor] = []
    handle = layer.module.register_forward_hook(lambda *given: kept.append(given[2]))
    logits = model(images)
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[torch.arange(4), torch.from_numpy(targets)].sum(), kept)
    alpha = gradient.mean(dim=(2, 3), keepdim=True)
    expected = (alpha * kept[0]).sum(dim=1).relu().detach().numpy()
    got = cams.heat_maps(model, images, targets)
    for one, other in zip(expected, got, strict=True):
        stretched = (one - one.min()) / max(one.max() - one.min(), 1e-7)
        enlarged = cv2.resize(stretched, (64, 64))
        enlarged = (enlarged - enlarged.min()) / max(enlarged.max() - enlarged.min(), 1e-7)
        np.testing.assert_allclose(other, enlarged, atol=1e-4)


def test_patches_keep_their_places() -> None:
    model = Classifier("test_vit", 64).eval()
    layer = cams.target_layer(model, torch.randn(1, 1, 64, 64))
    tokens = torch.arange(17.0).reshape(1, 17, 1)  # the class token, then 4 x 4 patches row by row
    np.testing.assert_array_equal(layer.to_map(tokens)[0, 0], np.arange(1, 17).reshape(4, 4))


def test_a_class_token_head_is_explained_before_the_last_attention() -> None:
    model = Classifier("vit_tiny_patch16_224", 64, depth=2).eval()
    layer = cams.target_layer(model, torch.randn(1, 1, 64, 64))
    assert layer.module is model.encoder.blocks[-1].norm1


def test_a_classifier_without_evidence_gives_zero_maps_that_are_counted() -> None:
    model = Classifier("test_resnet", 64).eval()
    nn.init.zeros_(model.head.weight)
    maps = cams.heat_maps(model, torch.randn(2, 1, 64, 64), np.array([0, 1]))
    assert cams.is_zero(maps).all()


def test_nothing_is_left_behind_in_the_model() -> None:
    model = Classifier("test_resnet", 64).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cams.heat_maps(model, torch.randn(2, 1, 64, 64), np.array([0, 1]))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_one_cell_is_refused() -> None:
    model = Classifier("test_vit", 16).eval()
    with pytest.raises(UserError, match=r"one cell for images of 16 px.*data\.image_size"):
        cams.target_layer(model, torch.randn(1, 1, 16, 16))
