"""The trial of torch.compile: a choice, and no trace of itself in what is learned."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pretrain.test_graphs import GPU, made
from tests.recording import assert_same
from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.inputs.unfinished import Unfinished
from tumorxai.networks.batches import Batches
from tumorxai.pretrain import trial
from tumorxai.pretrain.loop import Loop

REAL = trial.obstacle


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """On the CPU, in few steps, traced as always but without the compiler behind, which takes minutes."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    monkeypatch.setattr(
        trial, "obstacle", lambda loop, first: None if loop.params.pretrain.compile == "auto" else "not asked for"
    )
    monkeypatch.setattr(trial, "TIMED", 2)
    monkeypatch.setattr(trial, "LEAST", 0.0)
    monkeypatch.setattr(Batches, "on_host", False)
    return monkeypatch


def trained(loop: Loop, folder: Path) -> Loop:
    loop.train(Unfinished(folder, "run", {}), folder / "curves")
    return loop


@pytest.mark.parametrize(("gain", "compiled"), [(0.0, True), (float("inf"), False)])
@pytest.mark.parametrize("name", ["nnclr", "byol"])
def test_a_trial_leaves_no_trace(
    params: config.Params, tmp_path: Path, tried: pytest.MonkeyPatch, name: str, gain: float, compiled: bool
) -> None:
    """Queue, teacher, statistics, optimiser, probe, sums and draws are what they are without one, to the bit."""
    tried.setattr(trial, "GAIN", gain)
    asked = trained(made(params, name), tmp_path / "asked")
    plain = trained(made(params, name, compile=compiled), tmp_path / "plain")
    assert plain.tried == ""
    assert asked.compiled == compiled
    assert asked.tried.startswith("tried: ")
    assert asked.tried.endswith(" compiled; compiled" if compiled else "; not compiled")
    assert_same(asked, plain)


def test_a_short_training_is_not_kept_waiting(params: config.Params, tmp_path: Path, tried: pytest.MonkeyPatch) -> None:
    tried.setattr(trial, "LEAST", 1e9)
    loop = trained(made(params, "simclr"), tmp_path)
    assert not loop.compiled
    assert loop.tried.startswith("not tried: the steps left take about ")


def test_what_cannot_be_compiled_is_told_and_trained_as_it_is(
    params: config.Params, tmp_path: Path, tried: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(forward: Any) -> Any:
        def failing(*given: Any) -> Any:
            raise RuntimeError("no compiler\nand a long trace")

        return failing

    tried.setattr(torch, "compile", refuse)
    loop = trained(made(params, "simclr"), tmp_path / "asked")
    assert loop.tried == "tried and failed: RuntimeError: no compiler"
    assert "note: torch.compile tried and failed: RuntimeError: no compiler" in capsys.readouterr().err
    assert_same(loop, trained(made(params, "simclr", compile=False), tmp_path / "plain"))


def test_a_run_that_goes_on_keeps_to_the_choice(
    params: config.Params, tmp_path: Path, tried: pytest.MonkeyPatch
) -> None:
    tried.setattr(trial, "GAIN", 0.0)
    cut, resumed = made(params, "simclr"), made(params, "simclr")

    def stop(progress: Any) -> None:
        if cut.tried:  # in the training itself
            os.kill(os.getpid(), signal.SIGTERM)

    tried.setattr(cut.method, "after_step", stop)
    with pytest.raises(UserError, match="stopped by a signal"):
        cut.train(Unfinished(tmp_path, "run", {}), tmp_path / "curves")
    tried.setattr(trial, "run", None)  # not to be called
    trained(resumed, tmp_path)
    assert resumed.compiled
    assert resumed.tried == cut.tried


def test_where_there_is_no_trial(params: config.Params) -> None:
    loop, gpu = made(params, "simclr"), type("Fabric", (), {"device": torch.device("cuda"), "world_size": 1})()
    assert REAL(loop, 0) == "the device is cpu, not cuda"
    loop.fabric = gpu
    assert REAL(loop, 0) == "fewer steps are left than a trial takes"
    loop.steps = 10**6
    assert REAL(loop, 0) is None
    loop.fabric = type("Fabric", (), {"device": torch.device("cuda"), "world_size": 2})()
    assert REAL(loop, 0) == "several processes share a batch"
    assert REAL(made(params, "simclr", compile=False), 0) == "pretrain.compile is false"
    assert REAL(made(params, "simclr", compile=True), 0) == "pretrain.compile is true"


@GPU
def test_a_trial_on_a_gpu_leaves_the_run_as_it_is(
    params: config.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the compiler itself; up to what it rounds otherwise."""
    monkeypatch.setattr(trial, "TIMED", 2)
    monkeypatch.setattr(trial, "LEAST", 0.0)
    asked = trained(made(params, "simclr", "cuda"), tmp_path / "asked")
    plain = trained(made(params, "simclr", "cuda", compile=False), tmp_path / "plain")
    assert asked.tried.startswith("tried: ")
    assert asked.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], rel=0.01)
