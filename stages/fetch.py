"""Fetch or simulate one archive per source."""

from pathlib import Path

from tumorxai import config
from tumorxai.data.fetch import fetch
from tumorxai.stage import run


def main() -> None:
    fetch(config.load().data, Path("data/archives"))


if __name__ == "__main__":
    run(main)
