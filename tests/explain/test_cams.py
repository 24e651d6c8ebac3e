"""CAMs against pytorch-grad-cam called plainly, and what they must not do to the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus, LayerCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_with_sign_correction
from torch import Tensor, nn

from tests.tolerance import rounding
from tumorxai.errors import UserError
from tumorxai.explain import cams, layers
from tumorxai.explain.explainer import Explainer, is_flat
from tumorxai.explain.layers import target_layer

# The networks compute in float64; pytorch-grad-cam scales its maps and enlarges them, in two directions, in float32.
TO_FLOAT32 = rounding(torch.float32, 2, stages=6)
PEERS = {"grad_cam": GradCAM, "grad_cam_plus_plus": GradCAMPlusPlus, "layer_cam": LayerCAM}


class Classifier(nn.Module):
    """What the real classifier has that matters here."""

    def __init__(self, name: str, size: int, channels: int = 1, **arguments: Any) -> None:
        super().__init__()
        if any(word in name for word in ("vit", "deit", "swin")):
            arguments["img_size"] = size
        self.encoder = timm.create_model(name, num_classes=0, in_chans=channels, **arguments)
        self.eval()
        with torch.no_grad():
            width = self.encoder(torch.zeros(1, channels, size, size)).shape[1]
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(x))
        return logits


def peer(kind: type, model: nn.Module, images: Tensor, targets: Tensor, layer: layers.Layer) -> NDArray[np.float32]:
    with kind(model, [layer.module], reshape_transform=layer.to_map) as cam:
        maps: NDArray[np.float32] = cam(images, [ClassifierOutputTarget(int(target)) for target in targets])
    return maps


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        ("resnet18", 128, None),
        ("resnet18", 64, None),
        ("resnet18", 64, "layer2"),
        ("test_convnext", 64, None),
        ("test_efficientnet", 64, None),
        ("vit_tiny_patch16_224", 64, None),
        ("swin_tiny_patch4_window7_224", 64, None),
    ],
)
def test_they_are_pytorch_grad_cams(name: str, size: int, layer: str | None) -> None:
    arguments = {"depth": 2} if "vit" in name else {"depths": (1, 1, 2, 1)} if "swin" in name else {}
    model = Classifier(name, size, **arguments).double()
    images, targets = torch.randn(5, 1, size, size, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])
    explainer = Explainer.of(model, images[:1], layer)
    assert layer is None or explainer.layer.name == layer
    for method, kind in PEERS.items():
        np.testing.assert_allclose(
            explainer.maps(images, targets, method),
            peer(kind, model, images, targets, explainer.layer),
            atol=TO_FLOAT32,
        )


@pytest.mark.parametrize(("name", "size"), [("resnet18", 128), ("resnet18", 64), ("vit_tiny_patch16_224", 64)])
def test_eigen_cam_is_pytorch_grad_cams_up_to_its_arbitrary_sign(name: str, size: int) -> None:
    model = Classifier(name, size, **({"depth": 2} if "vit" in name else {})).double()
    images, targets = torch.randn(12, 1, size, size, dtype=torch.float64), torch.zeros(12, dtype=torch.int64)
    explainer = Explainer.of(model, images[:1])
    got = explainer.maps(images, targets, "eigen_cam").numpy()
    A = cams.activations(model, images, explainer.layer)
    corrected = np.maximum(get_2d_projection_with_sign_correction(A.numpy()), 0)
    np.testing.assert_allclose(got, scale_cam_image(scale_cam_image(corrected, (size, size))), atol=TO_FLOAT32)
    plain = peer(EigenCAM, model, images, targets, explainer.layer)
    same = np.abs(plain - got).max(axis=(1, 2)) < TO_FLOAT32
    mirrored = cams.stretch(-cams.eigen_cam(A), (size, size)).numpy()
    np.testing.assert_allclose(plain[~same], mirrored[~same], atol=TO_FLOAT32)


def test_a_map_is_never_shown_upside_down() -> None:
    """One place stands out from the rest: it is the hot one, whichever sign the decomposition returns."""
    A = torch.zeros(2, 3, 4, 4)
    A[0, :, 1, 2], A[1, :, 1, 2] = 1, -1
    for one in cams.stretch(cams.eigen_cam(A)):
        assert int(one.argmax()) == 6
        assert one.sum() < 1.1


def test_no_gradient_reaches_the_trunk_and_the_mode_is_restored() -> None:
    model = Classifier("resnet18", 64)
    images = torch.randn(2, 1, 64, 64)
    layer = target_layer(model, images[:1], "layer3")
    recorded: list[bool] = []
    handles = [
        m.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
        for m in (model.encoder.layer2, model.encoder.layer4)
    ]
    with torch.no_grad():
        A, G = cams.activations_and_gradients(model, images, layer, cams.class_score(torch.tensor([0, 1])))
        assert not torch.is_grad_enabled()
    assert recorded == [False, True]
    assert not A.requires_grad
    assert G.abs().sum() > 0
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("method", ["grad_cam", "eigen_cam", "occlusion", "vit_cx"])
def test_nothing_is_left_behind_in_the_model(method: str) -> None:
    model = Classifier("test_resnet", 64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.randn(2, 1, 64, 64)
    Explainer.of(model, images[:1], masks=4, windows=4).maps(images, torch.tensor([0, 1]), method)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.is_grad_enabled()


def test_a_classifier_without_evidence_gives_flat_maps_that_are_told_apart() -> None:
    model = Classifier("test_resnet", 64)
    images, targets = torch.randn(2, 1, 64, 64), torch.tensor([0, 1])
    explainer = Explainer.of(model, images[:1], masks=4, windows=4)
    nn.init.zeros_(model.head.weight)
    for method in ("grad_cam", "grad_cam_plus_plus", "layer_cam", "occlusion"):
        assert is_flat(explainer.maps(images, targets, method)).all(), method
    nn.init.normal_(model.head.weight)
    assert not is_flat(explainer.maps(images, targets, "grad_cam")).any()


def test_constant_activations_are_not_blown_up_to_a_map() -> None:
    A = 0.3 + 1e-8 * torch.rand(2, 8, 4, 4)
    assert is_flat(cams.stretch(cams.eigen_cam(A), (16, 16))).all()
    assert is_flat(cams.stretch(cams.grad_cam(A, torch.ones_like(A)), (16, 16))).all()


def test_damaged_weights_are_an_error_and_not_a_black_map() -> None:
    model = Classifier("test_resnet", 64)
    images, targets = torch.randn(3, 1, 64, 64), torch.tensor([0, 1, 2])
    explainer = Explainer.of(model, images[:1], masks=4, windows=4)
    images[1] = float("nan")
    for method in ("grad_cam", "grad_cam_plus_plus", "layer_cam", "eigen_cam", "occlusion", "vit_cx"):
        with pytest.raises(UserError, match=r"NaN.*1 of 3 images \(place 1 in the batch\)"):
            explainer.maps(images, targets, method)


@pytest.mark.parametrize(
    ("shape", "targets", "method", "words"),
    [
        ((2, 1, 64, 64), [0, 3], "grad_cam", r"classes \[0, 3\].*one of 0 to 2"),
        ((2, 1, 64, 64), [-1, 0], "eigen_cam", r"classes \[-1, 0\]"),
        ((2, 1, 64, 64), [0], "grad_cam", r"for 2 images; expected one of"),
        ((2, 1, 80, 80), [0, 1], "grad_cam", r"\(1, 80, 80\); expected \(1, 64, 64\)"),
        ((2, 3, 64, 64), [0, 1], "grad_cam", r"\(3, 64, 64\); expected \(1, 64, 64\)"),
        ((2, 1, 64, 64), [0, 1], "gradcam", r"'gradcam'; expected one of grad_cam"),
        ((2, 1, 64, 64), [0, 1], "attention_rollout", r"got a ResNet; expected a transformer"),
    ],
)
def test_mistakes_are_told(shape: tuple[int, ...], targets: list[int], method: str, words: str) -> None:
    explainer = Explainer.of(Classifier("test_resnet", 64), torch.randn(1, 1, 64, 64))
    with pytest.raises(UserError, match=words):
        explainer.maps(torch.randn(shape), torch.tensor(targets), method)


def test_a_transformer_refuses_another_size() -> None:
    with pytest.raises(UserError, match=r"\(1, 80, 80\), which the classifier refuses"):
        Explainer.of(Classifier("vit_tiny_patch16_224", 64, depth=1), torch.randn(1, 1, 80, 80))
