"""A training with labels that was interrupted ends as if it had not been, and takes up nothing that others made."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from benchmarks import kills

from tumorxai import config
from tumorxai.base.dataset import read_table
from tumorxai.errors import UserError
from tumorxai.files import write_csv
from tumorxai.inputs import unfinished
from tumorxai.networks import checkpoint, engine
from tumorxai.train import finetune
from tumorxai.train.training import Training

ROOT = Path(__file__).resolve().parents[2]
STEPS = 4 * (72 // 16)  # of the toy images' training side, in four epochs


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(params: config.Params, data: Path, encoder: Path | None, out: Path) -> dict[str, bytes]:
    """All that a training leaves, by name."""
    recipe = params.supervised if encoder is None else params.finetune
    finetune.run(params, recipe, data, encoder, out / "m.safetensors", out / "p.csv", out / "c.csv")
    return {path.name: path.read_bytes() for path in out.iterdir()}


def stopping(monkeypatch: pytest.MonkeyPatch, at: int) -> list[int]:
    """Send SIGTERM after a step, once; the steps that are taken."""
    taken: list[int] = []
    left = [at]
    real = Training._step

    def step(self: Training, number: int) -> None:
        real(self, number)
        taken.append(number)
        if number in left:
            left.clear()
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Training, "_step", step)
    return taken


def unvalidated(toy: Path, folder: Path) -> Path:
    """The toy images without a validation side."""
    shutil.copytree(toy, folder)
    table = read_table(folder / "split.csv").reset_index()
    write_csv(folder / "split.csv", table.assign(side=table["side"].replace("validation", "unlabelled")))
    return folder


@pytest.mark.parametrize("stop", [1, 4, 6, 11, STEPS - 1])
@pytest.mark.parametrize("validated", [True, False])
def test_a_training_stopped_after_any_step_ends_the_same(
    params: config.Params, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, validated: bool
) -> None:
    """In the middle of an epoch, at its end, and in the last one."""
    data = toy if validated else unvalidated(toy, tmp_path / "data")
    monkeypatch.setattr(checkpoint.Pace, "due", lambda self: False)  # else one at an epoch's end would serve as well
    whole = run(params, data, None, tmp_path / "whole")
    taken = stopping(monkeypatch, stop - 1)
    with pytest.raises(UserError, match=f"stopped by a signal after step {stop} of {STEPS}; .*run again to go on"):
        run(params, data, None, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
    assert run(params, data, None, tmp_path / "cut") == whole
    assert taken == list(range(STEPS))  # none twice
    assert list(unfinished.CHECKPOINTS.iterdir()) == []


def test_a_run_that_stops_early_is_resumed_as_well(
    params: config.Params, toy: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patience counts on from the epochs before; the best epoch's weights come with it."""
    still = params.finetune.model_copy(update={"epochs": 40, "lr": 1e-8, "backbone_lr": 1e-8, "patience": 3})
    params = params.model_copy(update={"finetune": still})
    whole = run(params, toy, encoder, tmp_path / "whole")
    epochs = whole["c.csv"].count(b"\n") - 1
    assert 4 <= epochs < 40
    taken = stopping(monkeypatch, 4 * (epochs - 1) - 1)
    with pytest.raises(UserError, match="stopped by a signal"):
        run(params, toy, encoder, tmp_path / "cut")
    assert run(params, toy, encoder, tmp_path / "cut") == whole
    assert len(taken) == 4 * epochs


