"""Fine-tune the pretrained encoder."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.train import finetune


def main() -> None:
    params = config.load()
    finetune.run(
        params,
        params.finetune,
        Path("data"),
        encoder=Path("models/encoder.safetensors"),
        out=Path("models/finetuned.safetensors"),
        predictions=Path("models/predictions_finetune.csv"),
        plot=Path("plots/training/finetune.csv"),
    )


if __name__ == "__main__":
    run(main)
