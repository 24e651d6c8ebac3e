"""Several processes learn what one does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from benchmarks import kills
from safetensors.torch import load_file
from torch import Tensor

from tests.tolerance import half_the_digits, rounding
from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.files import read_json
from tumorxai.networks import engine
from tumorxai.networks.batches import Batches
from tumorxai.pretrain import distributed, pretrain

ROOT = Path(__file__).resolve().parents[2]
SGD = {"name": "sgd", "weight_decay": 1e-4, "momentum": 0.9}
SETTINGS = {
    "simclr": {"hidden": 64, "temperature": 0.5, "optimizer": {**SGD, "lr": 0.005}},
    "barlow_twins": {"hidden": 64, "projection": 64, "optimizer": {**SGD, "lr": 0.0005}},
}


def in_float64() -> None:
    """Let this process train in double precision, which the parameters do not offer: training amplifies rounding."""
    normalise = Batches._normalise
    engine.precision = lambda asked: "64-true"

    def doubled(batches: Batches, x: Tensor) -> Tensor:
        return normalise(batches, x).double()

    Batches._normalise = doubled  # type: ignore[method-assign]


def rank(number: int, world: int, port: int, params: config.Params, data: Path, folder: Path) -> None:
    """One process of a run, with the environment that torchrun gives it."""
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "RANK": str(number), "LOCAL_RANK": str(number),
    }  # fmt: skip
    torch.set_num_threads(1)  # as torchrun does
    in_float64()
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


@pytest.mark.slow
@pytest.mark.parametrize("method", SETTINGS)
def test_two_processes_learn_what_one_does(params: config.Params, toy: Path, tmp_path: Path, method: str) -> None:
    """The same images, views, negatives, batch statistics and gradients; sums in another order make the difference.

    The weights show any mistake to eight digits. The signals are computed in float32 from features that agree, and so
    are the counts: a single one may fall the other way where two similarities are as good as equal.
    """
    content = params.model_dump()
    content["method"], content["methods"][method] = method, SETTINGS[method]
    content["pretrain"] |= {"epochs": 4, "batch_size": 24}
    params = config.Params.model_validate(content)
    one, two = (together(world, params, toy, tmp_path / str(world)) for world in (1, 2))
    assert read_json(tmp_path / "2/pretrain_run.json")["processes"] == 2
    assert one.keys() == two.keys()
    weights, others = (load_file(tmp_path / f"{world}/encoder.safetensors") for world in (1, 2))
    close = half_the_digits(torch.float64)
    for name, value in weights.items():
        assert value.dtype in (torch.float64, torch.int64), name
        torch.testing.assert_close(others[name], value, rtol=close, atol=close)
    for name in ("loss", "feature_std", "effective_rank"):
        assert two[name] == pytest.approx(one[name], rel=rounding(torch.float32, 72)), name
    for name, of in (
        ("c_acc", 2 * 72),
        ("r_acc", 2 * 72),
        ("r_acc_nan_wins", 2 * 72),
        ("p_acc", 72),
        ("val_p_acc", 24),
    ):
        assert two[name] == pytest.approx(one[name], abs=1.01 / of), name


@pytest.mark.slow
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
    assert (tmp_path / "plots/pretrain/plots/metrics/loss.tsv").exists()


def by_torchrun(folder: Path, data: Path, params: config.Params) -> subprocess.Popen[str]:
    """Two local processes of the stage, as docs/pretraining.md has it, at a port that is free."""
    folder.mkdir(exist_ok=True)
    if not (folder / "data").exists():
        (folder / "data").symlink_to(data)
        (folder / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*launcher, str(ROOT / "stages/pretrain.py")], cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_what_torchrun_stops_goes_on_to_the_same_weights(params: config.Params, toy: Path, tmp_path: Path) -> None:
    content = params.model_dump()
    content["pretrain"] |= {"epochs": 15, "batch_size": 24, "checkpoint_epochs": 1}
    longer, cut = config.Params.model_validate(content), tmp_path / "cut"
    whole = by_torchrun(tmp_path / "whole", toy, longer)
    said = whole.communicate(timeout=300)[0]
    assert whole.returncode == 0, said

    stopped = by_torchrun(cut, toy, longer)
    while not kills.checkpointed(cut):
        assert stopped.poll() is None, stopped.communicate()[0]
        time.sleep(0.02)
    stopped.terminate()
    said = stopped.communicate(timeout=120)[0]
    assert stopped.returncode
    assert "the checkpoint is kept; run again to go on" in said
    assert not (cut / "models/encoder.safetensors").exists()
    kept = kills.checkpointed(cut)

    again = by_torchrun(cut, toy, longer)
    said = again.communicate(timeout=300)[0]
    assert again.returncode == 0, said
    run_card = read_json(cut / "models/pretrain_run.json")
    assert (run_card["processes"], run_card["resumed_from_step"]) == (2, kept)
    for name in ("models/encoder.safetensors", "details/pretrain.json", "models/online_probe.csv"):
        assert (cut / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_a_launcher_asks_of_the_wrong_machine_is_refused(
    params: config.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LT_ACCELERATOR", "cuda")  # as `fabric run --accelerator cuda` leaves it
    with pytest.raises(UserError, match=r"got pretrain\.devices 1, .*this machine and launcher refuse them"):
        distributed.launch(params.pretrain)
