"""Stage ``patients``: find out whose images they are."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai.patients import patients


def main() -> None:
    patients.run(Path("data"), Path("data/archives"), Path("details/patients.json"))


if __name__ == "__main__":
    run(main)
