"""Draw the views that the active method is shown."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.pretrain import view_sheet


def main() -> None:
    view_sheet.run(config.load(), Path("data"), Path("plots/views/views.png"))


if __name__ == "__main__":
    run(main)
