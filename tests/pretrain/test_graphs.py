"""Recorded steps: the same as steps taken one by one, and a word where they cannot be."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from tests.recording import again, assert_same
from tests.tolerance import half_the_digits
from tumorxai import config, methods
from tumorxai.errors import UserError
from tumorxai.inputs.unfinished import Unfinished
from tumorxai.networks import encoders, graphs, schedules
from tumorxai.networks.batches import Batches
from tumorxai.networks.graphs import Fixed
from tumorxai.pretrain.loop import Found, Held, Loop, obstacle
from tumorxai.pretrain.online_probe import Probe

CPU = torch.device("cpu")
SMALL = {"hidden": 16, "projection": 8}
SETTINGS = {"nnclr": SMALL | {"support": 32, "predictor_hidden": 16}, "joint": {}}
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def made(params: config.Params, name: str, accelerator: str = "cpu", optimizer: str = "adamw", **changes: Any) -> Loop:
    """A loop on images of noise: 12 steps of 8 images."""
    content = params.model_dump() | {"method": name}
    content["methods"][name] = SETTINGS.get(name, SMALL) | {
        "optimizer": {"name": optimizer, "lr": 0.1, "weight_decay": 0.01}
    }
    content["pretrain"] |= {"batch_size": 8, "epochs": 3, "precision": "32-true", **changes}
    params = config.Params.model_validate(content)
    fabric = Fabric(accelerator=accelerator, devices=1, precision=content["pretrain"]["precision"])
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 32, 32), dtype=np.uint8)
    torch.manual_seed(0)
    encoder = encoders.build(params.model, 1, 32)
    width = encoders.width(encoder, 1, 32)
    method = methods.load(name, encoder, width, params.methods[name], 3)
    labels = torch.arange(40) % 3
    drawn = Batches(images, np.arange(32), labels, method.views(), 0.5, 0.3, 8, 0, fabric.device)
    held = Held(np.arange(32, 40), labels, every_epoch=True)
    return Loop(params, fabric, method, drawn, Probe(width, 3, fabric.device), held)


@pytest.mark.parametrize(("at_once", "optimizer"), [(False, "adamw"), (True, "adamw"), (True, "sgd"), (True, "lars")])
@pytest.mark.parametrize("name", ["simclr", "byol", "nnclr"])
def test_a_replayed_run_is_the_run(
    params: config.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, at_once: bool, optimizer: str
) -> None:
    """To the bit: weights, queue, teacher, probe and every signal, through buffers that are used again and again."""
    monkeypatch.setattr(graphs, "record", again)
    monkeypatch.setattr(Batches, "on_host", not at_once)
    runs = []
    for why in ("not asked for", None):
        loop = made(params, name, optimizer=optimizer, clip_norm=0.5)
        loop.record(why)
        loop.train(Unfinished(tmp_path / str(why), "run", {}), tmp_path / "curves")
        runs.append(loop)
    assert [run.halves.learn.state for run in runs] == ["not asked for", "recorded"]
    by_hand = "the optimiser's learning rates come from the host"
    assert [run.halves.end.state for run in runs] == ["not asked for", by_hand if runs[1].rates.on_host else "recorded"]
    assert runs[1].rates.on_host == (not at_once or optimizer == "lars")
    assert_same(*runs)


@pytest.mark.parametrize("name", ["nnclr", "byol"])
def test_a_replayed_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    params: config.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The one that goes on records graphs of its own, after steps taken as usual, with rates on the device."""
    monkeypatch.setattr(graphs, "record", again)
    monkeypatch.setattr(Batches, "on_host", False)

    def loop() -> Loop:
        one = made(params, name)
        one.record(None)
        return one

    whole, cut, resumed = loop(), loop(), loop()
    whole.train(Unfinished(tmp_path / "none", "run", {}), tmp_path / "whole")
    follow, steps = cut.method.after_step, iter(range(12))

    def followed(progress: Any) -> None:
        follow(progress)
        if next(steps) == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(cut.method, "after_step", followed)
    with pytest.raises(UserError, match="stopped by a signal after step 6 of 12"):
        cut.train(Unfinished(tmp_path / "a", "run", {}), tmp_path / "cut")
    assert cut.halves.state == "recorded"
    assert resumed.train(Unfinished(tmp_path / "a", "run", {}), tmp_path / "cut") == 6
    assert resumed.halves.state == "recorded"
    assert_same(whole, resumed)


def fixed(work: Callable[[Sequence[Tensor], float], Found], module: nn.Module) -> Fixed:
    return Fixed(work, module, CPU, None)


