"""Folders of images as people keep them: looked through once, links followed without going round in circles."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tumorxai.archives import persons
from tumorxai.archives.archives import ENDINGS, NESTED, SCANS, begins_dicom, is_junk, may_be_dicom, unreadable
from tumorxai.archives.arranging import SHOWN, some
from tumorxai.archives.tables import TABLES
from tumorxai.errors import UserError

OUTSIDE = "a link to a file outside the folder; copy it, or link its whole folder"


class Listed(NamedTuple):
    """A file of a user's folder, and what changes whenever it is written.

    Attributes:
        name: its path inside the folder, with slashes, as the system spells it.
        size: bytes.
        modified: time of its contents, nanoseconds; anyone can set it.
        changed: time of its contents or its attributes, nanoseconds; set by the system alone.
        refused: why it must not be read; empty for what is.
        scan: is it called, or does it begin, like a scanner's file?
    """

    name: str
    size: int = 0
    modified: int = 0
    changed: int = 0
    refused: str = ""
    scan: bool = False


@dataclass
class Survey:
    """What a folder holds.

    Attributes:
        files: images and tables, in the order of their paths.
        links: folders inside that are links and were followed.
        circles: folders inside that are links to a folder that was read under another name.
        broken: links that lead nowhere or in a circle, and are not called like images.
        nested: archives inside, which are not opened.
        bare: folders that hold files, and no image, at any depth.
        empty: folders in which there is nothing at all.
        specials: pipes, devices and the like that are called like images.
        junk: names of what systems and programs leave, which is passed over.
        others: how many other files there are, by their endings.
        refused: links of an archive to what is not in it, each with the reason.
    """

    files: list[Listed] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    circles: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    specials: list[str] = field(default_factory=list)
    junk: set[str] = field(default_factory=set)
    others: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[str, str]] = field(default_factory=list)


def survey(folder: Path) -> Survey:
    """Look through a folder of classes: what of it may enter, and what a change of counts.

    Args:
        folder: holds class folders at any depth.

    Raises:
        UserError: there is no image, a folder is empty, or something cannot be read.
    """
    found = look_through(folder)
    if found.empty:
        shown = persons.safe if any(file.scan for file in found.files) else str
        raise UserError(
            f"{folder / shown(min(found.empty))}: got no image, the folder is empty; expected at least one in each "
            "class folder; fill the folder or remove it"
        )
    if not any(file.scan or file.name.casefold().endswith(ENDINGS) for file in found.files):
        held = f", but the archives {some(sorted(found.nested))}, which are not opened" if found.nested else ""
        held = held or (f", but {endings(found.others)}" if found.others else "")
        unpack = "unpack these, or " if found.nested else ""
        raise UserError(
            f"{folder}: got no image{held}; expected class folders of images (JPEG, PNG, TIFF, …); {unpack}correct "
            "data.sources"
        )
    return found


def look_through(folder: Path) -> Survey:
    """Look through any folder.

    Each folder is read once, whatever links lead to it. No file is opened but those without an ending, as scanners
    write them, to see whether they begin as DICOM files. Links to folders are followed,
    after all that lies inside; a link to a file only where it stays inside.

    Args:
        folder: may hold anything.

    Raises:
        UserError: something cannot be read.
    """
    found = Survey()
    seen: set[tuple[int, int]] = set()
    roots = [os.path.realpath(folder)]
    todo, linked = [""], list[str]()
    holds: dict[str, bool] = {}  # of each folder, whether it holds an image, at any depth
    while todo or linked:
        inside = todo.pop() if todo else linked.pop(0)
        parent = os.path.join(folder, inside)
        try:
            own = os.stat(parent)
            if (own.st_dev, own.st_ino) in seen:
                found.circles.append(inside.rstrip("/"))
                continue
            seen.add((own.st_dev, own.st_ino))
            if os.path.islink(parent.rstrip("/")) and inside:
                found.links.append(inside.rstrip("/"))
                roots.append(os.path.realpath(parent))
            with os.scandir(parent) as entries:
                images, folders, others = _entries(entries, inside, roots, found, linked)
        except OSError as error:
            raise unreadable(Path(parent), error) from None
        todo += folders
        _count(inside, bool(images), holds)
        if not (images or folders or others):
            found.empty.append(inside.rstrip("/"))
    found.bare = _outermost(name.rstrip("/") for name, full in holds.items() if not full and name)
    found.files.sort(key=lambda file: file.name.replace("/", "\0"))  # folder by folder: no name holds a NUL
    for names in (found.links, found.circles, found.broken, found.nested, found.specials):
        names.sort()
    return found


def ending(name: str) -> str:
    """A file's ending, where it is a short word; else nothing."""
    found = re.search(r"\.[a-z][a-z0-9]{0,5}$", name.casefold())
    return found[0] if found else ""


