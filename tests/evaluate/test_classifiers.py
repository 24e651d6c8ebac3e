"""Linear evaluation, fine-tuning and the supervised baseline on images that can be told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tumorxai import config, encoders
from tumorxai.data.dataset import Dataset
from tumorxai.errors import UserError
from tumorxai.evaluate import classifier, embed, finetune, linear
from tumorxai.files import read_json, write_array, write_csv


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    path = tmp_path / "encoder.safetensors"
    model = config.Model(backbone="test_resnet")
    card = {"timm": model.backbone, "small_stem": False, "channels": 1, "size": 32, "mean": 0.3, "std": 0.2}
    encoders.save(encoders.build(model, 1, 32).state_dict(), path, card)
    return path


def test_embedding_is_the_encoder_in_evaluation_mode(toy: Path, encoder: Path, tmp_path: Path) -> None:
    embed.run(toy / "pack.npy", encoder, tmp_path / "embeddings.npy")
    embeddings = np.load(tmp_path / "embeddings.npy")
    model, _ = encoders.load(encoder)
    one = torch.from_numpy(Dataset.load(toy).images[7:8] / np.float32(255))
    with torch.no_grad():
        expected = model((one - 0.3) / 0.2)
    np.testing.assert_allclose(embeddings[7], expected[0], atol=1e-4)
    assert embeddings.shape == (120, encoders.width(model, 1, 32))


def test_an_encoder_for_other_images_is_refused(toy: Path, encoder: Path, tmp_path: Path) -> None:
    write_array(tmp_path / "pack.npy", np.zeros((2, 1, 48, 48), dtype=np.uint8))
    with pytest.raises(UserError, match=r"\(1, 48, 48\).*32 px"):
        embed.run(tmp_path / "pack.npy", encoder, tmp_path / "embeddings.npy")


def outputs(folder: Path) -> dict[str, Path]:
    return {"metrics": folder / "m.json", "predictions": folder / "p.csv", "plot": folder / "plot.csv"}


def test_linear_evaluation_finds_what_is_linear(params: config.Params, toy: Path, tmp_path: Path) -> None:
    dataset = Dataset.load(toy)
    generator = np.random.default_rng(0)
    features = generator.normal(size=(120, 6)).astype(np.float32)
    features[np.arange(120), dataset.labels] += 6
    write_array(tmp_path / "e.npy", features)
    linear.run(params, toy, tmp_path / "e.npy", **outputs(tmp_path))
    metrics = read_json(tmp_path / "m.json")
    assert metrics["test"]["accuracy"]["value"] > 0.95
    assert metrics["majority_accuracy"] == pytest.approx(1 / 3)
    assert metrics["images"] == {"train": 72, "validation": 24, "test": 24}
    predictions = pd.read_csv(tmp_path / "p.csv")
    assert predictions["side"].value_counts().to_dict() == {"train": 72, "validation": 24, "test": 24}
    np.testing.assert_allclose(predictions.filter(like="p_").sum(axis=1), 1)
    on_test = predictions[predictions["side"] == "test"]
    assert (on_test["label"] == on_test["predicted"]).mean() == metrics["test"]["accuracy"]["value"]
    assert list(pd.read_csv(tmp_path / "plot.csv").columns) == ["actual", "predicted"]


def test_a_label_fraction_is_what_is_trained_on(params: config.Params, toy: Path, tmp_path: Path) -> None:
    write_array(tmp_path / "e.npy", np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32))
    fewer = params.model_copy(update={"split": params.split.model_copy(update={"label_fraction": 0.25})})
    linear.run(fewer, toy, tmp_path / "e.npy", **outputs(tmp_path))
    assert read_json(tmp_path / "m.json")["images"]["train"] == 18


def test_training_learns_and_its_file_predicts_the_same(
    params: config.Params, toy: Path, encoder: Path, tmp_path: Path
) -> None:
    recipe = params.supervised.model_copy(update={"epochs": 25, "lr": 3e-3, "backbone_lr": 3e-3, "patience": 25})
    for start in (None, encoder):
        out = tmp_path / "model.safetensors"
        finetune.run(params, recipe, toy, start, out, **outputs(tmp_path))
        metrics = read_json(tmp_path / "m.json")
        assert metrics["test"]["accuracy"]["value"] > 0.6  # chance is 1/3
        loaded = classifier.load(out)
        dataset = Dataset.load(toy)
        probabilities = loaded.probabilities(dataset.images)
        predictions = pd.read_csv(tmp_path / "p.csv").set_index("image_id")
        np.testing.assert_allclose(
            predictions[[f"p_{name}" for name in dataset.classes]], probabilities[predictions.index], atol=1e-5
        )


def test_test_labels_change_no_choice(params: config.Params, toy: Path, encoder: Path, tmp_path: Path) -> None:
    """The same runs on a copy whose test labels are shuffled: the same weights, another test score."""
    other = tmp_path / "data"
    other.mkdir()
    for path in toy.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    for name in ("groups.csv", "split.csv"):
        table = pd.read_csv(toy / name, keep_default_na=False)
        table.loc[96:, "label"] = np.roll(table.loc[96:, "label"], 1)
        write_csv(other / name, table)
    recipe = params.finetune.model_copy(update={"epochs": 12, "lr": 3e-3, "backbone_lr": 3e-3, "patience": 12})
    chosen, weights, tests = [], [], []
    for data in (toy, other):
        out = tmp_path / "model.safetensors"
        finetune.run(params, recipe, data, encoder, out, **outputs(tmp_path))
        metrics = read_json(tmp_path / "m.json")
        chosen.append(metrics["chosen"])
        tests.append(metrics["test"])
        weights.append(out.read_bytes())
        embed.run(data / "pack.npy", encoder, tmp_path / "e.npy")
        linear.run(params, data, tmp_path / "e.npy", **outputs(tmp_path))
        chosen[-1] = [chosen[-1], read_json(tmp_path / "m.json")["chosen"]]
    assert chosen[0] == chosen[1]
    assert weights[0] == weights[1]
    assert tests[0] != tests[1]
