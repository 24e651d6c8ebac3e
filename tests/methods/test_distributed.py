"""Every method in data-parallel training: each parameter gets its gradient, and all processes keep one state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, multiprocessing, nn

from tests.methods.test_methods import TRAINED, batch, build, labels, side
from tumorxai.networks import schedules

PROCESSES, STEPS = 2, 3


class Wrapped(nn.Module):
    """A method whose forward pass is its loss, as DistributedDataParallel wants it."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, views: list[Tensor], truth: Tensor, progress: float) -> Tensor:
        return self.method.loss(views, truth, progress)


def _train(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    for name in TRAINED:
        torch.manual_seed(0)
        method = build(name, optimizer={"name": "adamw", "lr": 1e-3, "weight_decay": 0.01})
        model = nn.parallel.DistributedDataParallel(Wrapped(method))  # a parameter without gradient is an error here
        optimizer = schedules.optimizer(method, method.optimizer, 16)
        torch.manual_seed(rank + 1)
        drawn = batch(method, 8, side(name))
        for step in range(STEPS):
            truth = labels(8) if rank == 0 else torch.full((8,), -1)  # one process may have no label at all
            loss = model(drawn, truth, step / STEPS)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.after_step(step / STEPS)
        torch.save(method.state_dict(), f"{folder}/{name}-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_all_processes_keep_the_same_state(tmp_path: Path) -> None:
    # not forked: autograd refuses that once other tests have used it, or a GPU, in this process
    multiprocessing.start_processes(_train, (str(tmp_path),), nprocs=PROCESSES, start_method="spawn")
    for name in TRAINED:
        one, other = (torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True) for rank in range(PROCESSES))
        for key, value in one.items():
            if "running_" not in key:  # statistics of batches: the engine synchronises them
                assert torch.equal(value, other[key]), f"{name}: {key}"
