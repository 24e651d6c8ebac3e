"""The methods of pytorch-grad-cam against that package run the ordinary way, and the table that drives everything."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
import torch
import typer
from numpy.typing import NDArray
from pytorch_grad_cam import (
    KPCA_CAM,
    AblationCAM,
    EigenGradCAM,
    FinerCAM,
    FullGrad,
    GradCAMElementWise,
    HiResCAM,
    ScoreCAM,
    XGradCAM,
)
from pytorch_grad_cam.ablation_layer import AblationLayer, AblationLayerVit
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from tests.explain.test_cams import TO_FLOAT32, Classifier, peer
from tests.tolerance import rounding
from tumorxai import cli, config
from tumorxai.errors import UserError
from tumorxai.explain import cams, many_passes, methods
from tumorxai.explain.attention import NotApplicableError
from tumorxai.explain.explainer import Explainer, is_flat
from tumorxai.explain.fullgrad import fullgrad
from tumorxai.explain.methods import FLOORS, METHODS, NAMES

NETWORKS = [("test_resnet", 64), ("resnet18", 64), ("vit_tiny_patch16_224", 64)]
TARGETS = torch.tensor([0, 1, 2, 1])


def setting(name: str, size: int) -> tuple[Explainer, Tensor]:
    """A classifier in float64, found out, and images."""
    torch.manual_seed(0)
    model = Classifier(name, size, **({"depth": 2} if "vit" in name else {})).double()
    images = torch.randn(len(TARGETS), 1, size, size, dtype=torch.float64)
    return Explainer.of(model, images[:1]), images


def targets_of(targets: Tensor) -> list[ClassifierOutputTarget]:
    return [ClassifierOutputTarget(int(target)) for target in targets]


def spread(raw: Tensor) -> float:
    """How many times as large as what a map ranges over its own values are: rounding grows by that when stretched."""
    positive = raw.relu().flatten(1)
    ranges = positive.amax(dim=1) - positive.amin(dim=1)
    some = ranges > 0  # a map without a positive value is stretched to nothing, exactly
    assert some.any()
    return float((raw.abs().flatten(1).amax(dim=1)[some] / ranges[some]).max())


@pytest.mark.parametrize(("name", "size"), NETWORKS)
@pytest.mark.parametrize(
    ("method", "kind"),
    [("hires_cam", HiResCAM), ("x_grad_cam", XGradCAM), ("grad_cam_elementwise", GradCAMElementWise)],
)
def test_weighting_of_one_pass(name: str, size: int, method: str, kind: type) -> None:
    explainer, images = setting(name, size)
    given = cams.activations_and_gradients(explainer.model, images, explainer.layer, cams.class_score(TARGETS))
    np.testing.assert_allclose(
        explainer.maps(images, TARGETS, method),
        peer(kind, explainer.model, images, TARGETS, explainer.layer),
        atol=TO_FLOAT32 * spread(methods.load(METHODS[method].function)(*given)),
    )


@pytest.mark.parametrize(("name", "size"), NETWORKS)
@pytest.mark.parametrize(("method", "kind"), [("eigen_grad_cam", EigenGradCAM), ("kpca_cam", KPCA_CAM)])
def test_principal_components_up_to_their_arbitrary_sign(name: str, size: int, method: str, kind: type) -> None:
    explainer, images = setting(name, size)
    A, G = cams.activations_and_gradients(explainer.model, images, explainer.layer, cams.class_score(TARGETS))
    raw = cams.eigen_grad_cam(A, G) if method == "eigen_grad_cam" else cams.kpca_cam(A)
    got, plain = explainer.maps(images, TARGETS, method), peer(kind, explainer.model, images, TARGETS, explainer.layer)
    same = np.abs(plain - got.numpy()).max(axis=(1, 2)) < TO_FLOAT32
    np.testing.assert_allclose(plain[~same], cams.stretch(-raw, (size, size))[~same], atol=TO_FLOAT32)
    assert (raw.amax(dim=(1, 2)) >= -raw.amin(dim=(1, 2))).all()


@pytest.mark.parametrize(("name", "size"), NETWORKS)
@pytest.mark.parametrize("target", [0, 2])
def test_finer_cam(name: str, size: int, target: int) -> None:
    explainer, images = setting(name, size)
    wanted = torch.full((len(images),), target)
    with FinerCAM(explainer.model, [explainer.layer.module], explainer.layer.to_map) as cam:
        expected = cam(images, target_idx=target)
    np.testing.assert_allclose(explainer.maps(images, wanted, "finer_cam"), expected, atol=TO_FLOAT32)


def test_finer_cam_of_two_classes_and_of_equal_logits() -> None:
    logits = torch.tensor([[1.0, 3.0], [2.0, 2.0]])
    np.testing.assert_allclose(cams.finer_score(torch.tensor([0, 1]))(logits), [-2, 0], atol=1e-6)


@pytest.mark.parametrize(("name", "size"), [("test_resnet", 64), ("vit_tiny_patch16_224", 64)])
@pytest.mark.slow
def test_score_cam(name: str, size: int) -> None:
    explainer, images = setting(name, size)
    raw = many_passes.score_cam(explainer, images, TARGETS)
    with torch.no_grad():
        logit = float(explainer.model(images).abs().max())
    channels = cams.activations(explainer.model, images, explainer.layer).abs()
    # The package rounds the scores and their softmax to float32.
    terms = channels.shape[1]
    cancelled = float((channels.mean(dim=1).amax(dim=(1, 2)) / raw.abs().amax(dim=(1, 2))).max())
    close = rounding(torch.float32, terms, stages=2) * (1 + logit) * max(1.0, cancelled) * spread(raw) + TO_FLOAT32
    np.testing.assert_allclose(
        explainer.maps(images, TARGETS, "score_cam"),
        peer(ScoreCAM, explainer.model, images, TARGETS, explainer.layer),
        atol=close,
    )


class Zeroing(AblationLayerVit):
    """The package's, with the paper's 0 for a channel of a transformer instead of -10^7, each next one lower."""

    def __call__(self, x: Tensor) -> Tensor:
        for i in range(len(self.activations)):
            self.activations[i, :, self.indices[i]] = 0
        return self.activations


@pytest.mark.parametrize(
    ("name", "size", "ablation"), [("test_resnet", 64, AblationLayer), ("vit_tiny_patch16_224", 64, Zeroing)]
)
def test_ablation_cam(name: str, size: int, ablation: type) -> None:
    explainer, images = setting(name, size)
    model, layer = explainer.model, explainer.layer
    nn.init.constant_(model.head.bias, 5)  # the package turns the maps of negative logits upside down
    with torch.no_grad():
        logits = model(images).gather(1, TARGETS[:, None])[:, 0]
    assert logits.min() > 0
    raw = many_passes.ablation_cam(explainer, images, TARGETS)
    # It takes the difference of logits that it has rounded to float32.
    sums = cams.activations(model, images, layer).abs().sum(dim=1).amax(dim=(1, 2))
    lost = rounding(torch.float32, 1, stages=3) * float((logits * sums / raw.abs().amax(dim=(1, 2))).max())
    with AblationCAM(model, [layer.module], reshape_transform=layer.to_map, ablation_layer=ablation()) as cam:
        expected = cam(images, targets_of(TARGETS))
    np.testing.assert_allclose(
        explainer.maps(images, TARGETS, "ablation_cam"), expected, atol=lost * spread(raw) + TO_FLOAT32
    )
    nn.init.constant_(model.head.bias, -5)
    np.testing.assert_allclose(many_passes.ablation_cam(explainer, images, TARGETS), raw, atol=1e-9)


@pytest.mark.parametrize("name", ["test_resnet", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
@pytest.mark.slow
def test_the_batch_may_grow_at_the_layer_or_before_the_trunk(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"depth": 2} if "vit" in name else {"depths": (1, 1, 1, 1)} if "swin" in name else {}
    model = Classifier(name, 64, **arguments).double()
    images = torch.randn(2, 1, 64, 64, dtype=torch.float64)
    explainer = Explainer.of(model, images[:1])
    fast = many_passes.ablation_cam(explainer, images, TARGETS[:2])
    monkeypatch.setattr(many_passes, "_widens", lambda *_: False)
    np.testing.assert_allclose(fast, many_passes.ablation_cam(explainer, images, TARGETS[:2]), atol=1e-9)


def test_a_batch_that_cannot_grow_is_noticed() -> None:
    class Stubborn(nn.Module):
        """Remembers how many images it got."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            maps = self.conv(x)
            logits: Tensor = self.head(maps.reshape(len(x), 4, -1).mean(dim=2))
            return logits

    model, image = Stubborn(), torch.randn(1, 1, 8, 8)
    layer = many_passes.Layer("conv", model.conv, (6, 6), lambda x: x)
    with torch.no_grad():
        assert not many_passes._widens(model, image, layer, 4)


