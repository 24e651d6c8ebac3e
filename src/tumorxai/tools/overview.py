"""The page of all runs that ``papers/`` lists: done at full size, done reduced, or not run; and what makes the rest.

Written by `make results` from ``papers/*.yaml`` and the papers' files in ``results/``: it has no JSON file of its own.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tumorxai.files import read_json
from tumorxai.tools import papers

NAME = "overview.md"
FULL, REDUCED, NOT = "full size", "reduced", "not run"
ABOUT = (
    "`full size`: as `papers/*.yaml` has the row; `reduced`: with other settings, as the row says. Minutes are of "
    "all stages that DVC's cache did not have. Scores stand on the pages that are linked. Written by `make results`."
)
REST = (
    "Each command writes a folder that runs what is not here at full size, in the order of the list, on a machine with "
    "neither network nor DVC (docs/howto/offline.md); writing it takes the archives. Minutes are estimates "
    "of pretraining alone, images x epochs / rate, from the rate of one GPU; other stages add to them."
)


def state(row: dict[str, Any]) -> str:
    """What became of a row of ``results/NAME.json``."""
    if row.get("status") != "done":
        return str(row.get("status", NOT))
    return REDUCED if row["settings"] else FULL


def _line(name: str, row: dict[str, Any]) -> str:
    settings = ", ".join(f"`{one}`" for one in row.get("settings", []))
    took, made = "", ""
    if row.get("status") == "done":
        took, made = f"{row['minutes']:.1f}", f"{row['hardware']}, {row['date']}, commit {row['commit']}"
    return f"| {name} | {state(row)} | {took} | {settings} | {made} |"


def _rest(paper: str, described: dict[str, Any], left: list[str]) -> list[str]:
    """How to run some rows of a list elsewhere, and about how long that takes."""
    some = f' ARGS="--only {" ".join(left)}"' if len(left) < len(described["runs"]) else ""
    estimate = "minutes not estimated"
    if gpu := described.get("gpu"):
        each = gpu["images"] * gpu["epochs"] / gpu["per_second"] / 60
        estimate = f"{len(left)} x {each:.1f} = {len(left) * each:.0f} minutes ({gpu['of']})"
    command = f"make bundle OUT=build/{paper} PAPER={paper}{some}"
    return ["", f"{paper}, rows: {len(left)}; {estimate}.", "", "```sh", command, "```"]


def page(root: Path) -> str:
    """The Markdown.

    Args:
        root: the project's folder.
    """
    lines, rest, counts = [], [], Counter[str]()
    for path in sorted((root / "papers").glob("*.yaml")):
        described, found = papers.describe(path.stem, path.parent), root / "results" / f"{path.stem}.json"
        known = read_json(found)["runs"] if found.exists() else {}
        rows = {name: known.get(name, {}) for name in described["runs"]}
        counts.update(map(state, rows.values()))
        heading = f"[{path.stem}]({path.stem}.md)" if known else path.stem
        lines += ["", f"## {heading}", "", f"{described['title'].rstrip('.')}.", ""]
        lines += ["| row | run | minutes | other settings | made |", "|---" * 5 + "|"]
        lines += [_line(name, row) for name, row in rows.items()]
        if left := [name for name, row in rows.items() if state(row) != FULL]:
            rest += _rest(path.stem, described, left)
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    top = ["# What was run of the papers, and what was not", "", ABOUT, "", f"Of {counts.total()} rows: {told}."]
    return "\n".join([*top, *lines, "", "## The rest, on one GPU", "", REST, *rest]) + "\n"
