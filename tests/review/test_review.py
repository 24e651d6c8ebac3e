"""Labels that were turned on purpose are found, and the galleries show what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tumorxai import config
from tumorxai.base.dataset import Dataset
from tumorxai.base.neighbours import normalised
from tumorxai.base.predictions import keep
from tumorxai.files import read_json, write_json
from tumorxai.review import review


def test_turned_labels_are_found() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(900) % 3
    features = (rng.normal(size=(900, 10)) + 3.5 * np.eye(10)[truth]).astype(np.float32)
    turned = rng.random(900) < 0.08
    labels = np.where(turned, (truth + 1) % 3, truth)
    said = review.out_of_fold(features, labels, np.arange(900) // 3, 3, 0.1, 5, 0)
    flagged, likely = review.suspected(labels, said)
    assert flagged[turned].mean() > 0.7
    assert turned[flagged].mean() > 0.85
    assert (likely[flagged & turned] == truth[flagged & turned]).mean() > 0.95


def naive(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Eq. 1 of the paper image by image: the class that each counts to, -1 where to none."""
    n, classes = probabilities.shape
    t = [np.mean([probabilities[i, j] for i in range(n) if labels[i] == j]) for j in range(classes)]
    counted = []
    for i in range(n):
        able = [j for j in range(classes) if probabilities[i, j] >= t[j]]
        counted.append(max(able, key=lambda j: probabilities[i, j]) if able else -1)
    return np.array(counted)


@pytest.mark.parametrize("seed", range(5))
def test_suspicion_is_that_of_confident_learning(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, probabilities = rng.integers(0, 4, 200), rng.dirichlet(np.full(4, 0.4), 200)
    flagged, own = review.suspected(labels, probabilities)
    expected = naive(labels, probabilities)
    assert np.array_equal(own, expected)
    assert np.array_equal(flagged, (expected >= 0) & (expected != labels))


def test_a_class_that_no_image_has_is_suggested_to_none() -> None:
    rng = np.random.default_rng(0)
    _, own = review.suspected(rng.integers(0, 2, 50), rng.dirichlet(np.ones(3), 50))
    assert 2 not in own


def test_no_fold_has_seen_a_copy() -> None:
    """Every cluster has its own random label: only a model that has seen its copies can know it."""
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(150), 4)
    labels = rng.integers(0, 2, 150)[clusters]
    features = (rng.normal(size=(150, 40))[clusters] * 5 + rng.normal(size=(600, 40))).astype(np.float32)
    said = review.out_of_fold(features, labels, clusters, 2, 1.0, 5, 0)
    assert 0.35 < (said.argmax(axis=1) == labels).mean() < 0.65


def test_a_row_shows_copies_and_neighbours_of_others(toy: Path) -> None:
    loaded = Dataset.load(toy)
    group = loaded.table["group"].to_numpy().copy()
    group[[3, 7, 9]] = 0
    dataset = Dataset(loaded.images, loaded.table.assign(group=group), loaded.classes)
    unit = normalised(np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32))
    clusters = dataset.clusters(np.arange(120))
    own = review.row(dataset, unit, clusters, 0, "text", 3)
    assert own.image == (0, "text")
    copies, near = own.others[: review.COPIES], own.others[review.COPIES :]
    assert {image for image, _, _ in copies} <= {3, 7, 9}
    assert len(near) == 3
    assert len({clusters[image] for image, _, _ in near} | {clusters[0]}) == 4
    label, side = dataset.table["label"], dataset.table["side"]
    for image, _, differs in near:
        assert side[image] == "train"
        assert differs == (label[image] != label[0])
    train = dataset.indices("train")
    other = train[clusters[train] != clusters[0]]
    assert near[0][0] == other[np.argmax(unit[other] @ unit[0])]


@pytest.mark.parametrize("right", [False, True])
def test_lists_and_galleries_are_written(
    params: config.Params, toy: Path, separable: Path, tmp_path: Path, right: bool
) -> None:
    """Also for a classifier without an error."""
    dataset = Dataset.load(toy)
    said = np.eye(3)[dataset.labels] if right else np.random.default_rng(0).dirichlet(np.ones(3), 120)
    keep(dataset, said, {}, 72, tmp_path / "p.csv")
    write_json(tmp_path / "probe.json", {"chosen": {"penalty": 0.1}})
    review.run(
        params, toy, separable, tmp_path / "probe.json", tmp_path / "p.csv",
        tmp_path / "s.csv", tmp_path / "m.json", tmp_path / "plots",
    )  # fmt: skip
    found, listed = read_json(tmp_path / "m.json"), pd.read_csv(tmp_path / "s.csv")
    test = dataset.indices("test")
    assert found["test_errors"] == (said[test].argmax(axis=1) != dataset.labels[test]).sum()
    assert found["suspected"] == len(listed) == sum(entry["suspected"] for entry in found["by_label"].values())
    assert (listed["label"] != listed["suggested"]).all()
    assert listed["p_label"].is_monotonic_increasing
    isolated, alike = found["isolated"], found["alike"]
    assert len(isolated) == len(alike) == review.LISTED
    assert np.all(np.diff([one["isolation"] for one in isolated]) <= 0)
    assert np.all(np.diff([one["distance"] for one in alike]) >= 0)
    assert set(isolated[0]["image"]) == {"image_id", "source", "path", "side", "label"}
    for name in ("worst", "suspects", "isolated", "alike"):
        assert 500 < (tmp_path / "plots" / f"{name}.png").stat().st_size < 300_000


def test_strangers_are_ranked_first_and_copies_keep_nobody_company(toy: Path) -> None:
    loaded = Dataset.load(toy)
    features = np.random.default_rng(0).normal(size=(120, 8)).astype(np.float32) * 0.2 + np.eye(8, dtype=np.float32)[0]
    features[[40, 41]] = -np.eye(8)[1]  # a stranger and its copy
    features[90] = -np.eye(8)[2]
    features[100] = features[7] + 1e-3  # alike, of two patients and groups
    group = loaded.table["group"].to_numpy().copy()
    group[41] = 40
    dataset = Dataset(loaded.images, loaded.table.assign(group=group), loaded.classes)
    alone, alike = review.outliers(dataset, normalised(features), dataset.clusters(np.arange(120)), 0)
    assert set(alone["image_id"][:2]) == {40, 90}
    assert 41 not in set(alone["image_id"])
    assert len(alone) == 119
    assert alike.loc[0, ["image_a", "image_b"]].tolist() == [7, 100]
    patient = dataset.table["patient"].to_numpy()
    assert (patient[alike["image_a"]] != patient[alike["image_b"]]).all()
