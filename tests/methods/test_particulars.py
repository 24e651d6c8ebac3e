"""What single methods do that others do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
import torch.nn.functional as F
from lightly.loss import IBOTPatchLoss
from safetensors.torch import load_file, save_file

from tests.methods.test_methods import batch, build, labels
from tests.tolerance import rounding
from tumorxai import config, methods
from tumorxai.errors import UserError
from tumorxai.methods import dinov2
from tumorxai.networks import encoders, schedules


def test_dino_has_its_authors_recipe_for_the_kind_of_backbone() -> None:
    vit, resnet = build("dino", "test_vit"), build("dino", "test_resnet")
    assert (vit.optimizer.name, vit.optimizer.lr, vit.optimizer.weight_decay) == ("adamw", 5e-4, 0.04)
    assert (resnet.optimizer.name, resnet.optimizer.lr, resnet.optimizer.weight_decay) == ("sgd", 0.03, 1e-4)
    assert [method.views()[0].crop for method in (vit, resnet)] == [(0.4, 1.0), (0.14, 1.0)]
    assert [method.views()[-1].crop for method in (vit, resnet)] == [(0.05, 0.4), (0.05, 0.14)]
    own = build("dino", "test_resnet", crop_min=0.5, optimizer={"name": "adam", "lr": 1e-3, "weight_decay": 0.0})
    assert (own.optimizer.name, own.views()[0].crop) == ("adam", (0.5, 1.0))


def test_dino_starts_from_its_teacher_and_sharpens_it() -> None:
    method = build("dino")
    for student, teacher in zip(method.head.parameters(), method.teacher_head.parameters(), strict=True):
        assert torch.equal(student, teacher)
    teacher = torch.randn(8, 64)
    entropy = [torch.special.entr(method.targets(teacher, p)).sum(dim=-1).mean() for p in (0.0, 0.15, 0.3, 1.0)]
    assert entropy[0] < entropy[1] < entropy[2] == entropy[3]


def test_dino_centres_on_the_mean_of_its_teacher() -> None:
    method = build("dino", center_momentum=0.0).double().eval()
    drawn = [view.double() for view in batch(method)]
    method.loss(drawn, labels(), 0.5)
    with torch.no_grad():
        expected = method.teacher_head(method.teacher_encoder(torch.cat(drawn[:2]))).mean(dim=0)
    torch.testing.assert_close(method.center.value[0], expected)


def test_dino_can_balance_by_sinkhorn() -> None:
    method = build("dino", targets="sinkhorn")
    targets = method.targets(F.normalize(torch.randn(512, 64)), 1.0)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(512))
    use = targets.view(2, 256, 64).sum(dim=1)
    torch.testing.assert_close(use, torch.full((2, 64), 4.0), rtol=0.2, atol=0)


@pytest.mark.parametrize(("name", "weight"), [("dino", "head.last.weight"), ("swav", "prototypes.weight")])
def test_the_last_layer_stands_still_at_first(name: str, weight: str) -> None:
    method = build(name, freeze=0.1)
    for progress, moves in ((0.05, False), (0.1, True)):
        method.zero_grad()
        method.loss(batch(method), labels(), progress).backward()
        assert bool(method.get_parameter(weight).grad.any()) == moves


def test_dino_reports_entropy_and_divergence_of_its_teacher() -> None:
    method = build("dino")
    loss = method.loss(batch(method), labels(), 0.5)
    entropy, divergence = method.signals["teacher_entropy"], method.signals["teacher_student_kl"]
    assert 0 < entropy < torch.tensor(64.0).log()
    assert divergence > 0
    torch.testing.assert_close(entropy + divergence, loss.detach())


@pytest.mark.parametrize(("name", "count"), [("dino", 8), ("swav", 6)])
def test_multi_crop_is_that_of_the_paper(name: str, count: int) -> None:
    encoder = encoders.build(config.Model(backbone="test_vit"), 1, 224)
    drawn = methods.load(name, encoder, 64, {}).views()
    assert [round(view.size * 224) for view in drawn] == [224] * 2 + [96] * count
    with pytest.raises(UserError, match="least share first"):
        build(name, local_crop=[0.4, 0.1])


@pytest.mark.parametrize(("backbone", "layers", "norms"), [("test_resnet", 2, 1), ("test_vit", 3, 2)])
def test_moco_v3_has_the_authors_heads(backbone: str, layers: int, norms: int) -> None:
    method = build("mocov3", backbone)
    linear = [layer for layer in method.projector.modules() if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in linear] == [64] * (layers - 1) + [32]
    assert all(layer.bias is None for head in (method.projector, method.predictor) for layer in head.modules()
               if isinstance(layer, torch.nn.Linear))  # fmt: skip
    found = {
        name: [layer.affine for layer in getattr(method, name).modules() if isinstance(layer, torch.nn.BatchNorm1d)]
        for name in ("projector", "predictor", "key_projector")
    }
    assert found["projector"] == found["key_projector"] == [True] * (layers - 1) + [False]
    assert found["predictor"] == [True, False][:norms]


@pytest.mark.parametrize(
    ("name", "everything"), [("simsiam", True), ("swav", True), ("simclr", False), ("vicreg", False)]
)
def test_weight_decay_is_that_of_the_authors(name: str, everything: bool) -> None:
    method = build(name)
    decay = {group["weight_decay"] for group in schedules.optimizer(method, method.optimizer, 256).param_groups}
    assert decay == {method.optimizer.weight_decay} | (set() if everything else {0.0})


def test_swav_prototypes_have_length_one_and_share_the_images() -> None:
    method = build("swav")
    z = F.normalize(torch.randn(512, 32))
    method.loss(batch(method), labels(), 0.5)
    torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(16))
    codes = method._codes(z, method.queue_1, False)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(512))
    torch.testing.assert_close(codes.sum(dim=0), torch.full((16,), 32.0), rtol=0.2, atol=0)


def test_nnclr_learns_from_neighbours_that_it_remembers() -> None:
    method = build("nnclr").eval().double()
    drawn = [view.double() for view in batch(method)]
    method.loss(drawn, labels(), 0.5)
    z1 = F.normalize(method.projector(method.encoder(drawn[0])))
    torch.testing.assert_close(method.support.rows[:16], z1.detach())
    torch.testing.assert_close(method.support.nearest(z1), z1.detach())


def test_joint_learns_labels_where_it_has_them() -> None:
    method = build("joint").eval()
    drawn = batch(method)
    some, none = method.loss(drawn, labels(), 0.5), method.loss(drawn, torch.full((16,), -1), 0.5)
    assert method.signals["cross_entropy"] == 0
    torch.testing.assert_close(none.detach(), method.signals["contrastive_loss"])
    assert some > none
    widths = [
        [layer.out_features for layer in head.modules() if isinstance(layer, torch.nn.Linear)]
        for head in (method.head, method.classifier)
    ]
    assert widths == [[256, 128, 64], [256, 128, 3]]
    with pytest.raises(UserError, match="expected at least 2"):
        methods.load("joint", method.encoder, 96, {})


@pytest.mark.parametrize("backbone", ["test_vit", "test_vit2"])  # class token; average with a norm behind it
def test_mae_sees_what_is_shown_alone(backbone: str) -> None:
    method = build("mae", backbone, mask=0.5).eval().double()
    x = batch(method, size=64)[0].double()
    shown = torch.rand(len(x), 16).argsort(dim=1)[:, :8]
    hidden = torch.ones(len(x), 16, dtype=torch.bool).scatter(1, shown, False)
    other = torch.where(hidden.view(-1, 1, 4, 4).repeat_interleave(16, 2).repeat_interleave(16, 3), 9.0, x)
    for a, b in zip(method._encode(x, shown), method._encode(other, shown), strict=True):
        torch.testing.assert_close(a, b)
    assert not torch.allclose(method.encoder(x), method.encoder(other))


def test_mae_trains_all_of_a_transformer_that_averages() -> None:
    method = build("mae", "test_vit2")
    method.loss(batch(method, size=64), labels(), 0.5).backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


def test_mae_scores_hidden_patches_alone() -> None:
    """With a prediction of zero, the loss is the variance of the normalised hidden patches: 1."""
    method = build("mae")
    for p in method.predict.parameters():
        torch.nn.init.zeros_(p)
    loss = method.loss([torch.randn(16, 1, 64, 64)] * 2, labels(), 0.5)
    assert loss.item() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("backbone", "settings", "words"),
    [
        ("test_resnet", {}, "expected a plain vision transformer"),
        ("test_vit", {"decoder_heads": 3}, "multiple of"),
        ("test_vit", {"mask": 0.01}, "hides none"),
        ("test_vit", {"augment": {"size": 0.5}}, "expected 1"),
    ],
)
def test_mae_says_what_it_needs(backbone: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build("mae", backbone, **settings)


@pytest.mark.parametrize("backbone", ["test_vit", "test_vit2"])
def test_the_student_of_dinov2_does_not_see_hidden_patches(backbone: str) -> None:
    method = build("dinov2", backbone).eval().double()
    x = batch(method, size=64)[0].double()
    hidden = method._hidden(16, 16, x.device)
    other = torch.where(hidden.view(-1, 1, 4, 4).repeat_interleave(16, 2).repeat_interleave(16, 3), 9.0, x)
    for mask, equal in (((hidden, method.mask_token), True), (None, False)):
        (f1, p1), (f2, p2) = (dinov2._encode(method.encoder, image, mask) for image in (x, other))
        assert p1.shape == (16, 16, f1.shape[1])
        assert torch.allclose(f1, f2) == torch.allclose(p1, p2) == equal
    torch.testing.assert_close(dinov2._encode(method.encoder, x)[0], method.encoder(x))


def test_dinov2_hides_blocks_of_as_many_patches_as_it_says() -> None:
    method = build("dinov2", masked=0.5, mask=(0.1, 0.5))
    seen = torch.stack([method._hidden(8, 64, torch.device("cpu")) for _ in range(20)])
    counts = seen.sum(dim=2)
    expected = torch.tensor([0] * 4 + [round(64 * share) for share in (0.15, 0.25, 0.35, 0.45)])
    assert torch.equal(counts.sort(dim=1).values, expected.expand(20, -1))
    assert len({tuple(row.tolist()) for row in counts}) > 1  # other crops each time
    for mask in seen[counts > 0].view(-1, 8, 8):  # a block: its rows and columns follow one another without a gap
        for taken in (mask.any(dim=0), mask.any(dim=1)):
            places = taken.nonzero()[:, 0]
            assert int(places[-1] - places[0]) + 1 == len(places)
    assert build("dinov2", masked=0.01)._hidden(4, 4, torch.device("cpu")).sum() >= 1


def test_the_patch_loss_of_dinov2_is_that_of_lightly() -> None:
    method = build("dinov2", teacher_temperature=0.05, warmup=0.0).eval()
    drawn = batch(method, size=64)
    large, hidden = torch.cat(drawn[:2]), method._hidden(32, 16, torch.device("cpu"))
    method._hidden = lambda *given: hidden
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(0.1 * torch.randn_like(p))  # or the teacher and the student are one
        _, wanted = dinov2._encode(method.teacher_encoder, large)
        _, seen = dinov2._encode(method.encoder, large, (hidden, method.mask_token))
        peer = IBOTPatchLoss(64, teacher_temp=0.05, student_temp=0.1)
        expected = peer(method.teacher_head(wanted[hidden]), method.head(seen[hidden]), hidden.view(-1, 4, 4))
        method.loss(drawn, labels(), 0.5)
    near = rounding(torch.float32, 64 * int(hidden.sum()), stages=3)  # all terms are positive
    torch.testing.assert_close(method.signals["patch_loss"], expected, rtol=near, atol=0)
    torch.testing.assert_close(method.patch_center.value, peer.center.value)


def test_dinov2_says_what_it_needs() -> None:
    with pytest.raises(UserError, match="expected a plain vision transformer"):
        build("dinov2", "test_resnet")


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_published_weights_fit_other_channels_and_sizes(backbone: str, tmp_path: Path) -> None:
    network = timm.create_model(backbone)  # with its classifier, at its own size, three channels
    file = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), file)
    encoder = encoders.build(config.Model(backbone=backbone), 1, 64)
    method = methods.load("pretrained", encoder, 1, {"weights": str(file)})
    assert not any(p.requires_grad for p in method.parameters())
    state, given = method.encoder.state_dict(), load_file(file)
    first = {"test_resnet": "conv1.0.weight", "test_vit": "patch_embed.proj.weight"}[backbone]
    torch.testing.assert_close(state[first], given[first].sum(dim=1, keepdim=True))
    same = [name for name in state if name not in (first, "pos_embed")]
    assert all(torch.equal(state[name], given[name]) for name in same)
    assert method.loss([torch.zeros(1)], labels(), 0.0) == 0


@pytest.mark.parametrize("backbone", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"])
def test_dinov2_from_a_file(backbone: str, tmp_path: Path) -> None:
    """Drawn weights at DINOv2's own 518 px, read for 70 px, give timm's features of images of 70 px."""
    network = timm.create_model(backbone, num_classes=0, dynamic_img_size=True).eval()
    file = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), file)
    encoder = encoders.build(config.Model(backbone=f"{backbone}.lvd142m"), 3, 70)
    method = methods.load("pretrained", encoder, 384, {"weights": str(file)}).eval().double()
    assert method.encoder.pos_embed.shape[1] in (25, 26)  # of 5 x 5 patches, where the file has 37 x 37
    images = torch.randn(2, 3, 70, 70, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(method.encoder(images), network.double()(images))


def test_an_encoder_of_this_project_is_a_published_one(tmp_path: Path) -> None:
    file = tmp_path / "encoder.safetensors"
    first, second = (encoders.build(config.Model(backbone="test_resnet"), 1, 32) for _ in range(2))
    save_file(first.state_dict(), file)
    method = methods.load("pretrained", second, 1, {"weights": str(file)})
    for name, value in method.encoder.state_dict().items():
        assert torch.equal(value, first.state_dict()[name])


def test_published_weights_that_are_none(tmp_path: Path) -> None:
    network = encoders.build(config.Model(backbone="test_vit"), 1, 32)
    save_file(network.state_dict(), tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing of the kind")
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    for name, words in [
        ("other.safetensors", r"do not fit test_resnet.*are missing"),
        ("broken.safetensors", "no whole safetensors file"),
        ("weights.pth", "may run code"),
        ("absent.safetensors", "existing .safetensors"),
    ]:
        with pytest.raises(UserError, match=words):
            build("pretrained", weights=str(tmp_path / name))
    with pytest.raises(UserError, match="expected a timm model"):
        build("pretrained", "firildak_cnn")
    small = encoders.build(config.Model(backbone="resnet18", small_stem=True), 1, 32)
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "resnet18.safetensors")
    with pytest.raises(UserError, match="do not fit resnet18"):
        methods.load("pretrained", small, 1, {"weights": str(tmp_path / "resnet18.safetensors")})


def test_a_hub_out_of_reach_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"could not get model.safetensors of timm/test_resnet.*check the network"):
        build("pretrained", weights="hub")
