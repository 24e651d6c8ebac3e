"""The other protocols on the frozen encoder: neighbours, a few shots, fractions of the labels."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.probe import frozen


def main() -> None:
    frozen.run(
        config.load(),
        Path("data"),
        Path("models/embeddings.npy"),
        knn=Path("models/predictions_knn.csv"),
        shots=Path("models/shots.csv"),
        curve=Path("models/curve_linear.csv"),
    )


if __name__ == "__main__":
    run(main)
