"""Retrieval scores: by hand, with planted copies, and over the whole stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tumorxai import config
from tumorxai.data.dataset import Dataset
from tumorxai.errors import UserError
from tumorxai.files import read_json, write_array, write_csv
from tumorxai.search import retrieval


def test_average_precision_by_hand() -> None:
    relevant = np.array([[True, False, True], [False, False, False], [True, True, True], [False, True, False]])
    available = np.array([2, 5, 9, 1])
    expected = [(1 + 2 / 3) / 2, 0, 1, 0.5]
    np.testing.assert_allclose(retrieval.average_precision(relevant, available), expected)


def test_kin_are_copies_and_known_patients() -> None:
    table = pd.DataFrame({"group": [0, 1, 1, 3, 4, 5], "patient": ["a", "", "", "a", "", "b"]})
    related = retrieval.kin(table, np.array([0, 1, 4]), np.array([2, 3, 5]))
    assert related == [{3}, {2}, set()]  # an unknown patient is not the same patient


def run(params: config.Params, data: Path, embeddings: np.ndarray, out: Path) -> dict[str, object]:
    write_array(out / "embeddings.npy", embeddings.astype(np.float32))
    (out / "encoder.safetensors").write_bytes(b"weights")
    retrieval.run(
        params,
        data,
        out / "embeddings.npy",
        encoder=out / "encoder.safetensors",
        index=out / "index",
        metrics=out / "search.json",
        picture=out / "neighbours.png",
    )
    return read_json(out / "search.json")


def test_classes_apart_are_found(params: config.Params, toy: Path, tmp_path: Path) -> None:
    dataset = Dataset.load(toy)
    embeddings = np.random.default_rng(0).normal(size=(120, 8))
    embeddings[np.arange(120), dataset.labels] += 20
    metrics = run(params, toy, embeddings, tmp_path)
    assert metrics["database"] == 96
    assert metrics["queries"] == 24
    assert metrics["chance"] == pytest.approx(1 / 3)
    for score in ("precision", "hit_at_1", "hit_at_k", "map"):
        assert metrics[score] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert set(metrics["precision_by_class"]) == {"bar", "disc", "ring"}
    assert metrics["leaky"]["precision"] == metrics["precision"]
    with Image.open(tmp_path / "neighbours.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 20


def test_noise_is_at_chance(params: config.Params, toy: Path, tmp_path: Path) -> None:
    metrics = run(params, toy, np.random.default_rng(3).normal(size=(120, 8)), tmp_path)
    assert metrics["precision"]["value"] == pytest.approx(metrics["chance"], abs=0.15)


def test_copies_count_only_in_the_leaky_figure(params: config.Params, toy: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("catalogue.csv", "pack.npy"):
        (data / name).write_bytes((toy / name).read_bytes())
    group = np.arange(120)
    group[96:] = np.arange(24)  # each test image is a copy of a training image (same label: both count modulo 3)
    for name in ("groups.csv", "split.csv"):
        write_csv(data / name, pd.read_csv(toy / name, keep_default_na=False).assign(group=group))
    embeddings = np.random.default_rng(0).normal(size=(120, 32))
    embeddings[96:] = embeddings[:24]
    metrics = run(params, data, embeddings, tmp_path)
    assert metrics["queries_with_kin"] == 24
    assert metrics["leaky"]["hit_at_1"]["value"] == 1
    assert metrics["hit_at_1"]["value"] < 0.7
    assert metrics["chance"] == pytest.approx(31 / 95)


def test_the_same_seed_gives_the_same_files(params: config.Params, toy: Path, tmp_path: Path) -> None:
    embeddings = np.random.default_rng(3).normal(size=(120, 8))
    assert run(params, toy, embeddings, tmp_path / "a") == run(params, toy, embeddings, tmp_path / "b")
    pictures = [(tmp_path / name / "neighbours.png").read_bytes() for name in "ab"]
    assert pictures[0] == pictures[1]


def test_embeddings_of_other_images_are_refused(params: config.Params, toy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"got 99 embeddings .* 120 images"):
        run(params, toy, np.ones((99, 8)), tmp_path)


def test_more_neighbours_than_cases_are_refused(params: config.Params, toy: Path, tmp_path: Path) -> None:
    greedy = params.model_copy(update={"search": config.Search(neighbours=100)})
    with pytest.raises(UserError, match=r"neighbours 100 with 96"):
        run(greedy, toy, np.random.default_rng(0).normal(size=(120, 8)), tmp_path)
