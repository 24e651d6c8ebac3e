"""Supervised training on fractions of the labels."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.train import labels


def main() -> None:
    params = config.load()
    labels.run(params, params.supervised, Path("data"), encoder=None, curve=Path("models/curve_supervised.csv"))


if __name__ == "__main__":
    run(main)
