"""Decode, label and pack every image."""

from pathlib import Path

from tumorxai import config
from tumorxai.catalogue import catalogue
from tumorxai.inputs.stage import run


def main() -> None:
    differences = catalogue.build(
        Path("data/archives"),
        config.load().data,
        data=Path("data"),
        details=Path("details/catalogue.json"),
        plots=Path("plots/catalogue"),
    )
    for line in differences:
        print(line)


if __name__ == "__main__":
    run(main)
