"""Index the embeddings and look for similar cases."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.search import retrieval


def main() -> None:
    retrieval.run(
        config.load(),
        Path("data"),
        Path("models/embeddings.npy"),
        encoder=Path("models/encoder.safetensors"),
        index=Path("models/index"),
        details=Path("details/search.json"),
        metrics=Path("metrics/search.json"),
        plots=Path("plots/search"),
    )


if __name__ == "__main__":
    run(main)
