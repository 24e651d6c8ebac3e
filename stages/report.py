"""One page that shows it all, and the cards and the checklist beside it."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.report import report


def main() -> None:
    report.run(config.load(), Path(), Path("report"))


if __name__ == "__main__":
    run(main)
