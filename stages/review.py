"""Galleries of the worst errors and of suspected labels."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.review import review


def main() -> None:
    review.run(
        config.load(),
        Path("data"),
        Path("models/embeddings.npy"),
        probe=Path("models/predictions_linear.json"),
        classifier=Path("models/predictions_finetune.csv"),
        suspects=Path("models/suspects.csv"),
        details=Path("details/errors.json"),
        plots=Path("plots/errors"),
    )


if __name__ == "__main__":
    run(main)
