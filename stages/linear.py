"""Linear evaluation of the frozen encoder."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.probe import linear


def main() -> None:
    linear.run(
        config.load(),
        Path("data"),
        Path("models/embeddings.npy"),
        encoder=Path("models/encoder.safetensors"),
        out=Path("models/linear.safetensors"),
        predictions=Path("models/predictions_linear.csv"),
    )


if __name__ == "__main__":
    run(main)
