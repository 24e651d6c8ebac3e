"""Where do the classifiers look, and what are the heat-maps worth?"""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.explain import overview


def main() -> None:
    overview.run(
        config.load(),
        Path("data"),
        finetuned=Path("models/finetuned.safetensors"),
        linear=Path("models/linear.safetensors"),
        encoder=Path("models/encoder.safetensors"),
        embeddings=Path("models/embeddings.npy"),
        details=Path("details/explain.json"),
        metrics=Path("metrics/explain.json"),
        report_card=Path("models/report_card.csv"),
        pictures=Path("plots/cams"),
        page=Path("report/explanations.html"),
    )


if __name__ == "__main__":
    run(main)
