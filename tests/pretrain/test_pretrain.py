"""The loop: it learns, resumes exactly, and stops with a message."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from benchmarks import kills
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.networks.test_batches import batches
from tests.tolerance import half_the_digits, rounding
from tumorxai import config, methods
from tumorxai.base.dataset import Dataset
from tumorxai.errors import UserError
from tumorxai.files import read_array, read_json, sha256, write_csv
from tumorxai.inputs.unfinished import Unfinished
from tumorxai.networks import encoders, keras, views
from tumorxai.networks.batches import Batches
from tumorxai.pretrain import monitors, pretrain
from tumorxai.pretrain.loop import Held, Loop
from tumorxai.pretrain.online_probe import Probe


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(params: config.Params, data: Path, out: Path) -> dict[str, Tensor]:
    pretrain.run(params, data, out / "encoder.safetensors", out / "pretrain.json", out / "metrics.json", out / "curves")
    return load_file(out / "encoder.safetensors")


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def changed(params: config.Params, method: str = "simclr", settings: Any = None, **pretrain: Any) -> config.Params:
    """Parameters with another loop, another method, or other settings of it."""
    content = params.model_dump()
    content["pretrain"] |= pretrain
    content["method"] = method
    if settings is not None:
        content["methods"][method] = settings
    return config.Params.model_validate(content)


def curve(folder: Path, name: str) -> list[float]:
    lines = (folder / f"curves/plots/metrics/{name}.tsv").read_text().splitlines()[1:]
    return [float(line.split("\t")[1]) for line in lines]


def test_a_run_goes_on_from_published_weights(params: config.Params, toy: Path, tmp_path: Path) -> None:
    """With a rate near 0 the encoder stays what it was given; its file is checked."""
    given = encoders.build(config.Model(backbone="test_resnet"), 1, 32).state_dict()
    file = tmp_path / "weights.safetensors"
    save_file(given, file)
    still = {"hidden": 32, "optimizer": {"name": "sgd", "lr": 1e-12, "weight_decay": 0.0}}
    asked = changed(params, settings=still, init=str(file), init_sha256=sha256(file))
    found = run(asked, toy, tmp_path / "a")
    trained = [name for name in given if "running" not in name and "num_batches" not in name]
    for name in trained:
        torch.testing.assert_close(found[name], given[name])
    assert read_json(tmp_path / "a/encoder.json")["start"] == {"weights": file.name, "sha256": sha256(file)}
    drawn = run(changed(params, settings=still), toy, tmp_path / "b")
    assert not all(torch.equal(drawn[name], given[name]) for name in trained)
    assert read_json(tmp_path / "b/encoder.json")["start"] == {"weights": "random", "sha256": None}
    with pytest.raises(UserError, match=r"SHA-256 .* expected pretrain\.init_sha256, 0{64}"):
        run(changed(params, init=str(file), init_sha256="0" * 64), toy, tmp_path / "c")
    with pytest.raises(UserError, match=r"pretrain\.init .*absent.*existing \.safetensors"):
        run(changed(params, init=str(tmp_path / "absent.safetensors")), toy, tmp_path / "c")


def test_a_run_leaves_encoder_card_metrics_and_curves(params: config.Params, toy: Path, tmp_path: Path) -> None:
    run(params, toy, tmp_path / "a")
    card, metrics = read_json(tmp_path / "a/encoder.json"), read_json(tmp_path / "a/pretrain.json")
    assert card["timm"] == "test_resnet"
    assert card["size"] == 32
    assert set(card["data"]) == {"pack.npy", "split.csv"}
    assert metrics["images"] == 72
    assert metrics["collapsed_epochs"] == 0
    for name in ("loss", "lr", "c_acc", "r_acc", "p_acc", "val_p_acc", "feature_std", "effective_rank"):
        points = curve(tmp_path / "a", name)
        assert len(points) == params.pretrain.epochs
        assert points[-1] == pytest.approx(metrics[name], rel=1e-6)
    watched = pd.read_csv(tmp_path / "a/online_probe.csv")
    assert list(watched["image_id"]) == list(Dataset.load(toy).indices("validation"))
    assert watched["right"].mean() == pytest.approx(metrics["val_p_acc"])
    assert watched["cluster"].nunique() < len(watched)
    assert not list(Path(".tumorxai/checkpoints").glob("*"))


def test_the_encoder_loads_into_plain_timm(params: config.Params, toy: Path, tmp_path: Path) -> None:
    run(params, toy, tmp_path / "a")
    card = read_json(tmp_path / "a/encoder.json")
    model = timm.create_model(card["timm"], in_chans=card["channels"], num_classes=0)
    model.load_state_dict(load_file(tmp_path / "a/encoder.safetensors"))
    pixels = torch.from_numpy(np.array(read_array(toy / "pack.npy")[:8])).float() / 255
    features = model.eval()((pixels - card["mean"]) / card["std"])
    assert features.shape == (8, model.num_features)
    assert features.std(dim=0).mean() > 0


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    params: config.Params, toy: Path, tmp_path: Path
) -> None:
    first, second = (run(params, toy, tmp_path / name) for name in "ab")
    other = run(params.model_copy(update={"seed": 1}), toy, tmp_path / "c")
    assert same(first, second)
    assert (tmp_path / "a/pretrain.json").read_bytes() == (tmp_path / "b/pretrain.json").read_bytes()
    assert not same(first, other)


def halved(toy: Path, folder: Path) -> Path:
    """The toy images, of whose training side two of three have no label."""
    shutil.copytree(toy, folder)
    split = pd.read_csv(folder / "split.csv", keep_default_na=False)
    moved = split["side"].eq("train") & (split["image_id"] % 9 >= 3)  # of each of the three labels as many
    split.loc[moved, ["side", "label_rank"]] = ["unlabelled", ""]
    write_csv(folder / "split.csv", split)
    return folder


def test_the_keras_probe_is_a_dense_layer_on_views_of_its_own(
    params: config.Params, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an encoder that stays as it is p_acc is what the same layer reaches, trained by hand."""
    data = halved(toy, tmp_path / "data")
    asked: list[tuple[Tensor, Tensor]] = []
    plain = Batches.apart

    def noted(self: Batches, step: int, view: views.View) -> tuple[Tensor, Tensor]:
        asked.append(plain(self, step, view))
        return asked[-1]

    monkeypatch.setattr(Batches, "apart", noted)
    monkeypatch.setattr(keras, "LABELLED", 0.25)
    still = {"keras": True, "hidden": 32, "optimizer": {"name": "sgd", "lr": 1e-12, "weight_decay": 0.0}}
    small = changed(params, settings=still)
    small = small.model_copy(update={"model": config.Model(backbone="firildak_cnn_relu")})
    run(small, data, tmp_path / "a")
    per_epoch = (72 - 24) // 12
    assert [len(view) for view, _ in asked] == [4] * 3 * per_epoch
    assert all((known >= 0).all() for _, known in asked)

    torch.manual_seed(small.seed)
    encoder = encoders.build(small.model, 1, 32)
    methods.load("simclr", encoder, 128, still, 3)
    dense = nn.Linear(128, 3)
    adam, right = torch.optim.Adam(dense.parameters(), lr=1e-3), []
    for view, known in asked:
        logits = dense(encoder(view).detach())
        adam.zero_grad()
        nn.functional.cross_entropy(logits, known).backward()
        adam.step()
        right.append((logits.argmax(dim=1) == known).float().mean().item())
    assert read_json(tmp_path / "a/pretrain.json")["p_acc"] == pytest.approx(np.mean(right[-per_epoch:]))


