"""Look at what lies outside DVC's graph: the sources, the code and the packages of every stage. Runs at every repro."""

from pathlib import Path

from tumorxai import config, provenance
from tumorxai.stage import run


def main() -> None:
    params = config.load()
    provenance.write(Path(), params.method)


if __name__ == "__main__":
    run(main)
