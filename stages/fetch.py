"""Fetch or simulate one archive per source."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.fetch import fetch


def main() -> None:
    fetch.run(config.load(), Path("data/inputs/sources.json"), Path("data/archives"), Path("data/fetched.json"))


if __name__ == "__main__":
    run(main)