def test_a_batch_that_lacks_unlabelled_images_is_refused(params: config.Params, toy: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"72 labelled and 0 unlabelled .*expected at least 1 and 15.*split\.unlabelled"
    ):
        run(changed(params, settings={"keras": True, "hidden": 32}), toy, tmp_path / "a")


def kept(folder: Path) -> Unfinished:
    """The work of a run, without what makes it."""
    return Unfinished(folder / "kept", "run", {})


class Constant(nn.Module):
    """Logits for which everything is class 0."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0, 0.0]).repeat(len(features), 1)


class Averaging(nn.Module):
    """A method whose loss is a mean over images, so that parts of a batch add up to the whole.

    Args:
        classifier: give it one, which calls everything class 0.
    """

    def __init__(self, classifier: bool = False) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
        if classifier:
            self.classifier = Constant()
        self.optimizer = config.Optimizer(name="sgd", lr=0.1, weight_decay=0.0, momentum=0.9)

    def loss(self, views: list[Tensor], labels: Tensor, progress: float) -> Tensor:
        f1, f2 = (self.encoder(view.to(self.encoder[1].weight.dtype)) for view in views)
        return (f1 - f2).square().mean() - (f1 * f2).mean()

    def after_step(self, progress: float) -> None:
        """Nothing follows."""


def averaging_loop(params: config.Params, method: Averaging, precision: Any = "32-true") -> Loop:
    images = np.random.default_rng(0).integers(0, 256, (64, 1, 8, 8), dtype=np.uint8)
    method.load_state_dict({name: torch.full_like(value, 0.1) for name, value in method.state_dict().items()})
    drawn = dataclasses.replace(batches(images, [views.View()] * 2, 16), labels=torch.arange(64) % 3)
    held = Held(np.empty(0, np.int64), torch.empty(0), every_epoch=False)
    torch.manual_seed(0)
    probe = Probe(4, 3, torch.device("cpu"))
    return Loop(params, Fabric(accelerator="cpu", devices=1, precision=precision), method, drawn, probe, held)


def test_accumulated_parts_add_up_to_the_batch(params: config.Params, tmp_path: Path) -> None:
    trained = []
    for accumulate in (1, 4):
        method = Averaging()
        loop = averaging_loop(changed(params, accumulate=accumulate), method, "64-true")
        assert loop.train(kept(tmp_path), tmp_path / "curves") == 0
        trained.append((method.encoder[1].weight, [signals["loss"] for signals in loop.history]))
    assert (trained[0][0] - 0.1).abs().max() > 1e-3
    assert trained[0][0].dtype == torch.float64
    close = half_the_digits(torch.float64)
    torch.testing.assert_close(trained[0][0], trained[1][0], rtol=close, atol=close)
    assert trained[0][1] == pytest.approx(trained[1][1], rel=rounding(torch.float32, 4))  # Fabric hands losses on so


@pytest.mark.parametrize("steps", [1, 6, 8, 11])
def test_a_run_stopped_after_any_step_tells_the_same_afterwards(
    params: config.Params, tmp_path: Path, steps: int
) -> None:
    class Interrupted(Averaging):
        left = steps

        def after_step(self, progress: float) -> None:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGTERM)

    whole = averaging_loop(params, Averaging())
    whole.train(kept(tmp_path), tmp_path / "whole")
    cut = averaging_loop(params, Interrupted())
    with pytest.raises(UserError, match=f"stopped by a signal after step {steps} of 12; .*run again to go on"):
        cut.train(kept(tmp_path), tmp_path / "cut")
    resumed = averaging_loop(params, Averaging())
    assert resumed.train(kept(tmp_path), tmp_path / "cut") == steps
    assert resumed.history == whole.history
    assert same(resumed.method.state_dict(), whole.method.state_dict())


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_the_same(params: config.Params, toy: Path, tmp_path: Path) -> None:
    """The whole of it, 20 kills and 5 SIGTERMs, is benchmarks/kills.py."""
    longer = changed(params, "byol", {"hidden": 32}, epochs=20, checkpoint_epochs=1)  # most of it is not its start
    order = [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL]
    resumed, equal = kills.survive(longer, toy, tmp_path, order, seed=0)
    assert resumed
    assert all(equal)
    assert not list(tmp_path.glob("*/.tumorxai/checkpoints/*"))


@pytest.mark.slow
def test_a_preempted_run_says_how_to_go_on(params: config.Params, toy: Path, tmp_path: Path) -> None:
    longer = changed(params, epochs=200, checkpoint_epochs=1)
    process = kills.start(longer, toy, tmp_path / "a")
    while not kills.checkpointed(tmp_path / "a"):
        assert process.is_alive(), (tmp_path / "a/log").read_text()
        process.join(0.05)
    process.terminate()
    process.join()
    assert process.exitcode == 1
    assert "run again to go on" in (tmp_path / "a/log").read_text()
    assert not (tmp_path / "a/weights.safetensors").exists()


def test_a_batch_larger_than_the_data_is_refused(params: config.Params, toy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"batch_size 100 with 72.*lower pretrain\.batch_size"):
        run(changed(params, batch_size=100), toy, tmp_path / "a")


def test_parts_that_do_not_fit_are_refused(params: config.Params) -> None:
    with pytest.raises(ValueError, match="batch_size 16 with accumulate 3; expected equal parts"):
        changed(params, accumulate=3)


def test_a_loss_that_is_not_finite_stops_the_run(params: config.Params, toy: Path, tmp_path: Path) -> None:
    wild = {"optimizer": {"name": "sgd", "lr": 1e30, "weight_decay": 0.0, "momentum": 0.9}}
    with pytest.raises(UserError, match=r"is nan at step \d+ of 12; .*lower methods\.simclr\.optimizer\.lr"):
        run(changed(params, settings=wild), toy, tmp_path / "a")
    assert not (tmp_path / "a/encoder.safetensors").exists()


def test_transductive_pretraining_sees_more(params: config.Params, toy: Path, tmp_path: Path) -> None:
    run(changed(params, transductive=True), toy, tmp_path / "a")
    assert read_json(tmp_path / "a/pretrain.json")["images"] == 120


COLLAPSING = {
    "predictor": False,
    "momentum": 0.0,
    "hidden": 512,
    "crop_min": 0.3,
    "optimizer": {"name": "adamw", "lr": 0.02, "weight_decay": 0.0},
}


def test_a_collapse_is_caught_and_named(params: config.Params, toy: Path, tmp_path: Path) -> None:
    words = (
        r"byol collapses: projection_std is 0\.[01]\d* after epoch \d+; expected at least 0\.\d+.*3 epochs; .*predictor"
    )
    with pytest.raises(UserError, match=words):
        run(changed(params, "byol", COLLAPSING, epochs=20), toy, tmp_path / "a")
    assert not (tmp_path / "a/encoder.safetensors").exists()


def test_a_collapse_may_go_on_with_one_warning(
    params: config.Params, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(changed(params, "byol", COLLAPSING, epochs=8, on_collapse="warn"), toy, tmp_path / "a")
    assert capsys.readouterr().err.count("warning: byol collapses") == 1
    assert read_json(tmp_path / "a/pretrain.json")["collapsed_epochs"] >= 3


@pytest.mark.parametrize("backbone", ["test_resnet", "firildak_cnn"])
def test_byol_as_published_is_not_said_to_collapse(
    params: config.Params, toy: Path, tmp_path: Path, backbone: str
) -> None:
    settings = {**COLLAPSING, "predictor": True, "momentum": 0.99}
    published = changed(params, "byol", settings, epochs=10)
    run(published.model_copy(update={"model": config.Model(backbone=backbone)}), toy, tmp_path / "a")
    assert read_json(tmp_path / "a/pretrain.json")["collapsed_epochs"] == 0


def test_the_test_side_is_scored_once_where_there_is_no_validation(
    params: config.Params, toy: Path, tmp_path: Path
) -> None:
    shutil.copytree(toy, tmp_path / "data")
    split = pd.read_csv(toy / "split.csv")
    split["side"] = split["side"].replace("validation", "unlabelled")
    write_csv(tmp_path / "data/split.csv", split)
    run(params, tmp_path / "data", tmp_path / "a")
    assert len(curve(tmp_path / "a", "p_acc")) == params.pretrain.epochs
    assert len(curve(tmp_path / "a", "val_p_acc")) == 1
    assert read_json(tmp_path / "a/pretrain.json")["images"] == 96


def test_a_method_that_learns_a_classifier_is_scored_by_it(params: config.Params, tmp_path: Path) -> None:
    """p_acc counts the labelled images alone, val_p_acc those held back; the online probe does not learn."""
    method = Averaging()
    loop = averaging_loop(params, method)
    own = averaging_loop(params, Averaging(classifier=True))
    for each in (loop, own):
        each.held = Held(np.array([3, 0, 8]), torch.arange(64) % 3, every_epoch=False)
        each.batches.labels[::2] = -1
        each.train(kept(tmp_path), tmp_path / "curves")
    assert own.right.tolist() == [True, True, False]  # it calls everything class 0
    assert own.history[-1]["val_p_acc"] == pytest.approx(2 / 3)
    odd = torch.arange(1, 64, 2) % 3 == 0
    assert own.history[-1]["p_acc"] == pytest.approx(float(odd.float().mean()))
    torch.manual_seed(0)
    untouched = Probe(4, 3, torch.device("cpu")).linear.bias
    assert torch.equal(own.probe.linear.bias, untouched)
    assert not torch.equal(loop.probe.linear.bias, untouched)


def test_an_encoder_that_the_loss_never_calls_is_watched_too(params: config.Params, toy: Path, tmp_path: Path) -> None:
    settings = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
    vit = changed(params, "mae", settings).model_copy(update={"model": config.Model(backbone="test_vit")})
    run(vit, toy, tmp_path / "a")
    metrics = read_json(tmp_path / "a/pretrain.json")
    assert {"c_acc", *monitors.R_ACC, "p_acc", "val_p_acc", "feature_std", "effective_rank"} < metrics.keys()
    assert metrics["effective_rank"] > 1


def test_published_weights_are_saved_as_they_are(params: config.Params, toy: Path, tmp_path: Path) -> None:
    whole = timm.create_model("test_resnet", in_chans=1)
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    weights = run(
        changed(params, "pretrained", {"weights": str(tmp_path / "weights.safetensors")}), toy, tmp_path / "a"
    )
    assert all(torch.equal(weights[name], whole.state_dict()[name]) for name in weights)
    metrics = read_json(tmp_path / "a/pretrain.json")
    assert metrics["epochs"] == 0
    assert metrics["c_acc"] >= 0


def test_a_compiled_encoder_learns_the_same(
    params: config.Params, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced as always, but run without the compiler behind, which takes minutes."""
    plain = run(params, toy, tmp_path / "plain")
    compiling = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", compiling)
    assert same(run(changed(params, compile=True), toy, tmp_path / "compiled"), plain)


def test_the_probe_learns_from_labelled_images_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 16, generator=generator)
    labels = torch.arange(60) % 3
    features = 1000 * (centres[labels] + 0.3 * torch.randn(60, 16, generator=generator))
    probe = Probe(16, 3, torch.device("cpu"))
    before = probe.linear.weight.clone()
    correct, count = probe.learn(features, torch.full((60,), -1))
    assert (int(correct), int(count)) == (0, 0)
    assert torch.equal(probe.linear.weight, before)
    hidden = torch.where(torch.arange(60) < 30, labels, -1)
    for _ in range(300):
        correct, count = probe.learn(features, hidden)
    assert int(count) == 30
    assert int(correct) == 30
    assert (probe(features).argmax(dim=1) == labels).float().mean() > 0.9
