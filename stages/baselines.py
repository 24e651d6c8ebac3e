"""What any method must beat: majority class, pixel nearest neighbour, random encoder."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.probe import baselines


def main() -> None:
    baselines.run(
        config.load(),
        Path("data"),
        majority=Path("models/predictions_majority.csv"),
        pixel=Path("models/predictions_pixel_neighbour.csv"),
        random=Path("models/predictions_random_linear.csv"),
        curve=Path("models/curve_random_linear.csv"),
    )


if __name__ == "__main__":
    run(main)
