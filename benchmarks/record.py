"""Where a benchmark's figures come from, and their place in the files of ``results/``."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tumorxai.files import read_json, write_json
from tumorxai.report.origin import commit


def processor() -> str:
    """What the system calls the CPU."""
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    named = re.search(r"^model name\s*: (.*)$", told, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def record(libraries: Sequence[str] = ("numpy", "scipy", "pillow")) -> dict[str, Any]:
    """Day, commit, cores and their name, Python and the libraries' versions."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit(Path()),
        "hardware": f"{os.cpu_count()} CPU cores ({processor()})",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in libraries},
        "recorded": "written by the commands above",
    }


def keep(
    path: Path, table: str, rows: dict[str, list[Any]], measured: dict[str, Any], page: dict[str, Any] | None = None
) -> None:
    """Put rows into a table of a file of results, beside those of other runs, and what was measured beside them.

    Args:
        path: a JSON file with ``tables``, see :mod:`tumorxai.tools.results`.
        table: which of them.
        rows: cells of each row, in the order of the table's columns.
        measured: the same in full.
        page: what the file starts from, with its tables, of which those without rows are left out.
    """
    content = read_json(path) if page is None or path.exists() else page | {"tables": {}}
    if table not in content["tables"] and page is not None:
        content["tables"][table] = page["tables"][table] | {"rows": {}}
    content["tables"][table]["rows"] |= rows
    content.setdefault("measured", {}).setdefault(table, {}).update(measured)
    content["record"] = record()
    write_json(path, content)
