"""How the files of a source are taken, and what its archive says of those that are not in it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from tumorxai.archives import layout, rows, tables, text, words
from tumorxai.archives.archives import UnreadableError, read
from tumorxai.archives.layout import Layout
from tumorxai.archives.partners import Parts
from tumorxai.archives.tables import TABLES, Table

MANIFEST = ".tumorxai.json"  # of an archive: what of the source is not in it; no file of a user's has this place
GRADES = {"high grade glioma", "low grade glioma"}
IDLE = "tables that are not read"
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
    looked: Callable[[str], bool | None] = lambda path: None,
) -> Arranged:
    """Find out what the images of a source without a block are.

    Args:
        images: paths of what promises an image.
        every: paths of all files.
        read_table: bytes of one of them.
        where: the source, for messages.
        persons: names of folders that are known to be patients'.
        shown: how a file's name may be shown.
        looked: whether the grey levels of a file are those of a mask; None where that is not known.

    Raises:
        UserError: a table cannot be used.
    """
    there = sorted(path for path in every if path.replace("\\", "/").rsplit("/", 1)[-1].casefold() in TABLES)
    given = layout.gather(images)
    folders = layout.arrange(given, Table(), persons)  # what they tell without a table
    told = {path: own for path in folders.asked if (own := looked(path)) is not None}
    folders = layout.arrange(given, Table(), persons, told) if told else folders
    if not there:
        return Arranged(folders, Table(), [], set())
    others = {path for path, place in folders.places.items() if place.left_out}
    used = _used(there, {layout.parents(path) for path in images if path not in others})
    parsed: dict[str, pd.DataFrame] = {
        path: rows.parse(read_table(path), f"{where}, {shown(text.path(path))}", strict=True, shown=shown)
        for path in used
    }
    table = tables.match(parsed, images, others=others, shown=shown)
    masks = {note["mask"] for note in table.notes.values() if note.get("mask")}
    remarks = list(table.remarks)
    if idle := [shown(text.path(path)) for path in there if path not in used]:
        remarks.append(
            f"{IDLE}, for they do not lie above all images, nor beside every one: {some(idle)}; put one table there, "
            "with paths from its folder"
        )
    if odd := _contradicted(folders, table):
        remarks.append(
            f"labels of the table that contradict the class folder: {len(odd)}, such as of {shown(odd[0])}; the table "
            "is taken; correct either if that is wrong"
        )
    if masks:
        given = layout.gather(path for path in images if path not in masks)
    if masks or table.column("label"):
        folders = layout.arrange(given, table, persons, told)
    return Arranged(folders, table, used, masks, remarks)


def _used(there: Sequence[str], tops: Collection[Parts]) -> list[str]:
    """Tables that lie above all images; else those further down, if each image has one beside or above it."""
    own = {path: layout.parents(path) for path in there}
    above = [path for path, folder in own.items() if all(top[: len(folder)] == folder for top in tops)]
    if above:
        return above
    holding = {folder for folder in own.values() for top in tops if top[: len(folder)] == folder}
    covered = all(any(top[: len(folder)] == folder for folder in holding) for top in tops)
    return [path for path, folder in own.items() if folder in holding] if covered else []


def _contradicted(folders: Layout, table: Table) -> list[str]:
    """Images whose label in the table is another than the class that their folder is called by."""
    stated = {path: note["label"] for path, note in table.notes.items() if note.get("label")}
    spelt = {words.squash(label) for label in stated.values()}
    odd = []
    for path, label in stated.items():
        place = folders.places.get(path)
        if not place or not place.folder:
            continue
        called, said = words.meaning(place.folder), words.meaning(label)
        if called.word and said.word:
            both = {called.word, said.word}
            vague = words.TUMOUR in both and words.NORMAL not in both
            kinds = len(both) == 2 and any(both <= family for family in (words.HISTOLOGIES, GRADES))
            differ = kinds or (called.group != said.group and not vague)
        else:
            differ = words.squash(place.folder) in spelt and words.squash(place.folder) != words.squash(label)
        if differ:
            odd.append(path)
    return sorted(odd)


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
