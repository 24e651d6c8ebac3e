"""Fine-tuning on fractions of the labels."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.train import labels


def main() -> None:
    params = config.load()
    labels.run(
        params,
        params.finetune,
        Path("data"),
        encoder=Path("models/encoder.safetensors"),
        curve=Path("models/curve_finetune.csv"),
    )


if __name__ == "__main__":
    run(main)
