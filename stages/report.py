"""One page that shows it all, and the cards and the checklist beside it."""

from pathlib import Path

from tumorxai import config
from tumorxai.inputs.stage import run
from tumorxai.report import cards, facts, page


def main() -> None:
    found = facts.gather(Path("."), config.load())
    page.write(Path("."), Path("report/index.html"), found)
    cards.write(Path("report"), found)


if __name__ == "__main__":
    run(main)
