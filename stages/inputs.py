"""Look at what lies outside DVC's graph: the sources, the code and the packages of every stage. Runs at every repro."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.inputs import inputs
from tumorxai.pretrain import settings


def main() -> None:
    params = config.load()
    settings.check(params, Path())
    inputs.run(params, Path(), Path("data/inputs"))


if __name__ == "__main__":
    run(main)
