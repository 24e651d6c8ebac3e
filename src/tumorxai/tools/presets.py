"""Presets: named sets of parameters that become the current experiment.

``presets/NAME.yaml`` sets what it changes of the defaults of ``config/blocks.py``. Applying it writes the whole of
``params.yaml`` from the two, comments kept, so that a run is a visible diff and no earlier preset shows through.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tumorxai import config
from tumorxai.errors import UserError, known
from tumorxai.files import write_text

WIDTH = 120
COLUMN = 28  # at which comments beside values begin, where there is room

Place = tuple[str, ...]  # keys from the top of the file down


@dataclass
class Comment:
    """What stands at a key: lines above it, and the text beside it."""

    above: list[str] = field(default_factory=list)
    beside: str = ""


def described(presets: Path) -> dict[str, str]:
    """What stands on top of each preset, up to the first full stop, by name."""
    found = {}
    for file in sorted(presets.glob("*.yaml")):
        match = re.match(r"(?:#.*\n)*", file.read_text(encoding="utf-8"))
        comment = " ".join(line.lstrip("# ") for line in match.group().splitlines()) if match else ""
        found[file.stem] = re.split(r"(?<!et al)\.(?: |$)", comment)[0]
    return found


def apply(name: str, presets: Path = Path("presets"), params: Path = Path("params.yaml")) -> None:
    """Make a preset the parameters, whatever they were; comments stay where their keys do.

    Raises:
        UserError: there is no such preset, it is not valid, or ``params.yaml`` is no YAML, so that its comments
            cannot be told.
    """
    values = config.preset(presets / f"{known('preset', name, described(presets))}.yaml")
    text = params.read_text(encoding="utf-8") if params.is_file() else ""
    # A preset may have taken a method's key out, and the key's comment with it: the method's own file has it still.
    blocks = comments(config.BLOCKS.read_text(encoding="utf-8"))
    said = {("methods", *place): comment for place, comment in blocks.items() if place}
    try:
        said |= comments(text)
    except yaml.YAMLError as error:
        raise UserError(
            f"got {params}, which is no valid YAML; expected to keep its comments; correct it, or remove it and do "
            f"without them: {error}"
        ) from None
    write_text(params, "\n".join(_lines(values, said)).lstrip("\n") + "\n")
    config.load(params)


def comments(text: str) -> dict[Place, Comment]:
    """The comments in YAML, by the key that they belong to; those below the last key under the place ``()``.

    A line of its own belongs to the next key. What stands within a list belongs to the list's key.

    Raises:
        yaml.YAMLError: the text is no YAML.
    """
    keys = sorted(_keys(yaml.compose(text, Loader=yaml.SafeLoader)))
    ends: dict[int, int] = {}  # column behind what YAML reads of a line
    inside = set[int]()  # lines within a text of several lines, where # is no comment
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        start, end = token.start_mark, token.end_mark
        if start.index < end.index:
            ends[end.line] = max(ends.get(end.line, 0), end.column)
            inside |= set(range(start.line, end.line))
    found: dict[Place, Comment] = defaultdict(Comment)
    for number, line in enumerate(text.splitlines()):
        rest = line[ends.get(number, 0) :].strip()
        if number in inside or not rest.startswith("#"):
            continue
        here = [place for at, place in keys if at == number]
        if here and number in ends:
            found[here[0]].beside = rest
        elif number in ends:  # an entry of a list
            found[max(((at, place) for at, place in keys if at < number), default=(0, ()))[1]].above.append(rest)
        else:
            found[next((place for at, place in keys if at > number), ())].above.append(rest)
    return {place: comment for place, comment in found.items() if comment.above or comment.beside}


def _keys(node: yaml.Node | None, place: Place = ()) -> Iterator[tuple[int, Place]]:
    """Line, from 0, and place of every key that is the first of its line; a list is no further looked into."""
    if not isinstance(node, yaml.MappingNode):
        return
    before = node.start_mark.line if node.flow_style else -1
    for key, value in node.value:
        if key.start_mark.line > before:
            yield key.start_mark.line, (*place, str(key.value))
        before = key.start_mark.line
        yield from ((line, inner) for line, inner in _keys(value, (*place, str(key.value))) if line > before)


def _lines(values: Mapping[str, Any], said: Mapping[Place, Comment], place: Place = ()) -> Iterator[str]:
    """YAML of parameters in one fixed layout, so that the same parameters are the same file.

    Blocks, methods and what has comments within it are written one key a line, other values in one line if they fit.
    """
    indent = "  " * len(place)
    for key, value in values.items():
        here = (*place, key)
        comment = said.get(here, Comment())
        if not place and isinstance(value, dict):
            yield ""
        yield from (indent + line for line in comment.above)
        opened = len(here) == 1 or (len(here) == 2 and here[0] == "methods")
        opened |= any(other[: len(here)] == here and len(other) > len(here) for other in said)
        if isinstance(value, dict) and value and opened:
            yield _beside(f"{indent}{key}:", comment.beside)
            yield from _lines(value, said, here)
            continue
        line = f"{indent}{key}: {_plain(value)}"
        if isinstance(value, list) and len(line) > WIDTH:
            yield _beside(f"{indent}{key}:", comment.beside)
            yield from (f"{indent}  - {_plain(one)}" for one in value)
        else:
            yield _beside(line, comment.beside)
    if not place and () in said:
        yield from said[()].above


def _beside(line: str, comment: str) -> str:
    return f"{line:<{COLUMN - 2}}  {comment}" if comment else line


def _plain(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
