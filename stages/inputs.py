"""Look at what lies outside DVC's graph: the sources, the code and the packages of every stage. Runs at every repro."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.inputs import inputs


def main() -> None:
    inputs.run(config.load(), Path(), Path("data/inputs"))


if __name__ == "__main__":
    run(main)
