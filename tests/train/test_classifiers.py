"""Embedding, linear evaluation, fine-tuning and the supervised baseline on images that can be told apart."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tests.tolerance import TEST_RESNET
from tumorxai import config
from tumorxai.base import logistic
from tumorxai.base.dataset import Dataset
from tumorxai.base.predictions import Predictions, visible
from tumorxai.errors import UserError
from tumorxai.files import read_json, write_array
from tumorxai.networks import classifier, embed, encoders
from tumorxai.probe import linear
from tumorxai.train import cells, finetune, labels, training
from tumorxai.train.training import Training


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unfinished work lies in the folder that a run is started from."""
    monkeypatch.chdir(tmp_path)


def test_embedding_is_the_encoder_in_evaluation_mode(toy: Path, encoder: Path, tmp_path: Path) -> None:
    embed.run(toy / "pack.npy", encoder, tmp_path / "embeddings.npy")
    embeddings = np.load(tmp_path / "embeddings.npy")
    model, _ = encoders.load(encoder)
    one = torch.from_numpy(Dataset.load(toy).images[7:8] / np.float32(255))
    with torch.no_grad():
        expected = model((one - 0.3) / 0.2)
    np.testing.assert_allclose(embeddings[7], expected[0], atol=TEST_RESNET * float(expected.abs().max()))
    assert embeddings.shape == (120, encoders.width(model, 1, 32))


def test_an_encoder_for_other_images_is_refused(toy: Path, encoder: Path, tmp_path: Path) -> None:
    write_array(tmp_path / "pack.npy", np.zeros((2, 1, 48, 48), dtype=np.uint8))
    with pytest.raises(UserError, match=r"\(1, 48, 48\).*32 px"):
        embed.run(tmp_path / "pack.npy", encoder, tmp_path / "embeddings.npy")


def test_linear_evaluation_finds_what_is_linear(
    params: config.Params, toy: Path, separable: Path, encoder: Path, tmp_path: Path
) -> None:
    linear.run(params, toy, separable, encoder, tmp_path / "linear.safetensors", tmp_path / "p.csv")
    kept = Predictions.read(tmp_path / "p.csv")
    assert kept.table["side"].value_counts().to_dict() == {"train": 72, "validation": 24, "test": 24}
    np.testing.assert_allclose(kept.probabilities.sum(axis=1), 1)
    test = kept.on("test")
    assert (test.predicted == test.truth).mean() > 0.9
    card = read_json(tmp_path / "p.json")
    assert card["labelled"] == 72
    assert card["chosen"]["penalty"] in params.linear.penalties


def test_a_label_fraction_is_what_is_trained_on(
    params: config.Params, toy: Path, separable: Path, encoder: Path, tmp_path: Path
) -> None:
    fewer = params.model_copy(update={"split": params.split.model_copy(update={"label_fraction": 0.25})})
    linear.run(fewer, toy, separable, encoder, tmp_path / "linear.safetensors", tmp_path / "p.csv")
    assert read_json(tmp_path / "p.json")["labelled"] == 18


@pytest.mark.parametrize("stage", ["linear", "finetune", "labels"])
def test_nothing_is_trained_on_an_encoder_of_other_sides(
    params: config.Params, toy: Path, separable: Path, encoder: Path, tmp_path: Path, stage: str
) -> None:
    """It may have learned from test images."""
    network, card = encoders.load(encoder)
    encoders.save(network.state_dict(), encoder, card | {"data": {"split.csv": "0" * 64}})
    out, table = tmp_path / "out.safetensors", tmp_path / "p.csv"
    asked = params.model_copy(update={"labels": params.labels.model_copy(update={"fractions": [0.5]})})
    run = {
        "linear": lambda: linear.run(asked, toy, separable, encoder, out, table),
        "finetune": lambda: finetune.run(asked, asked.finetune, toy, encoder, out, table, tmp_path / "curve.csv"),
        "labels": lambda: labels.run(asked, asked.finetune, toy, encoder, table),
    }[stage]
    with pytest.raises(UserError, match=r"trained on other sides than those of .*split\.csv"):
        run()
    assert not out.exists()
    assert not table.exists()


def test_a_class_without_a_label_gets_no_probability() -> None:
    features = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    truth = np.arange(30) % 2
    fitted, _ = logistic.fit(features, truth, np.arange(20), np.arange(20, 30), np.arange(30), 3, config.Linear())
    assert (fitted.probabilities[:, 2] == 0).all()
    np.testing.assert_allclose(fitted.probabilities.sum(axis=1), 1)


def test_test_labels_are_hidden_from_training(toy: Path) -> None:
    dataset = Dataset.load(toy)
    assert (visible(dataset)[dataset.indices("test")] == -1).all()
    known = dataset.indices(("train", "validation"))
    assert np.array_equal(visible(dataset)[known], dataset.labels[known])


