"""Galleries of the worst errors and of suspected labels."""

from pathlib import Path

from tumorxai import config
from tumorxai.errors import run
from tumorxai.evaluate import review


def main() -> None:
    review.run(
        config.load(),
        Path("data"),
        Path("models/embeddings.npy"),
        probe=Path("models/predictions_linear.json"),
        classifier=Path("models/predictions_finetune.csv"),
        suspects=Path("models/suspects.csv"),
        metrics=Path("metrics/errors.json"),
        plots=Path("plots/errors"),
    )


if __name__ == "__main__":
    run(main)
