"""Pretrain the encoder with the active method."""

from pathlib import Path

from tumorxai import config, pretrain
from tumorxai.stage import run


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
