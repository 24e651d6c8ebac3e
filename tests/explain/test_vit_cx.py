"""ViT-CX against a plain version in NumPy, and where the authors' code has no answer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tests.golden.vit_cx import CLASSES, DEPTH, HEADS, PATCH, SIZE, WIDTH
from tests.tolerance import rounding
from tumorxai.explain import layers, vit_cx

NETWORK = rounding(torch.float32, 4 * WIDTH, stages=DEPTH * 7 + 2)  # blocks, and what stands around them


@pytest.fixture(scope="module")
def stored(golden: Path) -> dict[str, Any]:
    with np.load(golden / "vit_cx.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def network(stored: dict[str, Any]) -> nn.Module:
    model = VisionTransformer(
        img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS,
        num_classes=CLASSES,
    )  # fmt: skip
    model.load_state_dict({name[2:]: torch.from_numpy(value) for name, value in stored.items() if name[:2] == "w."})
    return model.eval()


@pytest.mark.parametrize("i", [0, 1, 2])
def test_it_equals_the_reference(stored: dict[str, Any], network: nn.Module, i: int) -> None:
    """Both in float64, but for the masks, which ours rounds to float32 before the network sees them."""
    network = copy.deepcopy(network).double()
    of = {name[3:]: value for name, value in stored.items() if name.startswith(f"i{i}_")}
    image, target = torch.from_numpy(of["image"]).double(), int(of["target"])
    layer = layers.attention_input(network, image[None])
    assert layer is not None
    assert layer.name == f"blocks.{DEPTH - 1}.norm1"
    kept: list[Tensor] = []
    handle = layer.module.register_forward_hook(lambda *given: kept.append(layer.to_map(given[2])))
    with torch.no_grad():
        clean = network(image[None]).softmax(dim=1)[0]
    handle.remove()
    np.testing.assert_allclose(clean, of["p_clean"], atol=1e-5)
    np.testing.assert_allclose(kept[0][0], of["features"], atol=2e-5)

    eye = torch.empty(0, dtype=torch.float64)
    rows = vit_cx._enlarging(SIZE // PATCH, SIZE, eye)
    distance, _ = vit_cx._distance(kept[0][0].double(), rows, rows)
    np.testing.assert_allclose(distance, of["distance"], atol=5e-6)
    np.testing.assert_array_equal(vit_cx.cluster(distance.numpy()), of["cluster_labels"])
    masks = vit_cx.feature_masks(kept[0][0], (SIZE, SIZE)).double()
    np.testing.assert_allclose(masks, of["masks"], atol=1e-5)

    noise = torch.from_numpy(of["noise"]).double()
    for batch in (50, 7, 1):
        effect, p_masked, p_noisy = vit_cx.causal_scores(network, image, masks, target, noise, batch)
        np.testing.assert_allclose(p_masked, of["p_masked"], atol=1e-5)
        np.testing.assert_allclose(p_noisy, of["p_noisy"], atol=1e-5)
        np.testing.assert_allclose(effect + clean[target], of["scores"], atol=1e-5)
        saliency = vit_cx.combine(masks, effect + clean[target])
        np.testing.assert_allclose(saliency, of["saliency"], atol=2e-6)


def test_the_whole_way_is_the_parts(stored: dict[str, Any], network: nn.Module) -> None:
    """The same masks, the same noise for the same seed, whatever the batch; images do not disturb each other."""
    images = torch.from_numpy(np.stack([stored[f"i{i}_image"] for i in range(3)]))
    targets = torch.tensor([int(stored[f"i{i}_target"]) for i in range(3)])
    layer = layers.attention_input(network, images[:1])
    assert layer is not None
    maps = vit_cx.vit_cx(network, images, targets, layer, seed=3)
    masks = torch.from_numpy(stored["i0_masks"]).float()
    noise = torch.randn(len(masks), *images[0].shape, generator=torch.Generator().manual_seed(3))
    effect, _, _ = vit_cx.causal_scores(network, images[0], masks, int(targets[0]), noise)
    clean = network(images[:1]).softmax(dim=1)[0, targets[0]]
    np.testing.assert_allclose(maps[0], vit_cx.combine(masks, effect + clean.detach()), atol=NETWORK)
    for i in range(3):
        alone = vit_cx.vit_cx(network, images[i : i + 1], targets[i : i + 1], layer, seed=3, batch=5)
        np.testing.assert_allclose(alone[0], maps[i], atol=NETWORK)


@pytest.mark.parametrize("together", [0, 7, 1000])
def test_images_that_share_a_batch_do_not_disturb_each_other(
    stored: dict[str, Any], network: nn.Module, together: int
) -> None:
    """Nor do those that have no mask at all."""
    images = torch.from_numpy(np.stack([stored[f"i{i}_image"] for i in range(3)] * 2))
    images[3:] = images[3:].flip(3)
    targets = torch.tensor([0, 2, 1, 0, 1, 2])
    layer = layers.attention_input(network, images[:1])
    assert layer is not None

    def some_flat(x: Tensor) -> Tensor:
        maps = layer.to_map(x)
        return maps * (maps[:, :1, :1, :1] > maps[:, :1, :1, -1:])

    chosen = layers.Layer(layer.name, layer.module, layer.grid, some_flat)
    settings: dict[str, Any] = {"seed": 3, "most": 5, "batch": 16}
    maps = vit_cx.vit_cx(network, images, targets, chosen, together=together, **settings)
    assert {bool(one.any()) for one in maps} == {True, False}
    for i, own in enumerate(maps):
        alone = vit_cx.vit_cx(network, images[i : i + 1], targets[i : i + 1], chosen, **settings)
        np.testing.assert_allclose(own, alone[0], atol=NETWORK)


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 5, 5)])
def test_the_noise_of_a_mask_does_not_depend_on_how_many_there_are(shape: tuple[int, ...]) -> None:
    def fresh(count: int) -> Tensor:
        return torch.randn(count, *shape, generator=torch.Generator().manual_seed(4))

    noise = vit_cx.Noise(torch.zeros(2, *shape), 4)
    for counts in ([3], [7], [2, 0, 5], [9, 1]):
        assert torch.equal(noise(counts), torch.cat([fresh(count) for count in counts]))


def test_constant_channels_prefer_no_place_and_are_dropped() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(6, 8, 8, generator=generator)
    alone = vit_cx.feature_masks(features, (32, 32))
    constant = torch.tensor([0.0, 0.3, -1e4])[:, None, None].expand(3, 8, 8)
    almost = 0.3 + 6e-8 * torch.rand(1, 8, 8, generator=generator)  # rounding noise is not a mask either
    np.testing.assert_array_equal(vit_cx.feature_masks(torch.cat([features, constant, almost]), (32, 32)), alone)
    assert alone.min() == 0
    assert alone.max() == 1


def test_nothing_but_constant_channels_gives_no_mask_and_a_zero_map() -> None:
    masks = vit_cx.feature_masks(torch.ones(5, 4, 4), (16, 16))
    assert masks.shape == (0, 16, 16)
    assert torch.equal(vit_cx.combine(masks, torch.zeros(0)), torch.zeros(16, 16))


@pytest.mark.parametrize("channels", [1, 7])
def test_one_cluster_says_nothing_about_places(channels: int) -> None:
    """All channels alike, up to scale and offset: one mask, and a map that is the same everywhere, never NaN."""
    base = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(1))
    masks = vit_cx.feature_masks(base * torch.arange(1, channels + 1)[:, None, None] - 2, (16, 16))
    assert len(masks) == 1
    np.testing.assert_allclose(
        vit_cx.combine(masks, torch.tensor([0.4])), np.full((16, 16), 0.4), atol=rounding(torch.float32, 3)
    )


def test_a_cluster_that_cancels_out_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(vit_cx, "THRESHOLD", 2.0)  # a channel and its mirror image are merged
    assert len(vit_cx.feature_masks(torch.cat([channel, 1 - channel]), (16, 16))) == 0


def test_the_number_of_masks_can_be_limited() -> None:
    features = torch.rand(40, 8, 8, generator=torch.Generator().manual_seed(0))
    free = vit_cx.feature_masks(features, (16, 16))
    assert len(free) > 5
    assert len(vit_cx.feature_masks(features, (16, 16), most=5)) == 5
    np.testing.assert_array_equal(vit_cx.feature_masks(features, (16, 16), most=len(free)), free)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("vit_tiny_patch16_224", 1),
        ("vit_small_patch14_dinov2", 1),
        ("vit_small_patch14_reg4_dinov2", 5),
        ("vit_medium_patch16_reg4_gap_256", 4),
        ("deit_tiny_distilled_patch16_224", 2),
    ],
)
def test_tokens_that_are_no_patches_are_dropped(name: str, prefix: int) -> None:
    patch = 14 if "14" in name else 16
    model = timm.create_model(name, img_size=4 * patch, num_classes=3, in_chans=1, depth=2).eval()
    images = torch.randn(2, 1, 4 * patch, 4 * patch)
    layer = layers.attention_input(model, images[:1])
    assert layer is not None
    assert layer.grid == (4, 4)
    tokens = torch.arange(prefix + 16.0).reshape(1, -1, 1)
    np.testing.assert_array_equal(layer.to_map(tokens)[0, 0], np.arange(prefix, prefix + 16).reshape(4, 4))
    maps = vit_cx.vit_cx(model, images, torch.tensor([0, 2]), layer, most=6)
    assert maps.shape == images[:, 0].shape
    assert torch.isfinite(maps).all()
    assert (maps.amax(dim=(1, 2)) > maps.amin(dim=(1, 2))).all()
