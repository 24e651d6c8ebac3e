"""Signals of collapse and accuracy against reference values and known cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tumorxai.pretrain import monitors


@pytest.mark.parametrize("case", ["c0", "c1", "c2", "c3", "tie"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_accuracies_equal_the_reference(golden: Path, case: str, dtype: torch.dtype) -> None:
    data = np.load(golden / "contrastive_metrics.npz", allow_pickle=False)
    f1, f2 = (torch.from_numpy(data[f"{case}_{name}"]).to(dtype) for name in ("f1", "f2"))
    assert monitors.contrastive_accuracy(f1, f2) == pytest.approx(float(data[f"{case}_c_acc"]), abs=1e-12)
    found = monitors.correlation_accuracy(f1, f2)
    assert found[0] == found[1] == pytest.approx(float(data[f"{case}_r_acc"]), abs=1e-12)
    assert found[2] == 0


def test_identical_views_are_always_right_and_shifted_ones_never() -> None:
    f = torch.randn(16, 8)
    assert monitors.contrastive_accuracy(f, f) == 1
    assert monitors.contrastive_accuracy(f, f.roll(1, dims=0)) == 0
    assert monitors.correlation_accuracy(f, f) == (1, 1, 0)
    assert monitors.correlation_accuracy(f, f.roll(1, dims=1)) == (0, 0, 0)


def test_spread_and_rank_of_known_features() -> None:
    spread = torch.randn(4096, 16)
    assert monitors.feature_std(spread) == pytest.approx(1, abs=0.02)
    assert monitors.effective_rank(spread) == pytest.approx(16, abs=0.1)
    collapsed = torch.ones(64, 16)
    assert monitors.feature_std(collapsed) == 0
    assert monitors.effective_rank(collapsed) == pytest.approx(1, abs=0.01)


def scanned(row: list[float]) -> int:
    """XLA's argmax, entry by entry: `best >= next ? best : next`."""
    best, place = row[0], 0
    for i, value in enumerate(row[1:], start=1):
        if not best >= value:
            best, place = value, i
    return place


@pytest.mark.parametrize("dead", [[], [0], [7], [81], [126], [127], [3, 81], [0, 50, 127]])
@pytest.mark.parametrize("in_both", [True, False])
def test_what_a_dead_feature_makes_of_r_acc(dead: list[int], in_both: bool) -> None:
    """Features that correlate with themselves alone, of 128, some of them constant."""
    generator = np.random.default_rng(0)
    f1 = torch.from_numpy(generator.normal(size=(500, 128)))
    f1[:, dead] = 0.0
    f2 = f1 + 0.1 * torch.from_numpy(generator.normal(size=(500, 128))) * (f1 != 0 if in_both else 1)
    plain, nan_wins, share = monitors.correlation_accuracy(f1, f2)
    assert plain == (128 - len(dead)) / 128  # wrong alone
    assert share == len(dead) / 128
    s1, s2 = ((f - f.mean(dim=0)) / f.std(dim=0, correction=0) for f in (f1, f2))
    matrix = s1.T @ s2
    right = sum(scanned(row) == i for square in (matrix, matrix.T) for i, row in enumerate(square.tolist()))
    assert nan_wins == right / 256
    if dead == [81] and in_both:
        assert nan_wins == 46 / 128  # their Barlow Twins
    if dead in ([126], [127]) and in_both:
        assert nan_wins == 1 / 128  # their SimCLR


def test_an_epoch_weights_batches_by_their_size(golden: Path) -> None:
    data = np.load(golden / "contrastive_metrics.npz", allow_pickle=False)
    epoch = monitors.Epoch(3, torch.device("cpu"))
    for case in ("c0", "c1", "c3"):
        f1, f2 = (torch.from_numpy(data[f"{case}_{name}"]) for name in ("f1", "f2"))
        epoch.add("c_acc", monitors.contrastive_accuracy(f1, f2) * len(f1), len(f1))
        epoch.add("r_acc", monitors.correlation_accuracy(f1, f2)[0] * f1.shape[1], f1.shape[1])
        epoch.features.append(f1[:, :24])
    signals = epoch.signals()
    assert signals["c_acc"] == pytest.approx(float(data["running_c_acc"]), abs=1e-12)
    assert signals["r_acc"] == pytest.approx(float(data["running_r_acc"]), abs=1e-12)


