"""Stage ``audit``: measure what leaks between the sides, and stop if the grouped split leaks at all."""

from pathlib import Path

from tumorxai import config
from tumorxai.audit import audit
from tumorxai.inputs.stage import run


def main() -> None:
    params = config.load()
    audit.write(
        Path("data"),
        details=Path("details/leakage.json"),
        metrics=Path("metrics"),
        plots=Path("plots/audit"),
        passed=Path("data/audited.json"),
        split=params.split,
        settings=params.audit,
        seed=params.seed,
    )


if __name__ == "__main__":
    run(main)
