"""Embed every image once."""

from pathlib import Path

from tumorxai.errors import run
from tumorxai.evaluate import embed


def main() -> None:
    embed.run(Path("data/pack.npy"), Path("models/encoder.safetensors"), Path("models/embeddings.npy"))


if __name__ == "__main__":
    run(main)
