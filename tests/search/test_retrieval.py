"""Retrieval scores: by hand, with planted copies, and over the whole stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.tolerance import rounding
from tumorxai import config
from tumorxai.base import embedded
from tumorxai.base.dataset import Dataset
from tumorxai.errors import UserError
from tumorxai.files import read_json, write_array, write_csv
from tumorxai.search import retrieval
from tumorxai.search.index import Hit


def test_kin_are_copies_and_known_patients() -> None:
    table = pd.DataFrame({"group": [0, 1, 1, 3, 4, 5], "patient": ["a", "", "", "a", "", "b"]})
    related = retrieval.related_images(table, np.array([0, 1, 4]), np.array([2, 3, 5]))
    assert related == [{3}, {2}, set()]  # an unknown patient is not the same patient


def run(params: config.Params, data: Path, embeddings: np.ndarray, out: Path) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    (out / "encoder.safetensors").write_bytes(b"weights")
    images = Dataset.load(data).images
    embedded.keep(out / "embeddings.npy", embeddings.astype(np.float32), images, out / "encoder.safetensors")
    retrieval.run(
        params,
        data,
        out / "embeddings.npy",
        encoder=out / "encoder.safetensors",
        index=out / "index",
        details=out / "search.json",
        metrics=out / "shown.json",
        plots=out,
    )
    return read_json(out / "search.json")


def test_exact_search_by_hand() -> None:
    features = np.array([[1, 0], [0, 2], [3, 3], [5, 0], [0, 0], [-1, 0]], dtype=np.float32)
    found, similarities = retrieval.exact(features, np.array([0, 1]), np.array([2, 3, 4, 5]), 3)
    assert found.tolist() == [[3, 2, 4], [2, 3, 4]]  # the second query is equally unlike 3, 4 and 5
    np.testing.assert_allclose(
        similarities, [[1, 0.5**0.5, 0], [0.5**0.5, 0, 0]], atol=rounding(torch.float32, 2, stages=2)
    )


def test_cut_leaves_out_and_fills_up() -> None:
    assert retrieval.cut([[4, 2, 9], [1]], 2, [{4}, set()]).tolist() == [[2, 9], [1, -1]]
    assert retrieval.cut([[4, 2, 9], [1]], 2).tolist() == [[4, 2], [1, -1]]


def test_recall_of_an_index_that_misses_some() -> None:
    exact = np.array([[0.9, 0.8, 0.7, 0.6], [0.5, 0.5, 0.5, 0.5]], dtype=np.float32)
    missed = [Hit(i, s, {}) for i, s in enumerate([0.9, 0.7, 0.55, 0.5])]
    tied = [Hit(i, 0.5, {}) for i in range(9)]  # any four of them are right
    assert retrieval.index_recall([missed, tied], exact) == pytest.approx((2 + 4) / 8)


def test_classes_apart_are_found(params: config.Params, toy: Path, tmp_path: Path) -> None:
    dataset = Dataset.load(toy)
    embeddings = np.random.default_rng(0).normal(size=(120, 8))
    embeddings[np.arange(120), dataset.labels] += 20
    metrics = run(params, toy, embeddings, tmp_path)
    assert metrics["database"] == 96
    assert metrics["queries"] == 24
    assert metrics["index_recall"] == 1
    assert metrics["chance"]["precision"] == pytest.approx(1 / 3)
    right = metrics["honest"]["precision"]
    assert right == metrics["honest"]["map"] == metrics["honest"]["ndcg"]
    assert right["low"] < right["value"] == right["high"] == 1  # all of four patients: no certainty
    assert metrics["honest"]["recall"]["value"] == pytest.approx(5 / 32)
    assert metrics["by_class"]["ring"]["map"]["value"] == 1
    assert set(metrics["by_class"]) == {"bar", "disc", "ring"}
    assert metrics["leaky"] == metrics["honest"]
    assert metrics["pixel"]["precision"]["value"] < 0.9
    assert metrics["leakage"]["precision"]["p"] == 1
    for name in ("neighbours", "precision"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert np.asarray(picture.convert("RGB")).std() > 20


def test_every_k_and_class_is_in_the_table(params: config.Params, toy: Path, tmp_path: Path) -> None:
    metrics = run(params, toy, np.random.default_rng(3).normal(size=(120, 8)), tmp_path)
    table = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False)
    ks = [1, 3, 5, 10, 20, 50]
    assert len(table) == 5 * 4 * 4 * len(ks)  # series and chance, scores, all queries and three classes
    row = table.query("answers == 'pixel' and label == '' and k == 5 and score == 'ndcg'").iloc[0]
    assert float(row["value"]) == metrics["pixel"]["ndcg"]["value"]
    assert float(row["high"]) == metrics["pixel"]["ndcg"]["high"]
    of_class = table.query("answers == 'honest' and label == 'bar' and k == 5 and score == 'map'").iloc[0]
    assert float(of_class["low"]) == metrics["by_class"]["bar"]["map"]["low"]
    curve = pd.read_csv(tmp_path / "precision.csv")
    assert curve["k"].tolist() == ks
    assert curve["honest"][2] == metrics["honest"]["precision"]["value"]


def test_noise_is_at_chance(params: config.Params, toy: Path, tmp_path: Path) -> None:
    metrics = run(params, toy, np.random.default_rng(3).normal(size=(120, 8)), tmp_path)
    for score, expected in metrics["chance"].items():
        assert metrics["honest"][score]["value"] == pytest.approx(expected, abs=0.15), score


def with_copies(toy: Path, data: Path) -> Path:
    """Each test image is a copy of a training image, of the same label: both count modulo 3."""
    data.mkdir()
    images = np.load(toy / "pack.npy")
    images[96:] = images[:24]
    write_array(data / "pack.npy", images)
    (data / "catalogue.csv").write_bytes((toy / "catalogue.csv").read_bytes())
    group = np.arange(120)
    group[96:] = np.arange(24)
    for name in ("groups.csv", "split.csv"):
        write_csv(data / name, pd.read_csv(toy / name, keep_default_na=False).assign(group=group))
    return data


def test_copies_count_only_in_the_leaky_figures(params: config.Params, toy: Path, tmp_path: Path) -> None:
    embeddings = np.random.default_rng(0).normal(size=(120, 32))
    embeddings[96:] = embeddings[:24]
    first = params.model_copy(update={"search": config.Search(neighbours=1)})
    metrics = run(first, with_copies(toy, tmp_path / "data"), embeddings, tmp_path)
    assert metrics["queries_with_kin"] == 24
    for copies, honest in (("leaky", "honest"), ("pixel_leaky", "pixel")):
        assert metrics[copies]["precision"]["value"] == 1
        assert metrics[honest]["precision"]["value"] < 0.9
    assert metrics["chance"]["precision"] == pytest.approx(31 / 95)
    added = metrics["leakage"]["precision"]
    assert added["value"] == pytest.approx(1 - metrics["honest"]["precision"]["value"])
    assert added["low"] > 0
    assert added["p"] < 0.01


def test_the_same_seed_gives_the_same_files(params: config.Params, toy: Path, tmp_path: Path) -> None:
    embeddings = np.random.default_rng(3).normal(size=(120, 8))
    assert run(params, toy, embeddings, tmp_path / "a") == run(params, toy, embeddings, tmp_path / "b")
    for name in ("neighbours.png", "precision.png", "scores.csv", "precision.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_small_database_shortens_the_curves(params: config.Params, toy: Path, tmp_path: Path) -> None:
    search = config.Search(neighbours=7, k=[1, 96, 97, 500])
    run(params.model_copy(update={"search": search}), toy, np.random.default_rng(0).normal(size=(120, 8)), tmp_path)
    assert pd.read_csv(tmp_path / "precision.csv")["k"].tolist() == [1, 7, 96]


def test_embeddings_of_other_images_are_refused(params: config.Params, toy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"got float32 \(99, 8\); expected an array float32 \(120, any\)"):
        run(params, toy, np.ones((99, 8)), tmp_path)


def test_more_neighbours_than_cases_are_refused(params: config.Params, toy: Path, tmp_path: Path) -> None:
    greedy = params.model_copy(update={"search": config.Search(neighbours=100)})
    with pytest.raises(UserError, match=r"neighbours 100 with 96"):
        run(greedy, toy, np.random.default_rng(0).normal(size=(120, 8)), tmp_path)
