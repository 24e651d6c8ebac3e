"""Stage ``audit``: measure what leaks between the sides, and stop if an honest split leaks at all."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.audit import audit


def main() -> None:
    audit.run(
        config.load(),
        Path("data"),
        details=Path("details/leakage.json"),
        metrics=Path("metrics"),
        plots=Path("plots/audit"),
        passed=Path("data/audited.json"),
    )


if __name__ == "__main__":
    run(main)
