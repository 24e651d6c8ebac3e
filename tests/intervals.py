"""Does every interval of a file of figures hold its estimate?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tumorxai.files import read_json


def intervals(found: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every ``{"value", "low", "high", …}`` within a file's content, with its place."""
    if isinstance(found, dict):
        if {"value", "low", "high"} <= found.keys():
            yield where, found
        for key, own in found.items():
            yield from intervals(own, f"{where}/{key}")
    elif isinstance(found, list):
        for number, own in enumerate(found):
            yield from intervals(own, f"{where}/{number}")


def outside(folder: Path) -> list[str]:
    """Estimates outside their intervals, and bounds without an estimate, in all JSON files of a folder.

    Raises:
        AssertionError: there is not a single interval, so that nothing was looked at.
    """
    every = [
        (path.stem + place, own) for path in sorted(folder.glob("*.json")) for place, own in intervals(read_json(path))
    ]
    assert every
    wrong = []
    for place, own in every:
        value, low, high = (own[key] for key in ("value", "low", "high"))
        # no estimate, no bounds; and some estimates have no bounds
        good = (low is None and high is None) or (value is not None and low <= value <= high)
        if not good:
            wrong.append(f"{place}: {value} in [{low}, {high}]")
    return wrong
