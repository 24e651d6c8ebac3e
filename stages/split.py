"""Stage ``split``: put every image on a side."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.split import split


def main() -> None:
    params = config.load()
    split.run(params, Path("data"), Path("details/split.json"), Path("plots/split/sides.csv"))


if __name__ == "__main__":
    run(main)
