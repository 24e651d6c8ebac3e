"""Intervals that cover, hold their estimate, and have a width where little is known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tumorxai.base import jackknife, scores

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import interval_coverage as simulation

FEW = np.array([[9, 0, 0], [0, 30, 0], [0, 0, 12], [4, 0, 3], [0, 8, 0], [0, 0, 1], [2, 0, 0], [0, 5, 0], [0, 0, 6]])
MANY = np.repeat(FEW, 8, axis=0)


@pytest.mark.parametrize("hits", [0, 1, 7, 19, 20])
def test_wilson_equals_scipy(hits: int) -> None:
    expected = stats.binomtest(hits, 20).proportion_ci(method="wilson")
    found = jackknife.wilson(hits / 20, 20, float(stats.norm.ppf(0.975)))
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_many_single_images_have_the_normal_interval() -> None:
    values = np.random.default_rng(0).random(1000)
    draw = jackknife.draw(np.arange(1000), 0)
    error = values.std() / np.sqrt(1000)
    for low, high in ((0.0, 1.0), (0.0, 36.0), (-1.0, 1.0), (-np.inf, np.inf)):
        entry = draw.entry(draw.means(values), low, high)
        assert entry["value"] == pytest.approx(values.mean())
        assert entry["low"] == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
        assert entry["high"] == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_copies_add_no_certainty() -> None:
    values = np.random.default_rng(0).random(100)
    once, copied = jackknife.draw(np.arange(100), 0), jackknife.draw(np.repeat(np.arange(100), 7), 0)
    assert copied.entry(copied.means(np.repeat(values, 7))) == pytest.approx(once.entry(once.means(values)))
    assert copied.effective() == pytest.approx(100)


def test_clusters_of_unequal_size_count_as_fewer() -> None:
    draw = jackknife.draw(np.repeat(np.arange(3), [8, 1, 1]), 0)
    assert draw.effective() == pytest.approx(100 / 66)
    assert draw.effective(np.arange(10) >= 8) == pytest.approx(2)
    assert draw.effective(np.zeros(10)) == 0


def test_each_cluster_is_left_out_once() -> None:
    draw = jackknife.draw(np.arange(30) // 3, 5)
    assert (draw.weights[0] == 1).all()
    assert np.array_equal(draw.weights[1:], 1 - np.eye(10))


def test_many_clusters_are_left_out_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(3000)
    one, two = (jackknife.draw(np.arange(3000), seed) for seed in (5, 5))
    assert np.array_equal(one.weights, two.weights)
    assert not np.array_equal(one.weights, jackknife.draw(np.arange(3000), 6).weights)
    assert len(one.weights) == 1 + jackknife.GROUPS
    assert ((one.weights[1:] == 0).sum(axis=0) == 1).all()
    error = one.error(one.means(values))
    monkeypatch.setattr(jackknife, "GROUPS", 3000)
    single = jackknife.draw(np.arange(3000), 5)
    # five standard deviations: of a variance of R normal changes it is sqrt(2 / R), of its root half of that
    assert error == pytest.approx(single.error(single.means(values)), rel=5 * (2 / 1000) ** 0.5 / 2)


def test_the_error_of_a_mean_is_the_textbook_s() -> None:
    values = np.random.default_rng(0).random(50)
    draw = jackknife.draw(np.arange(50), 0)
    assert draw.error(draw.means(values)) == pytest.approx(values.std(ddof=1) / 50**0.5)


def test_few_clusters_that_carry_the_errors_leave_few_degrees_of_freedom() -> None:
    draw = jackknife.draw(np.arange(100), 0)
    one, two, all_of_them = (np.zeros(100), np.zeros(100), np.random.default_rng(0).normal(size=100))
    one[0], two[:2] = 1, 1
    assert draw.freedom(draw.means(one)) == pytest.approx(2, rel=0.1)
    assert draw.freedom(draw.means(two)) == pytest.approx(4, rel=0.1)
    assert draw.freedom(draw.means(all_of_them)) > 60  # of normal values as many as there are clusters
    assert draw.freedom(draw.means(np.arange(100) % 2)) == 99  # all change it alike: no more than there are
    assert draw.freedom(draw.means(all_of_them), np.arange(100) < 2) == 1  # two clusters tell it
    pair = jackknife.draw(np.arange(2), 0)
    assert pair.freedom(pair.means([0.2, 0.9])) == 1


def test_one_error_is_told_by_no_fewer_clusters_than_there_are() -> None:
    """Nothing but the one image that is wrong shows a variance: the scale alone would reach nearly to 0."""
    draw = jackknife.draw(np.arange(100), 0)
    entry = draw.entry(draw.means(np.arange(100) > 0))
    assert entry["low"] == pytest.approx(jackknife.wilson(0.99, 100, float(stats.norm.ppf(0.975)))[0])
    assert entry["value"] < entry["high"] < 1


def test_what_is_not_defined_is_null() -> None:
    draw = jackknife.draw(np.arange(4), 0)
    assert draw.entry(np.full(len(draw.weights), np.nan)) == {"value": None, "low": None, "high": None}
    alone = jackknife.draw(np.zeros(4, dtype=np.int64), 0)
    assert alone.entry(alone.means([1.0, 2, 3, 4]), -np.inf, np.inf) == {"value": 2.5, "low": None, "high": None}


@pytest.mark.parametrize(("clusters", "widest"), [(1, 0.8), (4, 0.5), (100, 0.04)])
def test_all_right_is_no_certainty(clusters: int, widest: float) -> None:
    draw = jackknife.draw(np.arange(3 * clusters) % clusters, 0)
    entry = draw.entry(draw.means(np.ones(3 * clusters)))
    assert entry["value"] == entry["high"] == 1
    assert entry["low"] == pytest.approx(clusters / (clusters + 1.959964**2))  # Wilson's, a cluster counts as an image
    assert 1 - entry["low"] < widest


def test_a_class_with_one_test_image_is_not_certain() -> None:
    truth = np.array([0] * 20 + [1] * 20 + [2])
    table = scores.summarise(truth, np.eye(3)[np.minimum(truth, 1)], np.arange(41), ("a", "b", "c"), 0)
    assert table["recall"]["c"]["value"] == 0
    assert table["recall"]["c"]["high"] > 0.7
    # of three recalls one is unknown: the mean of the others alone could not be so far from the truth
    assert table["balanced_accuracy"]["high"] - table["balanced_accuracy"]["low"] > 0.3


@pytest.mark.parametrize("seed", range(20))
def test_no_estimate_lies_outside_its_interval(seed: int) -> None:
    generator = np.random.default_rng(seed)
    counts, signal = (FEW, MANY)[seed % 2], generator.uniform(0, 6)
    truth, (first, _), group = simulation.sample(counts, generator.random(), signal, generator)
    draw = jackknife.draw(group, seed)
    table = scores.summarise(truth, first, group, ("a", "b", "c"), seed)
    entries = [own for name in table for own in (table[name].values() if name in scores.PER_CLASS else [table[name]])]
    entries.append(scores.calibration_error(first.max(axis=1), simulation.right(truth, first), 10, draw))
    for entry in entries:
        assert entry["value"] is None or entry["low"] <= entry["value"] <= entry["high"]


def test_intervals_of_a_few_clusters_cover_and_percentiles_do_not() -> None:
    """The long version, with the clusters of real data, is benchmarks/interval_coverage.py."""
    for signal in (1.6, 3.5):
        for name, own in simulation.run(FEW, 0.6, signal, 300, compared=False)["here"].items():
            assert np.mean(own) > 0.9, name  # four standard errors of 300 runs below 95%
    strong = simulation.run(FEW, 0.6, 3.5, 30)
    assert np.mean(strong["percentiles"]["recall"]) < 0.7