@pytest.mark.parametrize("name", ["test_resnet", "resnet18"])
def test_fullgrad(name: str) -> None:
    explainer, images = setting(name, 64)
    for module in explainer.model.modules():  # statistics of their own, as after training
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.normal_(module.bias, std=0.3)
    with FullGrad(explainer.model, []) as cam:
        expected: NDArray[np.float32] = cam(images, targets_of(TARGETS))
    raw = fullgrad(explainer, images, TARGETS)
    layers = [m for m in explainer.model.modules() if isinstance(m, nn.BatchNorm2d)]
    close = rounding(torch.float32, max(m.num_features for m in layers), stages=len(layers)) * spread(raw)
    np.testing.assert_allclose(explainer.maps(images, TARGETS, "fullgrad"), expected, atol=close)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "test_convnext", "test_efficientnet"])
def test_fullgrad_says_where_it_does_not_work(name: str) -> None:
    explainer, images = setting(name, 64)
    with pytest.raises(NotApplicableError, match=r"biases in .*Norm.*; expected them in convolutions"):
        explainer.maps(images, TARGETS, "fullgrad")


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].networks == "all"])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit2", "test_convnext"])
def test_maps_are_heat_maps_and_leave_nothing_behind(name: str, method: str) -> None:
    model = Classifier(name, 64)
    images, targets = torch.randn(2, 1, 64, 64), torch.tensor([2, 0])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    explainer = Explainer.of(model, images[:1], masks=3, windows=3)
    maps = explainer.maps(images, targets, method)
    assert maps.shape == images[:, 0].shape
    assert maps.min() >= 0
    assert maps.max() <= 1
    torch.testing.assert_close(explainer.maps(images, targets, method), maps, atol=0, rtol=0)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.is_grad_enabled()
    if METHODS[method].by_class:
        other = explainer.maps(images, torch.tensor([1, 1]), method)
        assert not torch.equal(other, maps) or is_flat(maps).all()
    else:
        torch.testing.assert_close(explainer.maps(images, torch.tensor([1, 1]), method), maps, atol=0, rtol=0)