def test_another_number_of_threads_begins_anew(
    params: config.Params,
    toy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        whole = run(params, toy, None, tmp_path / "whole")
        torch.set_num_threads(1)
        taken = stopping(monkeypatch, 5)
        with pytest.raises(UserError, match="stopped by a signal"):
            run(params, toy, None, tmp_path / "cut")
        torch.set_num_threads(2)
        assert run(params, toy, None, tmp_path / "cut") == whole
    finally:
        torch.set_num_threads(before)
    assert taken == [*range(6), *range(STEPS)]
    assert re.search(r"^supervised: begins anew .*for threads was 1 and is 2;", capsys.readouterr().err, re.MULTILINE)


def test_other_data_or_another_encoder_take_up_nothing(
    params: config.Params, toy: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = stopping(monkeypatch, 5)
    with pytest.raises(UserError, match="stopped by a signal"):
        run(params, toy, encoder, tmp_path / "cut")
    card = encoder.with_suffix(".json")
    card.write_text(card.read_text().replace("0.3", "0.31"))  # its mean: other inputs, though the weights are the same
    taken.clear()
    run(params, toy, encoder, tmp_path / "cut")
    assert taken == list(range(STEPS))
    card.write_text(card.read_text().replace("0.31", "0.3"))
    taken.clear()
    run(params, toy, encoder, tmp_path / "cut")
    assert taken == list(range(6, STEPS))  # what was left is not lost


def test_checkpoints_come_as_often_as_time_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoint, "save", lambda path, state: now.__setitem__(0, now[0] + 0.5))
    pace = checkpoint.Pace()
    assert pace.due()  # the first at once
    pace.save(tmp_path, {})
    now[0] += 0.5 / checkpoint.SHARE - 0.1
    assert not pace.due()
    now[0] += 0.2
    assert pace.due()


def test_on_a_gpu_nothing_waits_for_it_at_every_step(
    params: config.Params, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same code with the looks of a GPU learns the same, and ten steps at most are lost to a signal."""
    whole = run(params, toy, None, tmp_path / "whole")
    looks: list[int] = []
    real = Training._look
    monkeypatch.setattr(Training, "_look", lambda self, step: (looks.append(step), real(self, step))[1])
    monkeypatch.setattr(engine, "steps_between_looks", lambda fabric: engine.LOOK)
    assert run(params, toy, None, tmp_path / "seldom") == whole
    assert looks == [3, 7, 9, 11, 15]


PROGRAM = """
from tumorxai.inputs.script import run
import os, signal, sys
from pathlib import Path
from tumorxai import config
stage, data, encoder, stop = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
params = config.load(Path("params.yaml"))
if stage == "pretrain":
    from tumorxai.pretrain.loop import Loop as loop
    from tumorxai.pretrain import pretrain
    name, main = "step", lambda: pretrain.run(
        params, data, Path("weights.safetensors"), Path("pretrain.json"), Path("metrics.json"), Path("curves")
    )
else:
    from tumorxai.train import finetune
    from tumorxai.train.training import Training as loop
    name, main = "_step", lambda: finetune.run(
        params, params.finetune, data, encoder, Path("weights.safetensors"), Path("predictions.csv"),
        Path("curves/training.csv"),
    )
real = getattr(loop, name)
def step(self, number):
    real(self, number)
    if number + 1 == stop:
        os.kill(os.getpid(), signal.SIGTERM)
setattr(loop, name, step)
run(main)
"""
EDITS = {  # of the loss, of each stage
    "pretrain": ("networks/losses.py", "return loss(*_widened(values))", "return loss(*_widened(values)).square()"),
    "finetune": ("train/training.py", "F.cross_entropy(self.model(x),", "F.cross_entropy(self.model(x).square(),"),
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", EDITS)
def test_a_checkpoint_of_older_code_is_not_taken_up(
    params: config.Params, toy: Path, encoder: Path, tmp_path: Path, stage: str
) -> None:
    """The loss is edited between an interrupted run and the next, which ends as a fresh one of the new code."""
    copy, old, cut, fresh = (tmp_path / name for name in ("src", "old", "cut", "fresh"))
    shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))

    def program(folder: Path, stop: int) -> subprocess.CompletedProcess[str]:
        folder.mkdir(exist_ok=True)
        (folder / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
        command = [sys.executable, "-c", PROGRAM, stage, str(toy), str(encoder), str(stop)]
        more: dict[str, Any] = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": str(copy)}}
        return subprocess.run(command, capture_output=True, text=True, check=False, **more)

    assert program(old, 0).returncode == 0
    assert "stopped by a signal after step 6" in program(cut, 6).stderr
    name, before, after = EDITS[stage]
    file = copy / "tumorxai" / name
    text = file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, after))
    again = program(cut, 0)
    assert again.returncode == 0, again.stderr
    assert re.search(rf"^{stage}: begins anew .* for src/tumorxai/{name} changed;", again.stderr, re.MULTILINE)
    assert program(fresh, 0).returncode == 0
    assert kills.same(fresh, cut)
    assert not kills.same(fresh, old)
    assert not list((cut / unfinished.CHECKPOINTS).iterdir())


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_the_same(
    params: config.Params, toy: Path, encoder: Path, tmp_path: Path
) -> None:
    """The whole of it, with more kills, is benchmarks/kills.py."""
    recipe = params.finetune.model_copy(update={"epochs": 16, "patience": 16})
    longer = params.model_copy(update={"finetune": recipe})
    resumed, equal = kills.survive(longer, toy, tmp_path, [signal.SIGKILL, signal.SIGTERM], seed=0, encoder=encoder)
    assert resumed
    assert all(equal)
    assert not list(tmp_path.glob("*/.tumorxai/checkpoints/*"))
