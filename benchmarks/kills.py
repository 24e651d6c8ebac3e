"""Kill a run at random moments, let it go on each time, and compare its weights with those of an undisturbed one.

    python benchmarks/kills.py [--data data] [--kills 20] [--terms 5] [--method simclr] [--seed 0]

Needs the images of the pipeline (`dvc repro split`). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import chdir
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from tumorxai import config, errors
from tumorxai.pretrain import checkpoint, pretrain

CONTEXT = get_context("forkserver")  # imports torch and the rest once, so that killing is not mostly importing
CONTEXT.set_forkserver_preload(["tumorxai.pretrain.pretrain"])


def work(params: config.Params, data: Path, folder: Path) -> None:
    """What is killed: pretraining in ``folder``, its words in ``folder/log``."""
    with open(folder / "log", "w") as log, chdir(folder):
        sys.stderr = log
        out = folder / "encoder.safetensors"
        errors.run(
            lambda: pretrain.run(
                params, data, out, folder / "pretrain.json", folder / "metrics.json", folder / "curves"
            )
        )


def start(params: config.Params, data: Path, folder: Path) -> ForkServerProcess:
    folder.mkdir(exist_ok=True)
    process = CONTEXT.Process(target=work, args=(params, data, folder))
    process.start()
    return process


def checkpointed(folder: Path) -> int:
    """Step of the checkpoint in ``folder``, 0 without one."""
    files = list((folder / checkpoint.FOLDER).glob("[!.]*.pt"))
    state = checkpoint.load(files[0]) if files else None
    return state["step"] if state else 0


def same(one: Path, other: Path) -> bool:
    """Whether two runs left the same weights, metrics and curves, to the bit."""
    a, b = (load_file(folder / "encoder.safetensors") for folder in (one, other))
    weights = a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    told = ["pretrain.json", *(path.relative_to(one) for path in (one / "curves/plots/metrics").glob("*.tsv"))]
    return weights and all((one / name).read_bytes() == (other / name).read_bytes() for name in told)


def survive(
    params: config.Params, data: Path, folder: Path, kills: Sequence[signal.Signals], seed: int
) -> tuple[int, list[bool]]:
    """Kill runs at random moments, each going on from where the one before it was killed.

    A run that ends before it is killed is compared, and the next one starts from the first step.

    Args:
        params: of the run; its checkpoints should come often.
        data: the pipeline's data folder.
        folder: to work in.
        kills: signals to send, in this order.
        seed: of the moments.

    Returns:
        How often a run went on from a checkpoint, and for each run that ended whether it equals the undisturbed one.
    """
    imported = CONTEXT.Process(target=int)
    imported.start()
    imported.join()
    started = time.monotonic()
    whole = start(params, data, folder / "whole")
    whole.join()
    if whole.exitcode:
        raise errors.UserError((folder / "whole/log").read_text())
    length = time.monotonic() - started
    generator, runs, equal, resumed = np.random.default_rng(seed), 0, list[bool](), 0
    remaining = list(kills)
    while True:
        cut = folder / f"cut{runs}"
        before = checkpointed(cut)
        process = start(params, data, cut)
        if remaining:
            delay = generator.uniform(0.05, 0.95) * length
            process.join(delay)
            if process.is_alive():
                number = remaining.pop(0)
                {signal.SIGKILL: process.kill, signal.SIGTERM: process.terminate}[number]()
                process.join()
                after = checkpointed(cut)
                resumed += before > 0
                print(f"{len(kills) - len(remaining):3d} {number.name} after {delay:.2f} s: step {before} -> {after}")
                continue
        process.join()
        equal.append(process.exitcode == 0 and same(folder / "whole", cut))
        resumed += before > 0
        print(f"    ended, from step {before}: {'the same weights' if equal[-1] else 'OTHER WEIGHTS'}")
        if not remaining:
            return resumed, equal
        runs += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--terms", type=int, default=5)
    parser.add_argument("--method", default="simclr")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    params = config.load()
    changes = {"epochs": options.epochs, "batch_size": options.batch, "warmup_epochs": 1, "checkpoint_epochs": 1}
    loop = params.pretrain.model_copy(update=changes)
    small = {"model": config.Model(backbone="test_resnet"), "pretrain": loop, "method": options.method}
    kills = [signal.SIGKILL] * options.kills + [signal.SIGTERM] * options.terms
    order = np.random.default_rng(options.seed).permutation(len(kills))
    with tempfile.TemporaryDirectory() as folder:
        resumed, equal = survive(
            params.model_copy(update=small), options.data.resolve(), Path(folder), [kills[i] for i in order],
            options.seed,
        )  # fmt: skip
    print(json.dumps({"kills": options.kills, "terms": options.terms, "resumed": resumed, "runs": len(equal),
                      "identical": sum(equal)}))  # fmt: skip
    sys.exit(not all(equal))


if __name__ == "__main__":
    main()
