"""Intervals of means."""

from __future__ import annotations

import numpy as np
import pytest

from tumorxai.evaluate import statistics


def test_the_interval_of_a_mean_equals_the_normal_one_for_many_single_images() -> None:
    values = np.random.default_rng(0).normal(5, 2, 1000)
    entry = statistics.mean_interval(values, np.arange(1000), 0)
    error = values.std() / np.sqrt(1000)
    assert entry["value"] == pytest.approx(values.mean())
    assert entry["low"] == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert entry["high"] == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_copies_add_no_certainty() -> None:
    values = np.random.default_rng(0).normal(5, 2, 100)
    once = statistics.mean_interval(values, np.arange(100), 0)
    copied = statistics.mean_interval(np.repeat(values, 7), np.repeat(np.arange(100), 7), 0)
    assert copied == pytest.approx(once)


def test_equal_seeds_pair_the_draws() -> None:
    clusters = np.arange(30) // 3
    one, two = (statistics.resample(clusters, 5) for _ in range(2))
    assert np.array_equal(one[1], two[1])
    assert (one[1].sum(axis=1) == 10).all()
    assert not np.array_equal(one[1], statistics.resample(clusters, 6)[1])
