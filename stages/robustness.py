"""How the classifier bears damaged images, and whether foreign ones are noticed."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.files import read_json
from tumorxai.robustness import foreign, robustness


def main() -> None:
    params, data, inputs = config.load(), Path("data"), Path("data/inputs/foreign.json")
    robustness.run(
        params,
        data,
        Path("models/finetuned.safetensors"),
        details=Path("details/robustness.json"),
        metrics=Path("metrics/robustness.json"),
        plots=Path("plots/robustness"),
    )
    foreign.run(
        params,
        data,
        Path("models/embeddings.npy"),
        encoder=Path("models/encoder.safetensors"),
        details=Path("details/foreign.json"),
        metrics=Path("metrics/foreign.json"),
        plots=Path("plots/foreign"),
        expected=read_json(inputs) if inputs.exists() else None,
    )


if __name__ == "__main__":
    run(main)
