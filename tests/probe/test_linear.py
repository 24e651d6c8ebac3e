"""What linear evaluation keeps beside its predictions: the classifier that made them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.tolerance import TEST_RESNET, rounding
from tumorxai import config
from tumorxai.base.dataset import Dataset
from tumorxai.base.predictions import Predictions
from tumorxai.base.sides import sides
from tumorxai.errors import UserError
from tumorxai.files import read_json, sha256, write_json
from tumorxai.networks import classifier, embed, encoders
from tumorxai.probe import linear
from tumorxai.run import batch


@pytest.fixture
def models(params: config.Params, toy: Path, encoder: Path, tmp_path: Path) -> Path:
    """The folder of a probe on the embeddings of a network."""
    embed.run(toy / "pack.npy", encoder, tmp_path / "embeddings.npy")
    linear.run(
        params, toy, tmp_path / "embeddings.npy", encoder, encoder.with_name("linear.safetensors"), tmp_path / "p.csv"
    )
    return encoder.parent


def test_the_kept_classifier_says_what_the_kept_predictions_say(models: Path, toy: Path, tmp_path: Path) -> None:
    dataset, kept = Dataset.load(toy), Predictions.read(tmp_path / "p.csv")
    assert set(load_file(models / "linear.safetensors")) == {"weight", "bias"}
    probe = classifier.load(models / "linear.safetensors")
    said = probe.probabilities(dataset.images[kept.table["image_id"]])
    weight, features = load_file(models / "linear.safetensors")["weight"], np.load(tmp_path / "embeddings.npy")
    reach = float((np.abs(features) @ np.abs(weight).T).max())  # of a logit's terms
    close = reach * (TEST_RESNET + rounding(torch.float32, features.shape[1], stages=2))
    np.testing.assert_allclose(said, kept.probabilities, atol=close)
    assert probe.classes == kept.classes == dataset.classes
    alone = batch.Alone(models / "linear.safetensors", "pad").answers(dataset.images[:3], [None] * 3)  # predict --model
    assert [list(one["uncalibrated_probabilities"].values()) for one in alone] == probe.probabilities(
        dataset.images[:3]
    ).tolist()
    card = read_json(models / "linear.json")
    assert card["penalty"] == read_json(tmp_path / "p.json")["chosen"]["penalty"]
    assert card["encoder"] == {"file": "encoder.safetensors", "sha256": sha256(models / "encoder.safetensors")}
    assert card["data"] == sides(toy)  # by which `explain` refuses a probe of another run


def test_a_probe_is_never_put_on_another_encoder(models: Path, tmp_path: Path) -> None:
    held = load_file(models / "encoder.safetensors")
    first = next(name for name, weight in held.items() if weight.ndim)
    save_file(held | {first: held[first] + 1}, models / "encoder.safetensors")
    with pytest.raises(UserError, match=r"encoder.safetensors with the SHA-256 .* was fitted on.*dvc repro linear"):
        classifier.load(models / "linear.safetensors")
    (models / "encoder.safetensors").unlink()
    with pytest.raises(UserError, match=r"got no .*encoder.safetensors.*keep both in one folder"):
        classifier.load(models / "linear.safetensors")
    shutil.move(models / "linear.safetensors", tmp_path / "elsewhere.safetensors")
    with pytest.raises(UserError, match=r"got no .*linear.safetensors.*dvc repro linear"):
        classifier.load(models / "linear.safetensors")


def test_the_card_names_no_file_elsewhere(models: Path, toy: Path) -> None:
    """A card from outside must not make a program read what lies in another folder."""
    network, card = encoders.load(models / "encoder.safetensors")
    deeper = models / "deeper"
    encoders.save(network.state_dict(), deeper / "encoder.safetensors", card)
    shutil.copy(models / "linear.safetensors", deeper)
    described = read_json(models / "linear.json")
    described["encoder"]["file"] = "../encoder.safetensors"
    (deeper / "encoder.safetensors").unlink()
    write_json(deeper / "linear.json", described)
    with pytest.raises(UserError, match=r"deeper/encoder.safetensors"):
        classifier.load(deeper / "linear.safetensors")
