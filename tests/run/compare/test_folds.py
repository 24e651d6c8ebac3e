"""Folds are pooled where they are of one set, whole and disjoint; what is pooled is what each fold has answered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.run.compare.project import do, dvc, start
from tests.run.compare.test_judge import N, predictions
from tumorxai.base import jackknife, scores
from tumorxai.base.predictions import PART, Predictions
from tumorxai.errors import UserError
from tumorxai.run import compare
from tumorxai.run.compare import entrants
from tumorxai.run.compare.entrants import Entrant
from tumorxai.run.compare.folds import joined
from tumorxai.run.compare.judge import judge, rows, size


def parts(whole: Predictions, number: int = 4) -> list[Predictions]:
    """A test side in folds of whole clusters."""
    return [whole.where(whole.clusters % number == fold) for fold in range(number)]


def test_joined_folds_are_the_whole_test_side() -> None:
    whole = predictions(0.8, 0)
    pooled = joined(parts(whole), N)
    order = np.argsort(whole.table["path"].to_numpy(dtype=str))
    assert pooled.table["path"].tolist() == whole.table["path"].iloc[order].tolist()
    np.testing.assert_array_equal(pooled.probabilities, whole.probabilities[order])
    np.testing.assert_array_equal(pooled.truth, whole.truth[order])
    np.testing.assert_array_equal(pooled.parts, pooled.clusters % 4)
    entrant = Entrant("linear", ("e",), {}, pooled, folds=4)
    assert entrants.test_side(entrant) == entrants.test_side(Entrant("linear", ("e",), {}, whole.where(order)))
    side = judge("x", [entrant])
    assert size(side) == "400 images, 200 clusters, each image tested once in 4 folds"
    assert rows([side])["folds"].tolist() == [4]
    found = side.scores[0]["accuracy"]
    assert found["value"] == pytest.approx((whole.predicted == whole.truth).mean())
    assert found["low"] < found["value"] < found["high"]


def test_what_is_no_whole_set_of_folds_is_not_joined() -> None:
    whole = predictions(0.8, 0)
    every = parts(whole)
    with pytest.raises(UserError, match="300 images are tested of 400"):
        joined(every[:3], N)
    with pytest.raises(UserError, match="100 images are tested in two folds"):
        joined([*every[:3], every[2]], N)
    other = Predictions(every[3].table, ("a", "b", "d"), every[3].truth, every[3].probabilities)
    with pytest.raises(UserError, match="classes differ"):
        joined([*every[:3], other], N)


def test_areas_compare_images_of_one_fold_only() -> None:
    generator = np.random.default_rng(0)
    positive, part = generator.random(300) < 0.4, np.arange(300) % 3
    values = np.round(generator.random(300) + 0.5 * positive, 1)  # with ties
    draw = jackknife.draw(np.arange(300) // 2, 0)
    auroc, auprc = scores.within(positive, values, draw, part)
    moved, precise = scores.within(positive, values + 10 * part, draw, part)  # another scale for each network
    np.testing.assert_array_equal(moved, auroc)
    np.testing.assert_array_equal(precise, auprc)
    right, pairs = 0.0, 0
    for k in range(3):
        above, below = values[positive & (part == k)], values[~positive & (part == k)]
        right += (above[:, None] > below).sum() + (above[:, None] == below).sum() / 2
        pairs += len(above) * len(below)
    assert auroc[0] == pytest.approx(right / pairs)
    for ours, plain in zip(
        scores.within(positive, values, draw, np.zeros(300, dtype=np.int64)),
        scores.ranking(positive, values, draw),
        strict=True,
    ):
        np.testing.assert_allclose(ours, plain)


def test_a_fold_without_a_class_tells_nothing_of_it() -> None:
    positive, part = np.array([True, False, False, False]), np.array([0, 0, 1, 1])
    draw = jackknife.draw(np.arange(4), 0)
    auroc, auprc = scores.within(positive, np.array([0.6, 0.5, 0.9, 0.1]), draw, part)
    assert (auroc[0], auprc[0]) == (1.0, 1.0)
    assert np.isnan(auroc).any()  # resamples without the only positive image


@pytest.mark.slow
def test_the_leaderboard_pools_whole_sets_of_folds(tmp_path: Path) -> None:
    start(tmp_path)
    sets = {"a": ["split.folds=2"], "b": ["split.folds=2", "method=byol"], "c": ["split.folds=3", "method=byol"]}
    for name, settings in sets.items():
        for fold in range(2):
            given = [part for one in (*settings, f"split.fold={fold}") for part in ("-S", one)]
            dvc(tmp_path, "exp", "run", "-q", "-n", f"{name}{fold}", *given)
            do(tmp_path, "git", "checkout", "-q", ".")
            dvc(tmp_path, "checkout", "-q")
    board = compare.write(tmp_path, -1, ["linear", "supervised"])
    pooled = board[board["folds"] == 2]
    assert set(pooled["test_images"]) == {300}
    # The first commit was tested on the same 300 images, in one piece.
    named = ("linear probe, BYOL", "linear probe, SimCLR", "supervised from scratch")
    assert set(pooled["model"]) == {f"{name}, folds=2" for name in named}
    assert set(pooled.loc[pooled["protocol"] == "supervised", "experiments"].iloc[0].split()) == {
        "a0",
        "a1",
        "b0",
        "b1",
    }
    content = json.loads((tmp_path / "leaderboard/leaderboard.json").read_text())
    side = next(own for own in content["sides"] if len(own["classifiers"]) == 5)
    assert [own["folds"] for own in side["classifiers"]].count(2) == 3
    assert len(side["pairs"]) == 10
    assert {"better", "worse", "accuracy_low", "p", "balanced_accuracy"} <= set(side["pairs"][0])
    assert {"accuracy_low", "macro_f1", "macro_auroc_high"} <= set(side["classifiers"][0])
    single = board[board["experiments"].str.contains("c0|c1")]
    assert set(single["folds"]) == {0}
    left_out = "\n".join(content["left_out"])
    assert "c0, c1: fold 2 of 3 is not there, so that the folds of linear, supervised are not pooled" in left_out
    assert "dvc exp run -S split.folds=3 -S split.fold=2" in left_out
    assert PART not in board
