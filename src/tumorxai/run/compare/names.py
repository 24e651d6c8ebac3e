"""Short names for what sets runs apart."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from tumorxai import config

UNNAMED = ("preset",)  # parameters that only name others
SHOWN = 3  # parameters in a name
PHRASES = {"method": "{}", "seed": "seed {}", "data.sources": "{}", "split.protocol": "{} split"}

Params = Mapping[str, str]


def differing(rows: Sequence[Params]) -> list[str]:
    """Parameters that are not the same in all rows that have them."""
    values: dict[str, set[str]] = {}
    for row in rows:
        for key, value in row.items():
            values.setdefault(key, set()).add(value)
    return [key for key, seen in values.items() if len(seen) > 1 and key not in UNNAMED]


def short_keys(keys: Sequence[str], every: Iterable[str] = ()) -> dict[str, str]:
    """The shortest ends of dotted keys that no other of them ends with, and that are no whole key of ``every``."""
    ends = {key: [".".join(key.split(".")[-n:]) for n in range(1, key.count(".") + 2)] for key in keys}
    used = Counter(end for own in ends.values() for end in own)
    whole = set(every) | set(keys)
    return {
        key: next((end for end in own if used[end] == 1 and (end == key or end not in whole)), key)
        for key, own in ends.items()
    }


def _sources(value: str) -> str:
    """Sources without their owners and folders."""
    try:
        sources = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    if not isinstance(sources, list):
        return value
    named = [
        str(one.get("name") or PurePosixPath(str(one.get("path", one))).stem)
        if isinstance(one, Mapping)
        else str(one).rpartition("/")[2]
        for one in sources
    ]
    return " + ".join(named) or "none"


def _value(key: str, value: str) -> str:
    """A value for readers; methods of old commits may be gone, and keep their keys."""
    if key in ("data.sources", "split.external"):
        return _sources(value)
    return config.about(value).title if key == "method" and value in config.method_names() else value


def phrases(rows: Sequence[Params], keys: Sequence[str]) -> dict[tuple[str, str], str]:
    """Words for each value of the keys: ``BYOL``, ``seed 1``, ``epochs=30``."""
    short = short_keys(keys, (key for row in rows for key in row))
    said: dict[tuple[str, str], str] = {}
    for key in keys:
        values = dict.fromkeys(row[key] for row in rows if key in row)
        shorter = {value: _value(key, value) for value in values}
        if len(set(shorter.values())) < len(shorter):
            shorter = {value: value for value in values}
        form = PHRASES.get(key, "")
        for value in values:
            own = shorter[value]
            said[key, value] = form.replace("{}", own) if form else f"{short[key]}={own}"
    return said


def telling(rows: Sequence[Params], keys: Sequence[str]) -> list[str]:
    """The keys, those that tell most rows apart first, each given those before it.

    ``method`` leads wherever it differs: the settings of a method say little without it.
    """
    order = [key for key in keys if key == "method"]
    left = [key for key in keys if key != "method"]

    def groups(key: str) -> int:
        return len({tuple(row.get(each) for each in (*order, key)) for row in rows})

    while left:
        best = max(left, key=groups)
        order.append(best)  # of equals the first
        left.remove(best)
    return order


def unique(labels: Sequence[str], experiments: Sequence[Sequence[str]]) -> list[str]:
    """The labels; those that are alike with their first experiment, and a number where that does not help."""
    found = list(labels)
    for additions in ([f"({own[0]})" for own in experiments], [f"#{i + 1}" for i in range(len(found))]):
        many = Counter(found)
        found = [f"{own} {more}".strip() if many[own] > 1 else own for own, more in zip(found, additions, strict=True)]
    return found


def labels(rows: Sequence[Params], experiments: Sequence[Sequence[str]], without: Sequence[str] = ()) -> list[str]:
    """A short name for each row, of what sets it apart from the others.

    Args:
        rows: flat parameters.
        experiments: names of the experiments of each row, at least one, for rows that no parameter tells apart.
        without: parameters that are not named.

    Returns:
        Names that differ; empty for a single row.
    """
    keys = [key for key in differing(rows) if key not in without]
    said, order = phrases(rows, keys), telling(rows, keys)
    place = {key: (key != "method", key == "seed", keys.index(key)) for key in keys}
    found = []
    for row in rows:
        own = [key for key in order if key in row]
        shown = sorted(own[:SHOWN], key=lambda key: place[key])
        more = [f"+{len(own) - SHOWN} more"] if len(own) > SHOWN else []
        found.append(", ".join([said[key, row[key]] for key in shown] + more))
    return unique(found, experiments)


def settings(rows: Sequence[Params], keys: Sequence[str]) -> list[tuple[str, ...]]:
    """Of each row all the values of the keys, in full."""
    return [tuple(f"{key}={row[key]}" for key in keys if key in row) for row in rows]
