"""Every method on every family of encoders, with nothing set; the methods that are no CAMs; the floors."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from tests.explain.test_cams import Classifier
from tests.tolerance import rounding
from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.explain import attention, floors, occlusion
from tumorxai.explain.explainer import Explainer, is_flat
from tumorxai.explain.layers import target_layer
from tumorxai.explain.methods import FLOORS, METHODS
from tumorxai.explain.similarity import similarity_maps
from tumorxai.networks import encoders

ATTENTION = {"attention_rollout", "last_attention"}  # does not apply to a CNN
BIASES = {"fullgrad"}  # applies to nothing else than a plain one
NEITHER = ATTENTION | BIASES
CHANNELS = {"score_cam", "ablation_cam"}  # a pass for each of hundreds of channels; test_methods.py has small networks


@pytest.mark.parametrize(
    ("name", "size", "arguments", "grid", "not_applicable"),
    [
        ("resnet18", 64, {}, (4, 4), ATTENTION),
        ("resnet50", 64, {}, (4, 4), ATTENTION),
        ("convnext_tiny", 64, {}, (4, 4), NEITHER),
        ("efficientnet_lite0", 64, {}, (4, 4), NEITHER),
        ("vit_tiny_patch16_224", 64, {}, (4, 4), BIASES),
        ("vit_small_patch14_dinov2", 56, {}, (4, 4), BIASES),
        ("vit_small_patch14_reg4_dinov2", 56, {}, (4, 4), BIASES),
        ("deit_tiny_distilled_patch16_224", 64, {}, (4, 4), BIASES),
        ("swin_tiny_patch4_window7_224", 64, {}, (4, 4), NEITHER),
        ("test_vit2", 64, {}, (4, 4), BIASES),
        ("test_mambaout", 64, {}, (4, 4), NEITHER),
        ("vit_tiny_patch16_224", 96, {"depth": 2, "dynamic_img_size": True}, (6, 6), BIASES),
    ],
)
def test_nothing_needs_to_be_set(
    name: str, size: int, arguments: dict[str, object], grid: tuple[int, int], not_applicable: set[str]
) -> None:
    model = Classifier(name, size, **arguments)
    images, targets = torch.randn(2, 1, size, size), torch.tensor([2, 0])
    explainer = Explainer.of(model, images[:1], masks=3, windows=3)
    assert explainer.layer.grid == grid
    for method in METHODS | FLOORS:
        if method in CHANNELS:
            continue
        if method in not_applicable:
            with pytest.raises(attention.NotApplicableError):
                explainer.maps(images, targets, method)
            continue
        maps = explainer.maps(images, targets, method)
        assert maps.shape == (2, size, size), method
        assert maps.isfinite().all(), method
        assert maps.min() >= 0, method
        assert maps.max() <= 1, method
        for one in maps[~is_flat(maps)]:
            assert one.max() == pytest.approx(1, abs=0.02), method
        if method in ("eigen_cam", "vit_cx", "centre", "random", "edges", "attention_rollout"):
            assert not is_flat(maps).any(), method


@pytest.mark.parametrize("size", [32, 96])
def test_an_encoder_that_flattens_its_maps(size: int) -> None:
    """Firildak's network has no stages that timm knows of; its last maps before the dense layers are taken."""
    try:
        encoder = encoders.build(config.Model(backbone="firildak_cnn"), 1, size)
    except UserError as error:
        pytest.skip(str(error))
    model = nn.Module()
    model.encoder, model.head = encoder, nn.Linear(encoders.width(encoder, 1, size), 4)
    model.forward = lambda x: model.head(model.encoder(x))  # type: ignore[method-assign]
    images = torch.randn(2, 1, size, size)
    explainer = Explainer.of(model, images[:1], masks=3, windows=3)
    assert explainer.layer.grid == (size // 8, size // 8)
    for method in ("grad_cam", "grad_cam_plus_plus", "layer_cam", "eigen_cam", "vit_cx", "occlusion"):
        maps = explainer.maps(images, torch.tensor([0, 3]), method)
        assert maps.shape == (2, size, size)
        assert maps.isfinite().all()


def test_a_plain_network_of_convolutions_and_dense_layers() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            blocks = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            self.encoder = nn.Sequential(
                *blocks, nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
            )
            self.head = nn.Linear(8 * 16, 2)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.encoder(x))
            return logits

    explainer = Explainer.of(Plain(), torch.randn(1, 1, 16, 16), masks=3)
    assert explainer.layer.name == "5"
    assert explainer.maps(torch.randn(3, 1, 16, 16), torch.tensor([0, 1, 1]), "grad_cam").shape == (3, 16, 16)


