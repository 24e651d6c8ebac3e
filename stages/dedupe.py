"""Stage ``dedupe``: find the copies."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.dedupe import groups


def main() -> None:
    params = config.load()
    groups.run(params.dedupe, Path("data"), Path("data/archives"), Path("details/dedupe.json"), Path("plots/dedupe"))


if __name__ == "__main__":
    run(main)
