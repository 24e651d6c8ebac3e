"""Stage ``audit``: measure what leaks between the sides, and stop if the grouped split leaks at all."""

from pathlib import Path

from tumorxai import config
from tumorxai.data import audit
from tumorxai.errors import run


def main() -> None:
    params = config.load()
    audit.write(
        Path("data"), Path("metrics/leakage.json"), Path("plots/audit"), params.split, params.audit, params.seed
    )


if __name__ == "__main__":
    run(main)