def test_the_layer_can_be_chosen() -> None:
    model = Classifier("test_resnet", 64)
    assert Explainer.of(model, torch.randn(1, 1, 64, 64), "layer1").layer.grid == (16, 16)
    with pytest.raises(UserError, match=r"'layer9'; expected a module of ResNet .* such as .*layer4"):
        Explainer.of(model, torch.randn(1, 1, 64, 64), "layer9")
    vit = Classifier("vit_tiny_patch16_224", 64, depth=2)
    assert Explainer.of(vit, torch.randn(1, 1, 64, 64), "blocks.0").layer.grid == (4, 4)


def test_a_class_token_head_is_explained_before_the_last_attention() -> None:
    model = Classifier("vit_tiny_patch16_224", 64, depth=2)
    assert target_layer(model, torch.randn(1, 1, 64, 64)).module is model.encoder.blocks[-1].norm1


def test_one_cell_is_refused() -> None:
    with pytest.raises(UserError, match=r"one cell for images of 16 px.*data\.image_size"):
        Explainer.of(Classifier("test_vit", 16), torch.randn(1, 1, 16, 16))


def test_rollout_is_the_product_written_down() -> None:
    model = Classifier("vit_tiny_patch16_224", 64, depth=3)
    images = torch.randn(2, 1, 64, 64)
    taken = attention.attentions(model, images)
    assert len(taken) == 3
    for block in taken:
        np.testing.assert_allclose(block.sum(dim=2), np.ones((2, 17)), atol=rounding(torch.float32, 17, stages=2))
    close, identity = rounding(torch.float32, 17, stages=3), np.eye(17)  # the rows of attention add up to one
    expected = np.stack(
        [
            ((c + identity) / 2) @ ((b + identity) / 2) @ ((a + identity) / 2)
            for a, b, c in zip(*(block.numpy() for block in taken), strict=True)
        ]
    )
    np.testing.assert_allclose(
        attention.attention_rollout(model, images), expected[:, 0, 1:].reshape(2, 4, 4), atol=close
    )
    np.testing.assert_allclose(
        attention.last_attention(model, images), taken[-1][:, 0, 1:].reshape(2, 4, 4).numpy(), atol=close
    )


def test_the_attention_is_the_one_that_the_fused_kernel_uses() -> None:
    model = Classifier("vit_tiny_patch16_224", 64, depth=1).double()
    images = torch.randn(1, 1, 64, 64, dtype=torch.float64)
    kept: dict[str, Tensor] = {}
    block = model.encoder.blocks[0].attn
    handle = block.register_forward_hook(lambda m, given, out: kept.update(given=given[0], out=out))
    with torch.no_grad():
        model(images)
    handle.remove()
    attention.attentions(model, images)
    assert block.fused_attn
    q, k, v = block.qkv(kept["given"]).reshape(1, 17, 3, 3, 64).permute(2, 0, 3, 1, 4)
    mixed = (q @ k.transpose(-2, -1) / 8).softmax(dim=-1)
    np.testing.assert_allclose(attention.attentions(model, images)[0], mixed.mean(dim=1).detach(), atol=1e-12)
    np.testing.assert_allclose(
        kept["out"], block.proj((mixed @ v).transpose(1, 2).reshape(1, 17, 192)).detach(), atol=1e-12
    )


