"""Does a run repeat the committed one? Its metrics beside those of the commit: exact, within what they state, or not.

On one machine, with the same threads and versions, every number repeats to the bit. Elsewhere training rounds otherwise
and its figures move. What is counted off the split may not; a score may as far as the two 95% intervals still overlap.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tumorxai.errors import UserError
from tumorxai.files import read_json
from tumorxai.inputs import git
from tumorxai.tools.doctor import Check

COUNTED = ("metrics/leakage.json",)  # nothing in them is trained
BOUNDS = ("_low", "_high")
ADVICE = "look for what differs: `tumorxai doctor`, `dvc params diff`, `dvc status`"


class Compared(NamedTuple):
    """One number of the metrics.

    Attributes:
        name: file and key, such as ``linear.accuracy``.
        verdict: ``exact``; ``within`` or ``outside`` what may differ elsewhere; ``differs`` without an interval that
            could say so.
        words: both values, for readers.
    """

    name: str
    verdict: Literal["exact", "within", "outside", "differs"]
    words: str


def compare(root: Path) -> list[Compared]:
    """Compare the metrics that lie here with those of the commit, number by number.

    Args:
        root: the project's folder.

    Raises:
        UserError: nothing is committed, the commit's run had other parameters, or a file cannot be read.
    """
    listed = git.ask(root, "ls-tree", "--name-only", "HEAD", "metrics/")
    names = [name for name in (listed or "").splitlines() if name.endswith(".json")]
    if not names:
        raise UserError("got no committed metrics; expected some to compare with; run in a clone of the repository")
    if git.ask(root, "diff", "--name-only", "HEAD", "--", "params.yaml"):
        raise UserError(
            "got parameters other than the commit's, whose metrics are of another experiment; nothing to do"
        )
    found: list[Compared] = []
    for name in names:
        there = _committed(root, name)
        found += _of_file(name, there, read_json(root / name))
    return found


def checks(root: Path) -> list[Check]:
    """The same for ``tumorxai doctor --verify``: one line where all is exact, else one for each other number."""
    try:
        every = compare(root)
    except UserError as error:
        return [Check("metrics", "ok", f"not compared: {error}")]
    states: dict[str, Literal["ok", "warn", "fail"]] = {"within": "ok", "differs": "warn", "outside": "fail"}
    rows = [
        Check(one.name, states[one.verdict], f"{one.verdict}: {one.words}", ADVICE if one.verdict == "outside" else "")
        for one in every
        if one.verdict != "exact"
    ]
    same = len(every) - len(rows)
    return [Check("metrics", "ok", f"{same} of {len(every)} numbers are exactly those of the commit"), *rows]


def _committed(root: Path, name: str) -> Mapping[str, Any]:
    try:
        content = json.loads(git.ask(root, "show", f"HEAD:./{name}") or "")
        if isinstance(content, dict):
            return content
    except ValueError:
        pass
    raise UserError(f"got a {name} in the commit that is no JSON object; expected metrics; correct it")


def _of_file(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[Compared]:
    """Both of one file; bounds of an interval count with their score."""
    for key in sorted(there.keys() | here.keys()):
        base = next((key.removesuffix(end) for end in BOUNDS if key.endswith(end)), key)
        if base != key and base in there:
            continue
        what = f"{Path(name).stem}.{key}"
        one, other = _interval(there, key), _interval(here, key)
        if all(there.get(each) == here.get(each) for each in (key, *(key + end for end in BOUNDS))):
            yield Compared(what, "exact", f"{here.get(key)}")
            continue
        words = f"{here.get(key)}, committed {there.get(key)}"
        if name in COUNTED or key not in there or key not in here:
            yield Compared(what, "outside", f"{words}; must be equal")
        elif one is None or other is None:
            yield Compared(what, "differs", f"{words}; states no interval")
        else:
            apart = other[1] < one[0] or one[1] < other[0]
            words += f" [{one[0]:.4g}, {one[1]:.4g}]"
            yield Compared(what, "outside" if apart else "within", words)


def _interval(content: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    """The 95% interval of a score; None where there is none."""
    low, high = (content.get(key + end) for end in BOUNDS)
    return (float(low), float(high)) if isinstance(low, int | float) and isinstance(high, int | float) else None
