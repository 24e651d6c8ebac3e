"""Neighbours, few shots, label fractions and baselines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from tests.tolerance import rounding
from tumorxai import config
from tumorxai.base import draws, jackknife, neighbours, scores
from tumorxai.base.dataset import Dataset
from tumorxai.base.predictions import Predictions
from tumorxai.files import read_json
from tumorxai.probe import baselines, frozen
from tumorxai.result import label_efficiency


@pytest.mark.parametrize("k", [1, 7, 60])
def test_weighted_votes_equal_scikit_learn(k: int) -> None:
    generator = np.random.default_rng(k)
    features, labels = generator.normal(size=(700, 5)).astype(np.float32), generator.integers(0, 4, 700)
    train, test = np.arange(300), np.arange(300, 700)
    peer = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))
    peer.fit(features[train].astype(np.float64), labels[train])
    close = rounding(torch.float32, 5, stages=3) / 0.07  # of a cosine, over the temperature: of a vote, relatively
    ours = neighbours.votes(features, labels, train, np.arange(700), 4, [3, k], 0.07)[1]
    np.testing.assert_allclose(ours[test], peer.predict_proba(features[test].astype(np.float64)), atol=close)


def test_a_training_image_does_not_vote_for_itself() -> None:
    features = np.array([[1, 0], [1, 0.1], [0, 1]], dtype=np.float32)
    shares = neighbours.votes(features, np.array([0, 1, 2]), np.arange(3), np.arange(3), 3, [1], 0.07)[0]
    assert shares.argmax(axis=1).tolist() == [1, 0, 1]


def test_the_number_of_neighbours_is_the_best_on_the_validation_side() -> None:
    """One neighbour is misled by noise in the labels, many are not."""
    generator = np.random.default_rng(0)
    labels = np.arange(600) % 2
    features = generator.normal(size=(600, 2)).astype(np.float32) + 2 * np.eye(2, dtype=np.float32)[labels]
    noisy = np.where(generator.random(600) < 0.3, 1 - labels, labels)
    everyone = np.arange(600)
    _, choice = neighbours.weighted(features, noisy, everyone[:400], everyone[400:], everyone, 2, [1, 40], 10.0)
    assert choice.value == 40


def test_shots_are_of_every_class_and_of_different_clusters() -> None:
    labels, clusters = np.arange(90) % 3, np.arange(90) // 6
    train = np.arange(60)
    drawn = neighbours.shots(labels, clusters, train, 5, 20, 0)
    assert len(drawn) == 20
    for ids in drawn:
        assert set(ids) <= set(train)
        assert np.bincount(labels[ids]).tolist() == [5, 5, 5]
        for k in range(3):
            assert len(set(clusters[ids[labels[ids] == k]])) == 5
    assert len({tuple(ids) for ids in drawn}) == 20
    assert neighbours.shots(labels, clusters, train, 11, 20, 0) == []  # the 60 images are of 10 clusters


def test_centroids_find_what_lies_apart() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 3
    features = (generator.normal(size=(300, 8)) + 6 * np.eye(8)[labels] + 50).astype(np.float32)
    said = neighbours.centroids(features, labels, np.arange(6), np.arange(200), 3)
    assert (said[200:] == labels[200:]).mean() > 0.95


def test_draws_of_a_fraction_are_stratified_nested_and_different(toy: Path) -> None:
    dataset = Dataset.load(toy)
    assert np.array_equal(draws.labelled(dataset, 0.25, 0, 0), dataset.labelled(0.25))
    some, more = (draws.labelled(dataset, fraction, 3, 0) for fraction in (0.25, 0.5))
    assert set(some) < set(more) < set(dataset.indices("train"))
    assert np.bincount(dataset.labels[some]).tolist() == [6, 6, 6]
    assert set(some) != set(draws.labelled(dataset, 0.25, 4, 0))
    assert np.array_equal(some, draws.labelled(dataset, 0.25, 3, 0))


def test_the_mean_over_draws_and_its_spread(toy: Path, tmp_path: Path) -> None:
    dataset, generator = Dataset.load(toy), np.random.default_rng(0)
    said = [np.where(generator.random(120) < 0.7, dataset.labels, (dataset.labels + 1) % 3) for _ in range(4)]
    draws.keep(dataset, {"0.1": [(np.arange(9), s) for s in said], "5": []}, tmp_path / "c.csv")
    found = label_efficiency.summarise(tmp_path / "c.csv", 0)
    assert list(found) == ["0.1"]
    test = dataset.indices("test")
    draw = jackknife.draw(dataset.clusters(test), 0)
    tables = [
        scores.from_confusion(scores.confusions(dataset.labels[test], s[test], 3, draw))["balanced_accuracy"]
        for s in said
    ]
    expected = draw.entry(np.mean(tables, axis=0))
    own = found["0.1"]["balanced_accuracy"]
    assert {key: own[key] for key in expected} == pytest.approx(expected, abs=1e-12)
    assert own["sd"] == pytest.approx(np.std([table[0] for table in tables], ddof=1), abs=1e-12)
    assert (found["0.1"]["labelled"], found["0.1"]["draws"]) == (9, 4)
    assert found["0.1"]["different"] == len(np.unique(dataset.clusters(np.arange(9))))
    assert label_efficiency.curve(found).to_dict("records")[0]["fraction"] == 0.1


def test_the_gain_with_all_labels_is_held_against_that_with_few(toy: Path, tmp_path: Path) -> None:
    """Where one curve is better at all labels by as much as it is with few, nothing tells the gains apart."""
    dataset, generator = Dataset.load(toy), np.random.default_rng(0)

    def said(share: float) -> tuple[np.ndarray, np.ndarray]:
        right = generator.random(120) < share
        return np.arange(9), np.where(right, dataset.labels, (dataset.labels + 1) % 3)

    all_first, all_second, few_first, few_second = said(0.95), said(0.3), said(0.6), said(0.55)
    draws.keep(dataset, {"0.1": [few_first], "1": [all_first]}, tmp_path / "first.csv")
    draws.keep(dataset, {"0.1": [few_second], "1": [all_second]}, tmp_path / "second.csv")
    found = label_efficiency.over(tmp_path / "first.csv", tmp_path / "second.csv", 0)
    test = dataset.indices("test")
    right = [(own[1] == dataset.labels)[test].mean() for own in (all_first, all_second, few_first, few_second)]
    apart = found["0.1"]["gain_of_all_less_this"]
    assert apart["value"] == pytest.approx(right[0] - right[1] - (right[2] - right[3]))
    assert apart["value"] == pytest.approx(found["1"]["value"] - found["0.1"]["value"])
    assert apart["low"] < apart["value"] < apart["high"]
    assert (apart["p"] < 0.05) == (apart["low"] > 0)
    assert found["1"]["gain_of_all_less_this"] is None
    draws.keep(dataset, {"0.1": [all_first], "1": [all_first]}, tmp_path / "first.csv")
    draws.keep(dataset, {"0.1": [all_second], "1": [all_second]}, tmp_path / "second.csv")
    same = label_efficiency.over(tmp_path / "first.csv", tmp_path / "second.csv", 0)["0.1"]["gain_of_all_less_this"]
    assert same["value"] == 0
    assert same["low"] < 0 < same["high"]


def test_more_labels_help_on_the_frozen_encoder(
    params: config.Params, toy: Path, separable: Path, tmp_path: Path
) -> None:
    fewer = params.frozen.model_copy(update={"shots": [1, 5], "shot_draws": 10, "fractions": [0.05, 1.0], "draws": 3})
    params = params.model_copy(update={"frozen": fewer})
    knn, shots, curve = (tmp_path / f"{name}.csv" for name in ("knn", "shots", "curve"))
    frozen.run(params, toy, separable, knn, shots, curve)
    test = Predictions.read(knn).on("test")
    assert (test.predicted == test.truth).mean() > 0.9
    few = label_efficiency.summarise(shots, 0)
    assert few["5"]["balanced_accuracy"]["value"] > few["1"]["balanced_accuracy"]["value"]
    assert few["5"]["draws"] == 10
    found = label_efficiency.summarise(curve, 0)
    assert found["1"]["draws"] == 1
    assert found["1"]["balanced_accuracy"]["value"] >= found["0.05"]["balanced_accuracy"]["value"]
    assert found["0.05"]["labelled"] == np.mean(read_json(tmp_path / "curve.json")["labelled"]["0.05"]) < 7


def test_baselines_do_what_they_are_called(params: config.Params, toy: Path, tmp_path: Path) -> None:
    fewer = params.frozen.model_copy(update={"fractions": [0.25], "draws": 1})
    paths = {name: tmp_path / f"{name}.csv" for name in ("majority", "pixel", "random", "curve")}
    baselines.run(params.model_copy(update={"frozen": fewer}), toy, **paths)
    majority = Predictions.read(paths["majority"])
    assert (majority.probabilities == 1 / 3).all()
    pixel = Predictions.read(paths["pixel"])
    assert set(np.unique(pixel.probabilities)) == {0, 1}
    train = pixel.on("train")
    assert (train.predicted == train.truth).all()  # each image is its own nearest
    assert read_json(tmp_path / "random.json")["chosen"]["penalty"] in params.linear.penalties
    assert list(pd.read_csv(paths["curve"]).columns)[-1] == "0.25/0"
