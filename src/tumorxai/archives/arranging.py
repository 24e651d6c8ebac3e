"""How the files of a source are taken, and what its archive says of those that are not in it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from tumorxai.archives import layout, tables, text
from tumorxai.archives.archives import UnreadableError, read
from tumorxai.archives.layout import Layout
from tumorxai.archives.tables import TABLES, Table

MANIFEST = ".tumorxai.json"  # of an archive: what of the source is not in it; no file of a user's has this place
SHOWN = 12  # names of a kind that a message lists


class Item(NamedTuple):
    """A file that may enter.

    Attributes:
        name: as the source spells it.
        read: its bytes; raises :class:`UnreadableError`.
        refused: why it must not be read; empty for what is.
        scan: is it called, or does it begin, like a scanner's file?
    """

    name: str
    read: Callable[[], bytes]
    refused: str = ""
    scan: bool = False


@dataclass
class Arranged:
    """How the files of a source are taken.

    Attributes:
        layout: of the images.
        table: what the tables state of them.
        tables: names of the tables that are read.
        masks: lesion masks that a table names.
        remarks: what a user should know, one sentence each.
    """

    layout: Layout
    table: Table
    tables: list[str]
    masks: set[str]
    remarks: list[str] = field(default_factory=list)


@dataclass
class Told:
    """What is said of the files that do not enter, and in general."""

    left_out: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def arrange(
    images: Sequence[str],
    every: Iterable[str],
    read_table: Callable[[str], bytes],
    where: str,
    persons: Collection[str] = (),
    shown: Callable[[str], str] = str,
) -> Arranged:
    """Find out what the images of a source without a block are.

    Args:
        images: paths of what promises an image.
        every: paths of all files.
        read_table: bytes of one of them.
        where: the source, for messages.
        persons: names of folders that are known to be patients'.
        shown: how a file's name may be shown.

    Raises:
        UserError: a table cannot be used.
    """
    there = sorted(path for path in every if path.replace("\\", "/").rsplit("/", 1)[-1].casefold() in TABLES)
    tops = {layout.parents(path) for path in images}
    used = [path for path in there if all(own[: len(layout.parents(path))] == layout.parents(path) for own in tops)]
    parsed: dict[str, pd.DataFrame] = {
        path: tables.parse(read_table(path), f"{where}, {shown(text.path(path))}", strict=True) for path in used
    }
    table = tables.match(parsed, images)
    masks = {note["mask"] for note in table.notes.values() if note.get("mask")}
    remarks = []
    if idle := [shown(text.path(path)) for path in there if path not in used]:
        remarks.append(f"not read, for they lie inside of class folders: {some(idle)}; put them beside these")
    entering = [path for path in images if path not in masks]
    return Arranged(layout.arrange(entering, table, persons), table, used, masks, remarks)


def some(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(text.clean, names[:SHOWN])) + more


def noted(found: Layout, shown: Callable[[str], str] = str) -> list[str]:
    """What a user should know of a layout, a sentence each.

    Args:
        found: the layout.
        shown: how a name may be shown.
    """
    return [f"{sentence}: {some(sorted({shown(name) for name in names}))}" for sentence, names in found.notes.items()]


def manifest(archive: zipfile.ZipFile) -> Mapping[str, Any]:
    """What the source of an archive held besides; empty lists for one that was not packed here."""
    nothing: dict[str, Any] = {"left_out": [], "refused": [], "remarks": []}
    try:
        told = json.loads(read(archive, archive.getinfo(MANIFEST)))
        pairs = [[(str(path), str(reason)) for path, reason in told[key]] for key in ("left_out", "refused")]
        return {"left_out": pairs[0], "refused": pairs[1], "remarks": [str(line) for line in told["remarks"]]}
    except (KeyError, ValueError, TypeError, UnreadableError):
        return nothing