def linear(given: Sequence[Tensor], module: nn.Module) -> Found:
    loss = module(given[0]).sum()
    loss.backward()
    return Found(loss.detach(), [], {}, {}, None)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_rates_on_the_device_are_those_of_the_host(
    params: config.Params, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """And the teacher's momentum: the same run up to rounding, from the same views."""
    loops = []
    for on_host in (True, False):
        loop = made(params, "byol", optimizer=optimizer)
        loop.rates = schedules.Rates(loop.optimizer, CPU, on_host)
        loop.record("not asked for")
        loop.method.train()
        for step in range(3):  # before rounding has grown
            loop.step(step)
        loops.append(loop)
    host, device = loops
    assert isinstance(device.optimizer.param_groups[0]["lr"], Tensor)
    last = [float(loop.optimizer.param_groups[0]["lr"]) for loop in loops]
    assert last[0] != host.rates.peaks[0]
    assert last == pytest.approx([last[0]] * 2, rel=half_the_digits(torch.float32))
    assert len(set(host.epoch.losses[:3].tolist())) == 3
    torch.testing.assert_close(
        host.epoch.losses[:3], device.epoch.losses[:3], rtol=half_the_digits(torch.float32), atol=0
    )
    teachers = (loop.method.target_encoder.parameters() for loop in loops)
    for one, other in zip(*teachers, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=half_the_digits(torch.float32))


def test_a_teacher_follows_by_its_equation() -> None:
    student, teacher, scalar = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, 2)
    scalar.load_state_dict(teacher.state_dict())
    wanted = 0.9 * teacher.weight.double() + 0.1 * student.weight.double()
    schedules.follow(student, teacher, 0.9)
    schedules.follow(student, scalar, torch.tensor(0.9))
    for found in (teacher, scalar):
        torch.testing.assert_close(found.weight.double(), wanted, rtol=half_the_digits(torch.float32), atol=0)


def test_the_end_of_a_step_is_not_recorded_where_its_gradients_move(
    params: config.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "record", again)
    monkeypatch.setattr(Batches, "on_host", False)
    loop = made(params, "simclr")
    loop.record(None)
    loop.halves.learn.stop("the step waits for the device")
    loop.method.train()
    for step in range(graphs.WARM + 2):
        loop.step(step)
    assert loop.halves.end.state == "the step waits for the device"


def test_what_cannot_be_recorded_is_told_and_goes_on_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(work: Callable[[], Any], stream: Any) -> Callable[[], Any]:
        work()  # as far as it comes: gradients are left behind
        raise RuntimeError("operation not permitted when stream is capturing\nand a long trace")

    monkeypatch.setattr(graphs, "record", refused)
    module = nn.Linear(2, 1)
    step = fixed(lambda given, progress: linear(given, module), module)
    for _ in range(graphs.WARM + 2):
        module.zero_grad()
        step([torch.ones(1, 2)], 0.0, (0, 1))
        assert module.weight.grad is not None
        assert torch.equal(module.weight.grad, torch.ones(1, 2))  # once, not added to what the try left
    assert step.state == "operation not permitted when stream is capturing"
    assert step.replay is None


def test_a_step_that_cannot_be_recorded_keeps_the_gradients_that_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a step takes those that the step before it has left."""

    def refused(work: Callable[[], Any], stream: Any) -> Callable[[], Any]:
        raise RuntimeError("no")

    monkeypatch.setattr(graphs, "record", refused)
    module = nn.Linear(2, 1)
    taken = torch.optim.SGD(module.parameters(), lr=1.0)
    end = Fixed(lambda given, progress: taken.step(), module, CPU, None)
    for _ in range(graphs.WARM + 2):
        before = module.weight.detach().clone()
        module.zero_grad()
        linear([torch.ones(1, 2)], module)
        end([], 0.0)
        assert torch.equal(module.weight.detach(), before - 1)
    assert end.state == "no"


def test_a_buffer_that_is_replaced_is_put_back_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph would read the old tensor at each replay: the mean of the last step would never arrive."""
    module = nn.BatchNorm1d(2)

    def work(given: Sequence[Tensor], progress: float) -> Found:
        found = linear(given, module)
        module.running_mean = module.running_mean + 1
        return found

    def recorded(work: Callable[[], Any], stream: Any) -> Callable[[], Any]:
        work()
        return work

    monkeypatch.setattr(graphs, "record", recorded)
    step = fixed(work, module)
    for i in range(graphs.WARM + 2):
        before = module.running_mean.clone()
        step([torch.ones(4, 2)], 0.0, (0, 1))
        assert module.running_mean[0] > before[0], i
    assert step.state == "the step puts a new tensor in the place of the buffer running_mean"


