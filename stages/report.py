"""One page that shows it all."""

from pathlib import Path

from tumorxai import config
from tumorxai.errors import run
from tumorxai.report import page


def main() -> None:
    page.write(Path("."), Path("report/index.html"), config.load())


if __name__ == "__main__":
    run(main)
