"""Kill a run at random moments, let it go on each time, and compare all that it leaves with an undisturbed one.

    python benchmarks/kills.py [--data data] [--kills 20] [--terms 5] [--method simclr] [--seed 0]
    python benchmarks/kills.py --encoder models/encoder.safetensors [--kills 5] [--terms 5] [--epochs 20] [--seed 0]

Needs the images of the pipeline (`dvc repro split`): they are pretrained on, or, with an encoder, it is fine-tuned on
them. The last line is one JSON object.
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

from tumorxai import config, errors
from tumorxai.inputs import unfinished
from tumorxai.networks import checkpoint
from tumorxai.pretrain import pretrain
from tumorxai.train import finetune

CONTEXT = get_context("forkserver")  # imports torch and the rest once, so that killing is not mostly importing
CONTEXT.set_forkserver_preload(["tumorxai.pretrain.pretrain", "tumorxai.train.finetune"])


def work(params: config.Params, data: Path, folder: Path, encoder: Path | None) -> None:
    """What is killed: pretraining in ``folder``, or fine-tuning of an encoder; its words in ``folder/log``."""
    left = {name: folder / name for name in ("weights.safetensors", "metrics.json", "curves")}
    with open(folder / "log", "w") as log, chdir(folder):
        sys.stderr = log
        if encoder is None:
            errors.run(lambda: pretrain.run(params, data, left["weights.safetensors"], folder / "pretrain.json",
                                            left["metrics.json"], left["curves"]))  # fmt: skip
        errors.run(lambda: finetune.run(params, params.finetune, data, encoder, left["weights.safetensors"],
                                        folder / "predictions.csv", left["curves"] / "training.csv"))  # fmt: skip


def start(params: config.Params, data: Path, folder: Path, encoder: Path | None = None) -> ForkServerProcess:
    folder.mkdir(exist_ok=True)
    (folder / "log").write_text("")  # of this run alone
    process = CONTEXT.Process(target=work, args=(params, data, folder, encoder))
    process.start()
    return process


def training(folder: Path, process: ForkServerProcess) -> float:
    """Wait until a run draws its bar, or has ended; the time then. How long a start takes differs from run to run."""
    while process.is_alive() and not (folder / "log").stat().st_size:
        process.join(0.01)
    return time.monotonic()


def checkpointed(folder: Path) -> int:
    """Step of the checkpoint in ``folder``, 0 without one."""
    files = list((folder / unfinished.CHECKPOINTS).glob(f"*/{checkpoint.FILE}"))
    state = checkpoint.load(files[0]) if files else None
    return state["step"] if state else 0


def same(one: Path, other: Path) -> bool:
    """Whether two runs left the same weights, metrics, predictions and curves, to the bit."""
    told = ["weights.safetensors", "pretrain.json", "predictions.csv", "predictions.json", "curves/training.csv"]
    told += [str(path.relative_to(one)) for path in (one / "curves/plots/metrics").glob("*.tsv")]
    there = [name for name in told if (one / name).exists()]
    return len(there) > 2 and all(
        (other / name).exists() and (one / name).read_bytes() == (other / name).read_bytes() for name in there
    )


def survive(
    params: config.Params,
    data: Path,
    folder: Path,
    kills: Sequence[signal.Signals],
    seed: int,
    encoder: Path | None = None,
) -> tuple[int, list[bool]]:
    """Kill runs at random moments of their training, each going on from where the one before it was killed.

    A run that ends before it is killed is compared, and the next one starts from the first step.

    Args:
        params: of the run; its checkpoints should come often.
        data: the pipeline's data folder.
        folder: to work in.
        kills: signals to send, in this order.
        seed: of the moments.
        encoder: to be fine-tuned; None to pretrain one.

    Returns:
        How often a run went on from a checkpoint, and for each run that ended whether it equals the undisturbed one.
    """
    whole = start(params, data, folder / "whole", encoder)
    started = training(folder / "whole", whole)
    whole.join()
    if whole.exitcode:
        raise errors.UserError((folder / "whole/log").read_text())
    length = time.monotonic() - started
    generator, runs, equal, resumed = np.random.default_rng(seed), 0, list[bool](), 0
    remaining = list(kills)
    while True:
        cut = folder / f"cut{runs}"
        before = checkpointed(cut)
        process = start(params, data, cut, encoder)
        if remaining:
            delay = generator.uniform(0.05, 0.95) * length
            training(cut, process)
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
    parser.add_argument("--encoder", type=Path, help="fine-tune it, instead of pretraining one")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--terms", type=int, default=5)
    parser.add_argument("--method", default="simclr")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    params = config.load()
    changes = {"epochs": options.epochs, "batch_size": options.batch, "warmup_epochs": 1}
    small = {
        "model": config.Model(backbone="test_resnet"),
        "method": options.method,
        "pretrain": params.pretrain.model_copy(update=changes | {"checkpoint_epochs": 1}),
        "finetune": params.finetune.model_copy(update=changes),
    }
    kills = [signal.SIGKILL] * options.kills + [signal.SIGTERM] * options.terms
    order = np.random.default_rng(options.seed).permutation(len(kills))
    with tempfile.TemporaryDirectory() as folder:
        resumed, equal = survive(
            params.model_copy(update=small), options.data.resolve(), Path(folder), [kills[i] for i in order],
            options.seed, options.encoder and options.encoder.resolve(),
        )  # fmt: skip
    found = {"stage": "finetune" if options.encoder else "pretrain", "kills": options.kills, "terms": options.terms}
    print(json.dumps({**found, "resumed": resumed, "runs": len(equal), "identical": sum(equal)}))
    sys.exit(not all(equal))


if __name__ == "__main__":
    main()
