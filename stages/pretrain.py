"""Pretrain the encoder with the active method."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.pretrain import pretrain


def main() -> None:
    pretrain.run(
        config.load(),
        Path("data"),
        out=Path("models/encoder.safetensors"),
        details=Path("details/pretrain.json"),
        metrics=Path("metrics/pretrain.json"),
        curves=Path("plots/pretrain"),
    )


if __name__ == "__main__":
    run(main)
