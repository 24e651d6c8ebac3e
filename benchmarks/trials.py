"""The page of results that `fuzz.py`, `chaos.py` and `sharing.py` write with `--keep`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.record import keep

PAGE: dict[str, Any] = {
    "title": "What damage, kills and sharing do",
    "about": [
        "How this is tried stands in the first lines of each command; cases are drawn by a seed, 0 here. What has no "
        "row here has not been run at that size.",
    ],
    "commands": [
        "python -m benchmarks.fuzz --images 5000 --archives 500 --params 1000 --stage-files 500 --keep",
        "python -m benchmarks.chaos --kills 50 --each --keep",
        "python -m benchmarks.sharing --keep",
        "make results",
    ],
    "tables": {
        "damage": {
            "title": "Damaged files",
            "text": "*Quarantined*: left out with its reason. *Refused*: the run ends in one message. At fault are "
            "tracebacks, crashes and what has computed for more than 10 seconds. Of the files between stages those "
            "that are accepted with other results are whole files that fit, as far as can be seen.",
            "corner": "what was damaged",
            "columns": {"cases": 0, "accepted": 0, "with other results": 0, "quarantined": 0, "refused": 0, "fault": 0},
        },
        "kills": {
            "title": "Kills and troubles",
            "text": "SIGKILL to the whole pipeline at random moments; each run then goes on, and every output must be "
            "that of an undisturbed run. Troubles: each stage with a full disk, read-only, its workers killed, Ctrl-C.",
            "corner": "parameters",
            "columns": {"kills": 0, "runs": 0, "of them identical": 0, "troubles": 0, "of them told in words": 0},
        },
        "sharing": {
            "title": "What one machine has computed serves another",
            "corner": "way",
            "columns": {"holds": "", "seconds": 0},
        },
    },
}  # fmt: skip


def write(table: str, rows: dict[str, list[Any]]) -> None:
    """Put rows into a table of the page."""
    keep(Path("results/trials.json"), table, rows, {}, PAGE)


def damage(counts: dict[str, dict[str, int]]) -> dict[str, list[Any]]:
    """Rows of damaged files, from how many cases of each kind had which outcome."""
    rows = {}
    for kind, own in counts.items():
        other = own.get("accepted, OTHER results", 0)
        taken = sum(number for outcome, number in own.items() if outcome.startswith("accepted"))
        fault = sum(own.get(bad, 0) for bad in ("TRACEBACK", "CRASH", "HANG"))
        rows[kind] = [sum(own.values()), taken, other, own.get("quarantined", 0), own.get("refused", 0), fault]
    return rows