def endings(others: Counter[str]) -> str:
    """How many files have which ending."""
    counted = sorted(others.items(), key=lambda one: (-one[1], not one[0], one[0]))
    said = [f"{count} {own or 'without a common ending'}" for own, count in counted[:SHOWN]]
    return ", ".join(said) + (", …" if len(others) > SHOWN else "")


def _entries(
    entries: Iterable[os.DirEntry[str]], inside: str, roots: list[str], found: Survey, linked: list[str]
) -> tuple[int, list[str], int]:
    """Sort what one folder holds; the number of images, the folders, and the number of anything else."""
    images, folders, others = 0, list[str](), 0
    for entry in sorted(entries, key=lambda one: one.name):
        name = inside + entry.name
        if is_junk(entry.name):
            found.junk.add(entry.name)
            continue
        if _is_folder(entry):
            if entry.is_symlink():
                linked.append(f"{name}/")
                others += 1
            else:
                folders.append(f"{name}/")
            continue
        plain = entry.name.casefold()
        hidden = _hidden_scan(entry, name, roots)
        image = plain.endswith(ENDINGS) or hidden
        others += not image
        if not image and plain not in TABLES:
            found.others[ending(entry.name)] += 1
            if entry.is_symlink() and not os.path.exists(entry.path):
                found.broken.append(name)
            if plain.endswith(NESTED):
                found.nested.append(name)
            continue
        listed = _looked_at(entry, name, roots)
        if listed is None:
            found.specials.append(name)
            others += image
        else:
            images += image
            found.files.append(listed._replace(scan=hidden or plain.endswith(SCANS)))
    return images, folders, others


def _hidden_scan(entry: os.DirEntry[str], name: str, roots: list[str]) -> bool:
    """Is a file, whose name does not tell, a scanner's?"""
    if not may_be_dicom(entry.name):
        return False
    try:
        listed = _looked_at(entry, name, roots)
        if listed is None or listed.refused:
            return False
        with open(entry.path, "rb", buffering=0) as stream:
            return begins_dicom(stream.read(132))
    except (OSError, UserError):  # nobody has said that it is an image
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle; it matters only if it is called like an image
        return False


def _looked_at(entry: os.DirEntry[str], name: str, roots: list[str]) -> Listed | None:
    """An image or a table; with a reason where it is a link that must not be followed, None if it is no file."""
    try:
        found = entry.stat()
    except OSError as error:
        if entry.is_symlink():
            circle = error.errno not in (2, 20)
            return Listed(name, refused="a link in a circle" if circle else "a link that leads nowhere")
        raise unreadable(Path(entry.path), error) from None
    if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait forever
        return None
    if entry.is_symlink():
        real = os.path.realpath(entry.path)
        if not any(real.startswith(root.rstrip("/") + "/") for root in roots):
            return Listed(name, refused=OUTSIDE)
    return Listed(name, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _count(inside: str, full: bool, holds: dict[str, bool]) -> None:
    """Note whether a folder holds an image, and those above it; each is passed at most once as full."""
    holds.setdefault(inside, False)
    while full and not holds.get(inside):
        holds[inside] = True
        if not inside:
            return
        inside = inside[: inside.rstrip("/").rfind("/") + 1]


def _outermost(names: Iterable[str]) -> list[str]:
    """Of some folders those that lie in none of the others."""
    found: list[str] = []
    for name in sorted(names, key=lambda one: one.replace("/", "\0")):
        if not found or not name.startswith(found[-1] + "/"):
            found.append(name)
    return found
