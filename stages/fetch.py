"""Fetch or simulate one archive per source."""

from pathlib import Path

from tumorxai import config
from tumorxai.fetch.fetch import fetch
from tumorxai.files import read_json
from tumorxai.inputs.stage import run


def main() -> None:
    inputs = Path("data/inputs/sources.json")
    fetch(
        config.load().data,
        Path("data/archives"),
        Path("data/fetched.json"),
        expected=read_json(inputs) if inputs.exists() else None,
    )


if __name__ == "__main__":
    run(main)