def test_an_epoch_goes_on_from_its_state() -> None:
    first, second = (monitors.Epoch(4, torch.device("cpu")) for _ in range(2))
    for step in range(4):
        f1, f2 = torch.randn(2, 300, 8)
        for epoch in (first, second):
            epoch.losses[step] += step
            epoch.watch(f1, f2)
            epoch.add("p_acc", torch.tensor(3), torch.tensor(4))
        state, second = second.state_dict(), monitors.Epoch(4, torch.device("cpu"))
        second.load_state_dict(state)
    assert first.signals() == second.signals()
    assert first.signals()["loss"] == 1.5
    assert first.signals()["p_acc"] == 0.75
    assert sum(map(len, first.features)) == 600  # as many whole batches as hold the last 512


class Two(nn.Module):
    """An encoder and a projection, called for each view or for both at once."""

    def __init__(self, together: bool) -> None:
        super().__init__()
        self.encoder, self.target, self.head = nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(3, 2)
        self.together = together

    def loss(self, v1: Tensor, v2: Tensor) -> Tensor:
        with torch.no_grad():
            self.target(self.encoder.weight.T)
        views = [torch.cat([v1, v2])] if self.together else [v1, v2]
        return torch.cat([self.head(self.encoder(view)) for view in views]).sum()


@pytest.mark.parametrize("together", [True, False])
def test_features_and_projection_are_seen_on_the_way(together: bool) -> None:
    method = Two(together)
    seen, (v1, v2) = monitors.Seen(method, method.encoder), torch.randn(2, 5, 4)
    for _ in range(2):
        method.loss(v1, v2)
        pair, projected = seen.take(5)
        assert pair is not None
        assert projected is not None
        torch.testing.assert_close(pair[0], method.encoder(v1))
        torch.testing.assert_close(pair[1], method.encoder(v2))
        torch.testing.assert_close(projected, method.head(method.encoder(v1)))
        assert not pair[0].requires_grad
        seen.take(5)
    assert seen.take(5) == (None, None)
    method.encoder.eval()
    method.encoder(v1)
    assert seen.take(5)[0] is None


def test_a_kept_teacher_is_watched_in_the_encoders_place() -> None:
    method = Two(together=False)
    teacher = method.add_module("teacher", nn.Linear(4, 3)) or method.teacher
    seen, (v1, v2) = monitors.Seen(method, teacher), torch.randn(2, 5, 4)
    with torch.no_grad():
        teacher(torch.cat([v1, v2]))
    method.loss(v1, v2)
    pair, projected = seen.take(5)
    assert pair is not None
    torch.testing.assert_close(torch.cat(pair), teacher(torch.cat([v1, v2])))
    torch.testing.assert_close(projected, method.head(method.encoder(v1)))


def test_a_collapse_takes_several_epochs_in_a_row_after_the_warm_up() -> None:
    bounds = monitors.bounds({"feature_std": 0.7, "effective_rank": 100.0, "projection_std": 0.4})
    assert bounds == pytest.approx({"feature_std": 0.05, "effective_rank": 2.0, "projection_std": 0.1})
    healthy = {"feature_std": 0.6, "effective_rank": 50.0, "projection_std": 0.15}
    flat = healthy | {"projection_std": 0.09}
    assert monitors.collapsing([healthy] * 5, bounds, 0) == (None, 0)
    assert monitors.collapsing([flat, flat, healthy], bounds, 0) == (None, 0)
    assert monitors.collapsing([healthy, flat, flat], bounds, 0) == ("projection_std", 2)
    assert monitors.collapsing([flat, flat, flat], bounds, 1.5) == ("projection_std", 1)
    assert monitors.collapsing([healthy | {"feature_std": float("nan")}], bounds, 0) == ("feature_std", 1)
