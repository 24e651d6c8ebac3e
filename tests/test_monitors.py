"""Signals of collapse and accuracy against reference values and known cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tumorxai import monitors


@pytest.mark.parametrize("case", ["c0", "c1", "c2", "c3", "tie"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_accuracies_equal_the_reference(golden: Path, case: str, dtype: torch.dtype) -> None:
    data = np.load(golden / "contrastive_metrics.npz", allow_pickle=False)
    f1, f2 = (torch.from_numpy(data[f"{case}_{name}"]).to(dtype) for name in ("f1", "f2"))
    assert monitors.contrastive_accuracy(f1, f2) == pytest.approx(float(data[f"{case}_c_acc"]), abs=1e-12)
    assert monitors.correlation_accuracy(f1, f2) == pytest.approx(float(data[f"{case}_r_acc"]), abs=1e-12)


def test_identical_views_are_always_right_and_shifted_ones_never() -> None:
    f = torch.randn(16, 8)
    assert monitors.contrastive_accuracy(f, f) == 1
    assert monitors.contrastive_accuracy(f, f.roll(1, dims=0)) == 0
    assert monitors.correlation_accuracy(f, f) == 1
    assert monitors.correlation_accuracy(f, f.roll(1, dims=1)) == 0


@pytest.mark.parametrize("dead", [0, 3])
def test_a_dead_feature_counts_as_wrong_alone(dead: int) -> None:
    f = torch.randn(32, 8)
    f[:, dead] = 1.0
    assert monitors.correlation_accuracy(f, f) == pytest.approx(7 / 8)


def test_spread_and_rank_of_known_features() -> None:
    spread = torch.randn(4096, 16)
    assert monitors.feature_std(spread) == pytest.approx(1, abs=0.02)
    assert monitors.effective_rank(spread) == pytest.approx(16, abs=0.1)
    collapsed = torch.ones(64, 16)
    assert monitors.feature_std(collapsed) == 0
    assert monitors.effective_rank(collapsed) == pytest.approx(1, abs=0.01)