class Quadrant(nn.Module):
    """Sees nothing but the top left quarter."""

    def forward(self, x: Tensor) -> Tensor:
        seen = x[:, :, : x.shape[2] // 2, : x.shape[3] // 2].mean(dim=(1, 2, 3))
        return torch.stack([-seen, seen], dim=1)


def test_occlusion_finds_the_only_place_that_matters() -> None:
    images, close = torch.rand(2, 1, 32, 32) + 0.5, 2 * rounding(torch.float32, 16 * 16)  # means of a quarter, up to 2
    maps = occlusion.occlusion(Quadrant(), images, torch.tensor([1, 1]), windows=7, batch=10)
    for one in maps:
        assert one[:12, :12].min() > 0.02
        assert one[20:].abs().max() < close
        assert one[:, 20:].abs().max() < close
    other = occlusion.occlusion(Quadrant(), images, torch.tensor([0, 0]), windows=7)
    np.testing.assert_allclose(other, -maps, atol=close)


@pytest.mark.parametrize(("windows", "size"), [(7, 32), (4, 30), (1, 16), (8, 20)])
def test_every_pixel_is_hidden_by_some_window(windows: int, size: int) -> None:
    masks = occlusion.window_masks(windows, (size, size), torch.device("cpu"))
    assert masks.shape == (windows**2, size, size)
    assert masks.sum(dim=0).min() >= 1
    assert masks.flatten(1).sum(dim=1).min() > 0


def test_floors_do_not_depend_on_the_batch() -> None:
    images = torch.rand(5, 1, 32, 32)
    together = floors.random(images, (4, 4), seed=1)
    for i in range(5):
        np.testing.assert_array_equal(floors.random(images[i : i + 1], (4, 4), seed=1)[0], together[i])
    assert len({one.numpy().tobytes() for one in together}) == 5
    assert not torch.equal(floors.random(images, (4, 4), seed=2), together)
    middle = floors.centre(images)[0]
    assert int(middle.argmax()) in (15 * 32 + 15, 15 * 32 + 16, 16 * 32 + 15, 16 * 32 + 16)
    step = torch.zeros(1, 1, 32, 32)
    step[..., 16:] = 1
    drawn = floors.edges(step)[0]
    assert drawn[:, 15:17].min() > 1
    assert drawn[:, :12].max() < 1e-6


class Polarity(nn.Module):
    """Embeds an image as how much of it is bright and how much is dark."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds = nn.Conv2d(1, 2, 1, bias=False)
        self.kinds.weight = nn.Parameter(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(self.kinds(x).relu(), 8).mean(dim=(2, 3))


def test_similarity_is_explained_by_what_the_images_share() -> None:
    """One has a bright and a dark square, its neighbour a bright one elsewhere: the bright ones make them similar."""
    images, neighbours = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    images[..., 8:24, 8:24], images[..., 40:56, 40:56] = 1, -1
    neighbours[..., 8:24, 40:56] = 1
    encoder = Polarity().eval()
    layer = target_layer(encoder, images)
    assert layer.name == "kinds"
    for method in ("grad_cam", "layer_cam"):
        maps, cosine = similarity_maps(encoder, images, neighbours, method)
        assert float(cosine[0]) == pytest.approx(2**-0.5, abs=1e-5)
        assert maps[0, 8:24, 8:24].min() > 0.9
        assert maps[0].sum() == pytest.approx(256, abs=1)
    back, _ = similarity_maps(encoder, neighbours, images)
    assert is_flat(back).all()  # a lone bright square is nothing but bright: more of it changes no direction


def test_similarity_of_a_real_encoder_and_its_mistakes() -> None:
    encoder = timm.create_model("test_resnet", num_classes=0, in_chans=1).eval().double()
    images, neighbours = torch.randn(2, 2, 1, 64, 64, dtype=torch.float64)
    maps, cosine = similarity_maps(encoder, images, neighbours, "grad_cam_plus_plus")
    assert maps.shape == (2, 64, 64)
    with torch.no_grad():
        expected = torch.cosine_similarity(encoder(images), encoder(neighbours))
    np.testing.assert_allclose(cosine, expected, atol=1e-12)
    with pytest.raises(UserError, match="one neighbour"):
        similarity_maps(encoder, images, neighbours[:1])
    with pytest.raises(UserError, match=r"'vit_cx'; expected one of grad_cam"):
        similarity_maps(encoder, images, neighbours, "vit_cx")