def test_the_gradients_of_a_replay_are_there_whoever_dropped_them(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Linear(2, 1)

    def recorded(work: Callable[[], Any], stream: Any) -> Callable[[], Any]:
        found = work()
        return lambda: found

    monkeypatch.setattr(graphs, "record", recorded)
    step = fixed(lambda given, progress: linear(given, module), module)
    for _ in range(graphs.WARM + 3):
        module.zero_grad(set_to_none=True)
        step([torch.ones(1, 2)], 0.0, (0, 1))
        assert module.weight.grad is not None


def test_why_a_run_is_not_recorded(params: config.Params) -> None:
    on_gpu = type("Fabric", (), {"device": torch.device("cuda"), "world_size": 1})()
    together = type("Fabric", (), {"device": torch.device("cuda"), "world_size": 2})()
    settings = params.pretrain
    simclr, byol = (made(params, name).method for name in ("simclr", "byol"))
    assert obstacle(settings, on_gpu, simclr, "simclr") is None
    assert obstacle(settings, on_gpu, byol, "byol") is None  # only its teacher, outside, follows the progress
    off = settings.model_copy(update={"graphs": "off"})
    parts = settings.model_copy(update={"accumulate": 2})
    assert obstacle(off, on_gpu, simclr, "simclr") == "pretrain.graphs is off"
    assert obstacle(settings, Fabric(accelerator="cpu"), simclr, "simclr") == "the device is cpu, not cuda"
    assert obstacle(settings, together, simclr, "simclr") == "several processes share a batch"
    assert obstacle(parts, on_gpu, simclr, "simclr") == "pretrain.accumulate is above 1"


@pytest.mark.parametrize("name", config.method_names())
def test_methods_whose_loss_looks_at_the_progress_are_known(name: str) -> None:
    """Read off the code, and here off a list: a loss that changes with time must not be recorded."""
    module = __import__(f"tumorxai.methods.{name}", fromlist=["Method"])
    assert graphs.reads(module.Method.loss, "progress") == (name in ("dino", "dinov2", "swav"))


def test_a_parameter_is_read_in_whatever_way() -> None:
    def inner(progress: float) -> Any:
        return lambda: progress

    assert graphs.reads(inner, "progress")
    assert graphs.reads(lambda a, progress: (a, progress), "progress")
    assert not graphs.reads(lambda a, progress: a, "progress")
    assert graphs.reads(min, "progress")  # it has no code to look at


def test_a_loss_that_does_not_encode_whole_views_is_not_recorded(
    params: config.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "record", again)
    loop = made(params, "simclr")
    loop.record(None)
    monkeypatch.setattr(loop.seen, "take", lambda count: (None, None))
    loop.train(Unfinished(tmp_path / "none", "run", {}), tmp_path / "curves")
    assert loop.halves.learn.state == "the loss of simclr does not encode whole views"
    assert loop.history[-1]["c_acc"] >= 0


@GPU
@pytest.mark.parametrize("recorded", ["auto", "off"])
@pytest.mark.parametrize("name", ["simclr", "byol", "nnclr", "mocov3", "barlow_twins", "vicreg", "supcon", "joint"])
def test_no_step_on_a_gpu_waits_for_it(params: config.Params, name: str, recorded: str) -> None:
    loop = made(params, name, "cuda", graphs=recorded, clip_norm=0.5)
    loop.method.train()
    for step in range(graphs.WARM + 1):  # the first finds the bounds, the last records
        loop.step(step)
    assert loop.halves.state == ("recorded" if recorded == "auto" else "pretrain.graphs is off")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(graphs.WARM + 1, loop.steps):
            loop.step(step)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@GPU
@pytest.mark.parametrize("name", ["simclr", "byol", "nnclr"])
def test_a_recorded_run_on_a_gpu_learns_what_others_do(params: config.Params, tmp_path: Path, name: str) -> None:
    losses = []
    for recorded in ("auto", "off"):
        loop = made(params, name, "cuda", graphs=recorded, clip_norm=0.5)
        loop.train(Unfinished(tmp_path / recorded, "run", {}), tmp_path / "curves")
        losses.append([signals["loss"] for signals in loop.history])
    assert losses[0] == pytest.approx(losses[1], rel=half_the_digits(torch.float32))


@GPU
def test_views_on_a_gpu_are_those_of_the_cpu(params: config.Params) -> None:
    cpu, gpu = made(params, "byol").batches, made(params, "byol", "cuda").batches
    for one, other in zip(cpu.draw(1, range(8)), gpu.draw(1, range(8)), strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=0, atol=half_the_digits(torch.float32))
