"""Supervised training on fractions of the labels."""

from pathlib import Path

from tumorxai import config
from tumorxai.evaluate import labels
from tumorxai.stage import run


def main() -> None:
    params = config.load()
    labels.run(params, params.supervised, Path("data"), encoder=None, curve=Path("models/curve_supervised.csv"))


if __name__ == "__main__":
    run(main)
