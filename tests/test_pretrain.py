"""The loop: it learns, resumes exactly, and stops with a message."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tumorxai import config, pretrain
from tumorxai.errors import UserError
from tumorxai.files import read_json


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(params: config.Params, data: Path, out: Path) -> dict[str, np.ndarray]:
    pretrain.run(params, data, out / "encoder.safetensors", out / "pretrain.json", out / "curves")
    return load_file(out / "encoder.safetensors")


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(bool((a[key] == b[key]).all()) for key in a)


def test_a_run_leaves_encoder_card_metrics_and_curves(params: config.Params, toy: Path, tmp_path: Path) -> None:
    run(params, toy, tmp_path / "a")
    card, metrics = read_json(tmp_path / "a/encoder.json"), read_json(tmp_path / "a/pretrain.json")
    assert card["timm"] == "test_resnet"
    assert card["size"] == 32
    assert metrics["images"] == 72
    assert 0 <= metrics["c_acc"] <= 1
    for name in ("loss", "lr", "c_acc", "r_acc", "feature_std", "effective_rank"):
        lines = (tmp_path / f"a/curves/plots/metrics/{name}.tsv").read_text().splitlines()
        assert len(lines) == 1 + params.pretrain.epochs
    assert not list(Path(".tumorxai/checkpoints").glob("*"))


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    params: config.Params, toy: Path, tmp_path: Path
) -> None:
    first, second = (run(params, toy, tmp_path / name) for name in "ab")
    other = run(params.model_copy(update={"seed": 1}), toy, tmp_path / "c")
    assert same(first, second)
    assert (tmp_path / "a/pretrain.json").read_bytes() == (tmp_path / "b/pretrain.json").read_bytes()
    assert not same(first, other)


def test_each_epoch_sees_each_image_once() -> None:
    ids = np.arange(100, 140)
    batches = pretrain.Batches(np.zeros(0, np.uint8), ids, torch.empty(0), [], 0, 1, 8, torch.device("cpu"))
    for epoch in range(3):
        seen = np.concatenate([batches.at(0, epoch * 5 + i) for i in range(5)])
        assert sorted(seen) == sorted(ids)
    assert not np.array_equal(batches.at(0, 0), batches.at(0, 5))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_goes_on_and_ends_the_same(
    params: config.Params, toy: Path, tmp_path: Path, number: signal.Signals
) -> None:
    longer = params.pretrain.model_copy(update={"epochs": 12, "checkpoint_epochs": 1})
    params = params.model_copy(update={"pretrain": longer})
    whole = run(params, toy, tmp_path / "whole")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
    code = (
        "from pathlib import Path; from tumorxai import config, pretrain, errors\n"
        f"errors.run(lambda: pretrain.run(config.load(), Path({str(toy)!r}), Path('cut/encoder.safetensors'), "
        "Path('cut/pretrain.json'), Path('cut/curves')))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    saved = tmp_path / ".tumorxai/checkpoints"
    while not list(saved.glob("[!.]*.pt")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    os.kill(process.pid, number)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == (1 if number == signal.SIGTERM else -number)
    if number == signal.SIGTERM:
        assert "run again to go on" in errors
    assert not (tmp_path / "cut/encoder.safetensors").exists()

    assert same(run(params, toy, tmp_path / "cut"), whole)
    assert read_json(tmp_path / "cut/pretrain_run.json")["resumed_from_step"] > 0
    assert not list(saved.iterdir())
    assert (tmp_path / "cut/pretrain.json").read_bytes() == (tmp_path / "whole/pretrain.json").read_bytes()


def test_a_batch_larger_than_the_data_is_refused(params: config.Params, toy: Path, tmp_path: Path) -> None:
    larger = params.model_copy(update={"pretrain": params.pretrain.model_copy(update={"batch_size": 100})})
    with pytest.raises(UserError, match=r"batch_size 100 with 72.*lower pretrain\.batch_size"):
        run(larger, toy, tmp_path / "a")


def test_a_loss_that_is_not_finite_stops_the_run(params: config.Params, toy: Path, tmp_path: Path) -> None:
    wild = {"simclr": {"optimizer": {"name": "sgd", "lr": 1e30, "weight_decay": 0.0, "momentum": 0.9}}}
    with pytest.raises(UserError, match=r"expected a finite number; lower methods\.simclr\.optimizer\.lr"):
        run(params.model_copy(update={"methods": wild}), toy, tmp_path / "a")
    assert not (tmp_path / "a/encoder.safetensors").exists()


def test_transductive_pretraining_sees_more(params: config.Params, toy: Path, tmp_path: Path) -> None:
    wider = params.model_copy(update={"pretrain": params.pretrain.model_copy(update={"transductive": True})})
    run(wider, toy, tmp_path / "a")
    assert read_json(tmp_path / "a/pretrain.json")["images"] == 120
