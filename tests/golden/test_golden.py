"""The stored references are what their formulas give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden import contrastive_metrics, losses, vit_cx

# From the stored inputs, so that no draw that rounding puts on another point of the grid counts as a mistake.
FORMULAS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "losses": losses.losses,
    "contrastive_metrics": contrastive_metrics.contrastive_metrics,
    "vit_cx": lambda inputs: vit_cx.vit_cx(inputs, vit_cx.HEADS),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_made_again_they_are_the_same(golden: Path, name: str) -> None:
    with np.load(golden / f"{name}.npz", allow_pickle=False) as file:
        stored = dict(file)
    found = FORMULAS[name](stored)
    for key, value in found.items():
        np.testing.assert_allclose(value, stored[key], rtol=1e-11, atol=1e-11, err_msg=key)


def test_no_reference_is_decided_by_a_hair(golden: Path) -> None:
    """Or another CPU could decide otherwise: the largest of a row, and the distance at which merging stops."""
    with np.load(golden / "contrastive_metrics.npz", allow_pickle=False) as file:
        for case in ("c0", "c1", "c2", "c3"):
            assert contrastive_metrics.gap(*(file[f"{case}_{key}"].astype(np.float64) for key in ("f1", "f2"))) > 1e-4
            assert 0 < file[f"{case}_c_acc"] < 1
            assert 0 < file[f"{case}_r_acc"] < 1
    with np.load(golden / "vit_cx.npz", allow_pickle=False) as file:
        for i in range(3):
            assert abs(file[f"i{i}_merge_heights"] - 0.1).min() > 1e-3
            assert np.ptp(file[f"i{i}_saliency"]) > 1e-3  # the tests allow 2e-6


def test_the_inputs_are_drawn_alike_everywhere(golden: Path) -> None:
    draws = {"losses": losses.loss_inputs, "contrastive_metrics": contrastive_metrics.contrastive_inputs}
    for name, draw in draws.items():
        with np.load(golden / f"{name}.npz", allow_pickle=False) as file:
            for key, value in draw().items():
                np.testing.assert_allclose(file[key], value, rtol=1e-6, atol=1.5 / 1024, err_msg=key)