@pytest.mark.parametrize("pretrained", [False, True])
def test_training_learns_and_its_file_predicts_the_same(
    params: config.Params, toy: Path, encoder: Path, tmp_path: Path, pretrained: bool
) -> None:
    recipe = params.supervised.model_copy(update={"epochs": 25, "lr": 3e-3, "backbone_lr": 3e-3, "patience": 25})
    out = tmp_path / "model.safetensors"
    finetune.run(params, recipe, toy, encoder if pretrained else None, out, tmp_path / "p.csv", tmp_path / "c.csv")
    kept = Predictions.read(tmp_path / "p.csv")
    test = kept.on("test")
    assert (test.predicted == test.truth).mean() > 0.6  # chance is 1/3
    probabilities = classifier.load(out).probabilities(Dataset.load(toy).images)
    close = 10 * TEST_RESNET  # of logits up to 10; a probability moves by less
    np.testing.assert_allclose(kept.probabilities, probabilities[kept.table["image_id"]], atol=close)
    curve = pd.read_csv(tmp_path / "c.csv")
    assert list(curve["epoch"]) == list(range(1, 26))
    assert curve["loss"].iloc[-1] < curve["loss"].iloc[0]
    chosen = read_json(tmp_path / "p.json")["chosen"]
    best = curve.sort_values(["validation_balanced_accuracy", "validation_loss"], ascending=[False, True]).iloc[0]
    assert chosen["epoch"] == best["epoch"]


def test_training_stops_early_and_keeps_the_best_epoch(params: config.Params, toy: Path, tmp_path: Path) -> None:
    recipe = params.supervised.model_copy(update={"epochs": 40, "lr": 1e-8, "backbone_lr": 1e-8, "patience": 3})
    finetune.run(params, recipe, toy, None, tmp_path / "m.safetensors", tmp_path / "p.csv", tmp_path / "c.csv")
    curve = pd.read_csv(tmp_path / "c.csv")
    assert len(curve) == read_json(tmp_path / "p.json")["chosen"]["epoch"] + 3 < 40


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_lower_layers_learn_slower(backbone: str) -> None:
    encoder = encoders.build(config.Model(backbone=backbone), 1, 160)
    model = classifier.Classifier(encoder, encoders.width(encoder, 1, 160), ("a", "b"), 0.0, 1.0)
    settings = config.Train(lr=1.0, backbone_lr=0.1, layer_decay=0.5, weight_decay=0.3)
    groups = training.parameter_groups(model, settings)
    place = {id(parameter): group for group in groups for parameter in group["params"]}
    assert set(place) == {id(parameter) for parameter in model.parameters()}
    assert place[id(model.head.weight)]["lr"] == 1
    first = place[id(next(module for module in encoder.modules() if isinstance(module, nn.Conv2d)).weight)]
    peaks = sorted({group["lr"] for group in groups if group["lr"] < 1})
    assert first["lr"] == peaks[0] < peaks[-1] == 0.1
    assert all(
        group["weight_decay"] == 0 for group in groups for p in group["params"] if p.ndim == 1 and p.shape != (2,)
    )


def test_without_decay_all_layers_learn_alike() -> None:
    encoder = encoders.build(config.Model(backbone="test_resnet"), 1, 32)
    model = classifier.Classifier(encoder, encoders.width(encoder, 1, 32), ("a", "b"), 0.0, 1.0)
    groups = training.parameter_groups(model, config.Train(backbone_lr=0.1, lr=0.2))
    assert {group["lr"] for group in groups} == {0.1, 0.2}


def test_a_diverging_run_says_what_to_do(params: config.Params, toy: Path, tmp_path: Path) -> None:
    recipe = params.supervised.model_copy(update={"lr": 1e30, "backbone_lr": 1e30, "warmup_epochs": 0})
    with pytest.raises(UserError, match=r"the loss of supervised is .*; lower supervised\.lr"):
        finetune.run(params, recipe, toy, None, tmp_path / "m.safetensors", tmp_path / "p.csv", tmp_path / "c.csv")


def test_the_end_to_end_curve_is_taken_up_where_it_was_left(
    params: config.Params, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = config.Labels(fractions=[0.25, 1.0], draws=2, steps=24)
    params = params.model_copy(update={"labels": wanted})
    recipe = params.supervised.model_copy(update={"epochs": 2, "lr": 3e-3, "backbone_lr": 3e-3})
    labels.run(params, recipe, toy, None, tmp_path / "whole.csv")
    assert list(cells.FOLDER.iterdir()) == []

    trained = []
    real = Training._step

    def counted(self: Training, step: int) -> None:
        trained.append((self.name, step))
        real(self, step)
        if trained[-1] == ("supervised, 100% of the labels, draw 2", 5):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Training, "_step", counted)
    with pytest.raises(UserError, match="stopped by a signal after step 6 of "):
        labels.run(params, recipe, toy, None, tmp_path / "parts.csv")
    assert not (tmp_path / "parts.csv").exists()
    (folder,) = cells.FOLDER.iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "0.25-0.npy", "0.25-1.npy", "1.0-0.npy", "1.0-1.pt", "causes.json",
    }  # fmt: skip
    trained.clear()
    labels.run(params, recipe, toy, None, tmp_path / "parts.csv")
    assert trained[0] == ("supervised, 100% of the labels, draw 2", 6)
    assert list(cells.FOLDER.iterdir()) == []
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    table = pd.read_csv(tmp_path / "whole.csv")
    assert not table["0.25/0"].equals(table["0.25/1"])


def test_a_curve_that_is_off_trains_nothing(params: config.Params, toy: Path, tmp_path: Path) -> None:
    off = params.model_copy(update={"labels": config.Labels()})
    labels.run(off, params.supervised, toy, None, tmp_path / "curve.csv")
    assert read_json(tmp_path / "curve.json")["labelled"] == {}
