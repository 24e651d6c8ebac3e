"""Embed every image once."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai.networks import embed


def main() -> None:
    embed.run(Path("data/pack.npy"), Path("models/encoder.safetensors"), Path("models/embeddings.npy"))


if __name__ == "__main__":
    run(main)
