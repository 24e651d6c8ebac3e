"""Decode, label and pack every image."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.catalogue import catalogue


def main() -> None:
    catalogue.run(
        config.load(),
        Path("data/archives"),
        data=Path("data"),
        details=Path("details/catalogue.json"),
        plots=Path("plots/catalogue"),
    )


if __name__ == "__main__":
    run(main)