@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if row.needs in ("gradients", "activations")])
def test_nothing_is_made_of_nothing(method: str) -> None:
    """Neither constant activations nor a classifier without evidence give a map."""
    function = methods.load(METHODS[method].function)
    A = 0.3 + 1e-8 * torch.rand(2, 8, 4, 4)
    given = (A, torch.zeros_like(A)) if METHODS[method].needs == "gradients" else (A,)
    assert is_flat(cams.stretch(function(*given), (16, 16))).all()


@pytest.mark.parametrize("method", ["hires_cam", "kpca_cam", "finer_cam", "score_cam", "ablation_cam", "fullgrad"])
def test_damaged_numbers_are_an_error(method: str) -> None:
    model, images = Classifier("test_resnet", 64), torch.randn(3, 1, 64, 64)
    explainer = Explainer.of(model, images[:1])
    images[1] = float("nan")
    with pytest.raises(UserError, match=r"NaN.*1 of 3 images \(place 1 in the batch\)"):
        explainer.maps(images, torch.tensor([0, 1, 2]), method)


def test_the_table_drives_everything() -> None:
    allowed: dict[str, Any] = config.Explain.model_json_schema()["properties"]["methods"]["items"]
    assert allowed["enum"] == list(METHODS)
    assert config.Explain(methods=list(METHODS)).methods == list(METHODS)
    assert all(f"| `{name}` |" in methods.markdown() for name in METHODS)  # a page of the documentation
    (option,) = (
        one for one in typer.main.get_group(cli.app).commands["explain"].params if one.name == "method"
    )  # fmt: skip
    assert str(option.help).split(";")[0].removeprefix("one of ").split(", ") == list(METHODS)
    assert list(NAMES) == [*METHODS, *FLOORS]
    assert len(set(NAMES.values())) == len(NAMES)


@pytest.mark.parametrize("name", METHODS)
def test_every_row_is_complete(name: str) -> None:
    row = METHODS[name]
    takes = {"gradients": 2, "activations": 1, "attention": 2, "passes": 3, "all gradients": 3}
    assert len(inspect.signature(methods.load(row.function)).parameters) == takes[row.needs]
    assert callable(methods.load(row.score))
    assert re.search(r"\d{4}\.\d{5}|\d{4}\.\d{4}|IEEE TIP|10\.\d{4}/", row.source)
    assert "|" not in row.shows + row.source + row.title
    assert not row.shows.endswith(".")


def test_an_unknown_name_is_told_with_the_nearest_one() -> None:
    explainer, images = setting("test_resnet", 64)
    with pytest.raises(UserError, match=r"'hirescam'; expected one of grad_cam.*did you mean hires_cam\?"):
        explainer.maps(images, TARGETS, "hirescam")
    with pytest.raises(ValueError, match=r"'scorecam'; expected one of grad_cam.*did you mean score_cam\?"):
        config.Explain(methods=["scorecam"])
