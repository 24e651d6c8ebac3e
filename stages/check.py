"""Check the parameters before pretraining, for a method that does not exist would otherwise end in DVC's own words."""

from pathlib import Path

from tumorxai import config
from tumorxai.errors import run
from tumorxai.files import write_text


def main() -> None:
    config.load()
    write_text(Path("data/parameters_valid"), "yes\n")  # always the same: what hangs on it does not run again for it


if __name__ == "__main__":
    run(main)
