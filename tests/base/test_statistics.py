"""Paired tests against independent calculations."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tumorxai.base import jackknife, scores, statistics

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import interval_coverage as simulation

COUNTS = np.repeat(np.array([[2, 0, 0], [0, 1, 0], [0, 0, 3], [4, 0, 0]]), 30, axis=0)  # images of each cluster


def test_a_paired_difference_is_surer_than_two_scores() -> None:
    truth, both, group = simulation.sample(COUNTS, 0.5, 1.6, np.random.default_rng(2))
    draw = jackknife.draw(group, 0)
    first, second = (scores.resampled(truth, each, draw)["accuracy"] for each in both)
    found = statistics.difference(first, second, draw)
    assert found["value"] == pytest.approx(first[0] - second[0])
    alone = [draw.entry(values) for values in (first, second)]
    assert found["high"] - found["low"] < sum(entry["high"] - entry["low"] for entry in alone)


def test_the_paired_difference_has_its_level_and_the_detectable_one_its_power() -> None:
    generator, runs, n = np.random.default_rng(0), 2000, 150
    false, found, detectable = 0, 0, []
    far = 2.8016 * 0.3 / np.sqrt(n)
    for _ in range(runs):
        noise = 0.3 * generator.normal(size=n)
        draw = jackknife.draw(np.arange(n), int(generator.integers(2**31)))
        zero = statistics.difference(draw.means(noise), np.zeros(len(draw.weights)), draw)
        detectable.append(zero["detectable"])
        false += zero["p"] < 0.05
        found += statistics.difference(draw.means(noise + far), np.zeros(len(draw.weights)), draw)["p"] < 0.05
    assert 0.03 < false / runs < 0.07  # four standard errors
    assert 0.76 < found / runs < 0.84
    assert np.mean(detectable) == pytest.approx(far, rel=0.05)


@pytest.mark.parametrize("tests", [1, 6])
@pytest.mark.parametrize("groups", [2, 3, 8, 60])
def test_the_interval_of_a_difference_and_its_p_value_say_the_same(groups: int, tests: int) -> None:
    generator = np.random.default_rng(groups)
    clear = 0
    for _ in range(60):
        clusters = generator.integers(0, groups, 5 * groups)
        strength = generator.random()
        first, second = (generator.random((2, len(clusters))) < [[strength], [generator.random()]]).astype(float)
        draw = jackknife.draw(clusters, int(generator.integers(2**31)))
        found = statistics.difference(draw.means(first), draw.means(second), draw, tests)
        assert found["low"] <= found["value"] <= found["high"]
        assert (found["p"] < 0.05) == (not found["low"] <= 0 <= found["high"])
        clear += found["p"] < 0.05
    assert clear > 0 or groups < 8


def test_many_tests_make_wider_intervals_and_larger_p_values() -> None:
    truth, both, group = simulation.sample(COUNTS, 0.5, 1.6, np.random.default_rng(3))
    draw = jackknife.draw(group, 0)
    first, second = (draw.means(simulation.right(truth, each)) for each in both)
    one, six = (statistics.difference(first, second, draw, tests) for tests in (1, 6))
    assert six["low"] < one["low"] < one["high"] < six["high"]
    assert six["p"] == pytest.approx(min(1.0, 6 * one["p"]))


def test_classifiers_that_never_differ_may_differ_on_more_images() -> None:
    draw = jackknife.draw(np.arange(20) // 2, 0)
    right = draw.means(np.arange(20) < 15)
    same = statistics.difference(right, right, draw)
    assert (same["value"], same["p"], same["detectable"]) == (0, 1, None)
    assert -same["low"] == same["high"] == pytest.approx(1.959964**2 / (10 + 1.959964**2))  # 0 of 10, after Wilson
    assert statistics.detectable(0.0, 10) is None


def naive_delong(positive: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """DeLong et al. 1988 with a loop over all pairs: both areas and the standard error of their difference."""
    x = [values[positive] for values in (first, second)]
    y = [values[~positive] for values in (first, second)]
    wins = [
        np.array([[1.0 if a > b else 0.5 if a == b else 0.0 for b in ys] for a in xs])
        for xs, ys in zip(x, y, strict=True)
    ]
    s10 = np.cov([w.mean(axis=1) for w in wins])
    s01 = np.cov([w.mean(axis=0) for w in wins])
    s = s10 / len(x[0]) + s01 / len(y[0])
    return wins[0].mean(), wins[1].mean(), float(np.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1]))


@pytest.mark.parametrize("digits", [1, 9])
def test_delong_of_single_images_equals_the_loop_over_pairs(digits: int) -> None:
    generator = np.random.default_rng(digits)
    positive = generator.random(70) < 0.4
    first, second = (positive + generator.normal(size=(2, 70)) * [[0.8], [1.2]]).round(digits)
    a, b, error = naive_delong(positive, first, second)
    found = statistics.delong(positive, first, second, np.arange(70))
    assert [found["first"], found["second"], found["error"]] == pytest.approx([a, b, error], abs=1e-12)
    assert found["p"] == pytest.approx(2 * stats.norm.sf(abs(a - b) / error), abs=1e-12)


def test_delong_of_copies_is_about_as_sure_as_of_the_originals() -> None:
    generator = np.random.default_rng(5)
    positive = generator.random(200) < 0.4
    first, second = positive + generator.normal(size=(2, 200)) * [[0.8], [1.2]]
    once = statistics.delong(positive, first, second, np.arange(200))
    copied = statistics.delong(*(np.repeat(v, 4) for v in (positive, first, second)), np.repeat(np.arange(200), 4))
    assert copied["error"] == pytest.approx(once["error"], rel=1e-6)
    assert statistics.delong(positive, first, first, np.arange(200))["p"] == 1


def test_delong_and_the_jackknife_agree_where_groups_mix_the_classes() -> None:
    generator = np.random.default_rng(8)
    group = np.repeat(np.arange(150), 4)
    positive = generator.random(600) < 0.5
    shared = generator.normal(size=150)[group]
    first, second = 0.8 * positive + shared + generator.normal(size=(2, 600))
    found = statistics.delong(positive, first, second, group)
    draw = jackknife.draw(group, 0)
    areas = [scores.ranking(positive, values, draw)[0] for values in (first, second)]
    assert found["error"] == pytest.approx(
        draw.error(areas[0] - areas[1]), rel=0.02
    )  # of 150 clusters, one weighs 1/150


def test_holm_equals_the_definition() -> None:
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.9, 0.001]) == pytest.approx([0.9, 0.002])
    assert statistics.holm([]) == []
    assert statistics.holm([0.6, 0.7]) == [1.0, 1.0]
