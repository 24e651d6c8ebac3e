"""Where does the fine-tuned classifier look?"""

from pathlib import Path

from tumorxai import config
from tumorxai.errors import run
from tumorxai.explain import overview


def main() -> None:
    overview.run(
        config.load(),
        Path("data"),
        Path("models/finetuned.safetensors"),
        metrics=Path("metrics/explain.json"),
        picture=Path("plots/cams/grid.png"),
    )


if __name__ == "__main__":
    run(main)
