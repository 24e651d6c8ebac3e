"""Several processes learn what one does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from benchmarks import kills

from tumorxai import config, distributed, pretrain
from tumorxai.errors import UserError
from tumorxai.files import read_json

ROOT = Path(__file__).resolve().parents[1]
SGD = {"name": "sgd", "weight_decay": 1e-4, "momentum": 0.9}
SETTINGS = {
    "simclr": {"hidden": 64, "temperature": 0.5, "optimizer": {**SGD, "lr": 0.005}},
    "barlow_twins": {"hidden": 64, "projection": 64, "optimizer": {**SGD, "lr": 0.0005}},
}


def rank(number: int, world: int, port: int, params: config.Params, data: Path, folder: Path) -> None:
    """One process of a run, with the environment that torchrun gives it."""
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "RANK": str(number), "LOCAL_RANK": str(number),
    }  # fmt: skip
    torch.set_num_threads(1)  # as torchrun does; sums in threads have an order of their own
    os.chdir(folder)
    sys.stderr = open(f"log{number}", "w")  # noqa: SIM115
    pretrain.run(
        params,
        data,
        folder / "encoder.safetensors",
        folder / "pretrain.json",
        folder / "metrics.json",
        folder / "curves",
    )


def together(world: int, params: config.Params, data: Path, folder: Path) -> dict[str, list[float]]:
    """Curves of a run on some processes."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        kills.CONTEXT.Process(target=rank, args=(number, world, port, params, data, folder)) for number in range(world)
    ]
    for process in processes:
        process.start()
    for number, process in enumerate(processes):
        process.join(300)
        assert process.exitcode == 0, (folder / f"log{number}").read_text()
    tables = sorted((folder / "curves/plots/metrics").glob("*.tsv"))
    return {path.stem: np.loadtxt(path, skiprows=1, delimiter="\t")[:, 1].tolist() for path in tables}


@pytest.mark.parametrize("method", SETTINGS)
def test_two_processes_learn_what_one_does(params: config.Params, toy: Path, tmp_path: Path, method: str) -> None:
    """The same images, views, negatives, batch statistics and gradients; sums in another order make the difference."""
    content = params.model_dump()
    content["method"], content["methods"][method] = method, SETTINGS[method]
    content["pretrain"] |= {"epochs": 4, "batch_size": 24}
    params = config.Params.model_validate(content)
    one, two = (together(world, params, toy, tmp_path / str(world)) for world in (1, 2))
    assert read_json(tmp_path / "2/pretrain_run.json")["processes"] == 2
    assert one.keys() == two.keys()
    for name in ("loss", "feature_std", "effective_rank"):
        assert two[name] == pytest.approx(one[name], rel=1e-4), name
    for name in ("c_acc", "r_acc", "p_acc", "val_p_acc"):  # counts, where two similarities may be as good as equal
        assert two[name] == pytest.approx(one[name], abs=0.03), name


def test_the_stage_starts_the_processes_that_the_parameters_ask_for(
    params: config.Params, toy: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").symlink_to(toy)
    content = params.model_dump(mode="json")
    content["pretrain"]["devices"] = 2
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, str(ROOT / "stages/pretrain.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "models/pretrain_run.json")["processes"] == 2
    assert read_json(tmp_path / "details/pretrain.json")["images"] == 72
    assert (tmp_path / "plots/pretrain/views.png").exists()
    assert (tmp_path / "plots/pretrain/plots/metrics/loss.tsv").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_a_launcher_asks_of_the_wrong_machine_is_refused(
    params: config.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LT_ACCELERATOR", "cuda")  # as `fabric run --accelerator cuda` leaves it
    with pytest.raises(UserError, match=r"got pretrain\.devices 1, .*this machine and launcher refuse them"):
        distributed.launch(params.pretrain)
