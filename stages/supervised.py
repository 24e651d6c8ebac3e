"""The supervised baseline: the same network and recipe from random weights."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.train import finetune


def main() -> None:
    params = config.load()
    finetune.run(
        params,
        params.supervised,
        Path("data"),
        encoder=None,
        out=Path("models/supervised.safetensors"),
        predictions=Path("models/predictions_supervised.csv"),
        plot=Path("plots/training/supervised.csv"),
    )


if __name__ == "__main__":
    run(main)
