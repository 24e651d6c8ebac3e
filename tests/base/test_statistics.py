"""Intervals that cover, and paired tests against independent calculations."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tumorxai.base import bootstrap, scores, statistics

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import interval_coverage as simulation


def test_the_interval_of_a_mean_equals_the_normal_one_for_many_single_images() -> None:
    values = np.random.default_rng(0).normal(5, 2, 1000)
    entry = statistics.mean_interval(values, np.arange(1000), 0)
    error = values.std() / np.sqrt(1000)
    assert entry["value"] == pytest.approx(values.mean())
    assert entry["low"] == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert entry["high"] == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_copies_add_no_certainty() -> None:
    values = np.random.default_rng(0).normal(5, 2, 100)
    once = statistics.mean_interval(values, np.arange(100), 0)
    copied = statistics.mean_interval(np.repeat(values, 7), np.repeat(np.arange(100), 7), 0)
    assert copied == pytest.approx(once)


def test_equal_seeds_pair_the_draws() -> None:
    clusters = np.arange(30) // 3
    one, two = (bootstrap.draw(clusters, 5) for _ in range(2))
    assert np.array_equal(one.weights, two.weights)
    assert (one.weights[0] == 1).all()
    assert (one.weights.sum(axis=1) == 10).all()
    assert not np.array_equal(one.weights, bootstrap.draw(clusters, 6).weights)


def test_resamples_without_a_value_are_left_out_and_a_sample_without_one_has_no_interval() -> None:
    assert bootstrap.entry(np.array([2.0, 1.0, np.nan, 3.0]))["high"] == pytest.approx(2.95)
    assert bootstrap.entry(np.array([np.nan, 1.0])) == {"value": None, "low": None, "high": None}


def test_intervals_by_group_cover_and_those_by_image_do_not() -> None:
    """The long version with every score is benchmarks/interval_coverage.py."""
    generator = np.random.default_rng(0)
    truth, both, _ = simulation.sample(30_000, 0.8, generator)
    real = (both[0].argmax(axis=1) == truth).mean()
    runs, covered = 300, {"groups": 0, "images": 0}
    for _ in range(runs):
        truth, both, group = simulation.sample(120, 0.8, generator)
        correct = both[0].argmax(axis=1) == truth
        for kind, clusters in (("groups", group), ("images", np.arange(len(group)))):
            entry = statistics.mean_interval(correct, clusters, int(generator.integers(2**31)))
            covered[kind] += entry["low"] <= real <= entry["high"]
    assert 0.92 < covered["groups"] / runs < 0.98  # 95% within 2.7 standard errors of 300 runs
    assert covered["images"] / runs < 0.9


def test_a_paired_difference_is_surer_than_two_scores() -> None:
    truth, both, group = simulation.sample(200, 0.5, np.random.default_rng(2))
    draw = bootstrap.draw(group, 0)
    first, second = (scores.resampled(truth, each, draw)["accuracy"] for each in both)
    found = statistics.difference(first, second)
    assert found["value"] == pytest.approx(first[0] - second[0])
    alone = [bootstrap.entry(values) for values in (first, second)]
    assert found["high"] - found["low"] < sum(entry["high"] - entry["low"] for entry in alone)
    same = statistics.difference(first, first)
    assert (same["value"], same["p"]) == (0, 1)


def test_the_paired_difference_has_its_level_and_the_detectable_one_its_power() -> None:
    generator, runs, n = np.random.default_rng(0), 600, 150
    false, found, detectable = 0, 0, []
    for _ in range(runs):
        noise = generator.normal(size=n)
        draw = bootstrap.draw(np.arange(n), int(generator.integers(2**31)))
        zero = statistics.difference(draw.means(noise), np.zeros(len(draw.weights)))
        detectable.append(zero["detectable"])
        false += zero["p"] < 0.05
        shifted = statistics.difference(draw.means(noise + 2.8016 / np.sqrt(n)), np.zeros(len(draw.weights)))
        found += shifted["p"] < 0.05
    assert 0.025 < false / runs < 0.08
    assert 0.74 < found / runs < 0.86
    assert np.mean(detectable) == pytest.approx(2.8016 / np.sqrt(n), rel=0.03)


@pytest.mark.parametrize("seed", range(10))
def test_mcnemar_of_single_images_is_the_exact_binomial_test(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = generator.random((2, 80)) < [[0.8], [0.7]]
    b, c = (first & ~second).sum(), (second & ~first).sum()
    expected = stats.binomtest(int(b), int(b + c), 0.5).pvalue
    assert statistics.mcnemar(first, second, np.arange(80)) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_of_clusters_enumerates_their_signs() -> None:
    generator = np.random.default_rng(3)
    clusters = generator.integers(0, 9, 40)
    first, second = generator.random((2, 40)) < [[0.8], [0.5]]
    surplus = [int(first[clusters == c].sum()) - int(second[clusters == c].sum()) for c in range(9)]
    sums = [
        abs(sum(s * x for s, x in zip(signs, surplus, strict=True))) for signs in itertools.product((-1, 1), repeat=9)
    ]
    expected = np.mean(np.array(sums) >= abs(sum(surplus)))
    assert statistics.mcnemar(first, second, clusters) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_of_alike_classifiers_finds_nothing_and_copies_add_no_evidence() -> None:
    first = np.random.default_rng(0).random(30) < 0.7
    assert statistics.mcnemar(first, first, np.arange(30)) == 1
    second = first.copy()
    second[np.flatnonzero(first)[:6]] = False
    once = statistics.mcnemar(first, second, np.arange(30))
    copied = statistics.mcnemar(np.repeat(first, 5), np.repeat(second, 5), np.repeat(np.arange(30), 5))
    assert copied == pytest.approx(once)
    assert statistics.mcnemar(np.repeat(first, 5), np.repeat(second, 5), np.arange(150)) < once / 100


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


def test_delong_and_the_bootstrap_agree_where_groups_mix_the_classes() -> None:
    generator = np.random.default_rng(8)
    group = np.repeat(np.arange(150), 4)
    positive = generator.random(600) < 0.5
    shared = generator.normal(size=150)[group]
    first, second = 0.8 * positive + shared + generator.normal(size=(2, 600))
    found = statistics.delong(positive, first, second, group)
    draw = bootstrap.draw(group, 0)
    areas = [scores.ranking(positive, values, draw)[0] for values in (first, second)]
    assert found["error"] == pytest.approx((areas[0] - areas[1])[1:].std(), rel=0.08)


def test_holm_equals_the_definition() -> None:
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.9, 0.001]) == pytest.approx([0.9, 0.002])
    assert statistics.holm([]) == []
    assert statistics.holm([0.6, 0.7]) == [1.0, 1.0]
