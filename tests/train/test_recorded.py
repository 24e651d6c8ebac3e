"""Fine-tuning and supervised training as they run on a GPU: views from tables of draws, steps recorded and replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from numpy.testing import assert_allclose

from tests.recording import again
from tests.tolerance import half_the_digits
from tumorxai import config
from tumorxai.base.dataset import Dataset
from tumorxai.inputs.unfinished import Unfinished
from tumorxai.networks import graphs
from tumorxai.networks.store import Ahead
from tumorxai.train import training
from tumorxai.train.training import Training

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CPU = torch.device("cpu")


def made(
    params: config.Params, toy: Path, accelerator: str = "cpu", recorded: str = "auto", precision: Any = "32-true"
) -> Training:
    """A supervised training of 8 epochs of 4 steps."""
    dataset = Dataset.load(toy)
    recipe = params.supervised.model_copy(update={"epochs": 8, "patience": 8, "batch_size": 16})
    labelled = dataset.labelled(1.0)
    torch.manual_seed(0)
    classifier = training.start(params.model, dataset, None, labelled)
    fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)
    return Training(dataset, classifier, recipe, labelled, 0, "supervised", fabric, recorded)


def trained(one: Training, folder: Path) -> pd.DataFrame:
    """The curve."""
    return one.run(Unfinished(folder, "run", {}))[1]


@pytest.mark.parametrize("ahead", [False, True])
def test_a_replayed_training_is_the_training(
    params: config.Params, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    """To the bit, with images that lie on the device and with images that are copied ahead."""
    monkeypatch.setattr(graphs, "record", again)
    monkeypatch.setattr(Training, "on_host", False)
    runs = [made(params, toy) for _ in range(2)]
    for one, why in zip(runs, ("not asked for", None), strict=True):
        one.record(why)
        if ahead:
            one.store = Ahead(one.dataset.images, CPU)
    curves = [trained(one, tmp_path / str(number)) for number, one in enumerate(runs)]
    assert [one.halves.state for one in runs] == ["not asked for", "recorded"]
    pd.testing.assert_frame_equal(*curves)
    states = [one.classifier.state_dict() for one in runs]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_the_views_of_a_gpu_are_those_of_the_cpu(
    params: config.Params, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to rounding, as long as that has not grown: over the first epoch."""
    losses = []
    for on_host in (True, False):
        monkeypatch.setattr(Training, "on_host", on_host)
        one = made(params, toy)
        one._begin(0)
        for step in range(one.per_epoch):
            one._step(step)
        losses.append(one.losses.numpy())
    assert_allclose(losses[0], losses[1], rtol=half_the_digits(torch.float32))
    assert np.ptp(losses[0]) > 0.01


@GPU
def test_no_step_on_a_gpu_waits_for_it(params: config.Params, toy: Path) -> None:
    one = made(params, toy, "cuda")
    one._begin(0)
    for step in range(graphs.WARM + 1):  # the last records
        one._step(step)
    assert one.halves.state == "recorded"
    one._begin(1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(one.per_epoch, 2 * one.per_epoch):
            one._step(step)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@GPU
def test_a_recorded_training_on_a_gpu_learns_what_others_do(params: config.Params, toy: Path, tmp_path: Path) -> None:
    losses = []
    for recorded in ("auto", "off"):
        one = made(params, toy, "cuda", recorded)
        one._begin(0)
        for step in range(one.per_epoch):  # the last is replayed
            one._step(step)
        losses.append(one.losses.cpu().numpy())
    assert_allclose(losses[0], losses[1], rtol=half_the_digits(torch.float32))
