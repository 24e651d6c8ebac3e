"""One archive of a user's folder or zip: what the run reads, under names that are safe, and what was left out and why.

Folder and zip go through the same rules. Only images that enter, lesion masks that a table names and the tables that
are read are copied; a manifest says what else there was.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from tqdm import tqdm

from tumorxai.archives import layout, tables, text, words
from tumorxai.archives.archives import (
    MAX_BYTES,
    NESTED,
    UnreadableError,
    fault,
    is_image,
    is_junk,
    open_zip,
    read,
    unreadable,
)
from tumorxai.archives.folders import Survey, survey
from tumorxai.archives.images import look
from tumorxai.archives.layout import Layout
from tumorxai.archives.tables import TABLES, Table
from tumorxai.errors import UserError
from tumorxai.files import atomic

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold, so that archives do not depend on file times
MANIFEST = ".tumorxai.json"  # of an archive: what of the source is not in it; no file of a user's has this place
SHOWN = 12  # names of a kind that a message lists


class Item(NamedTuple):
    """A file that may enter.

    Attributes:
        name: as the source spells it.
        read: its bytes; raises :class:`UnreadableError`.
        refused: why it must not be read; empty for what is.
    """

    name: str
    read: Callable[[], bytes]
    refused: str = ""


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


def arrange(images: Sequence[str], every: Iterable[str], read_table: Callable[[str], bytes], where: str) -> Arranged:
    """Find out what the images of a source without a block are.

    Args:
        images: paths of what promises an image.
        every: paths of all files.
        read_table: bytes of one of them.
        where: the source, for messages.

    Raises:
        UserError: a table cannot be used.
    """
    there = sorted(path for path in every if path.replace("\\", "/").rsplit("/", 1)[-1].casefold() in TABLES)
    tops = {layout.parents(path) for path in images}
    used = [path for path in there if all(own[: len(layout.parents(path))] == layout.parents(path) for own in tops)]
    parsed: dict[str, pd.DataFrame] = {
        path: tables.parse(read_table(path), f"{where}, {text.path(path)}", strict=True) for path in used
    }
    table = tables.match(parsed, images)
    masks = {note["mask"] for note in table.notes.values() if note.get("mask")}
    remarks = []
    if idle := [text.path(path) for path in there if path not in used]:
        remarks.append(f"not read, for they lie inside of class folders: {some(idle)}; put them beside these")
    return Arranged(layout.arrange([path for path in images if path not in masks], table), table, used, masks, remarks)


def some(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(text.clean, names[:SHOWN])) + more


def zip_folder(folder: Path, out: Path) -> tuple[int, str]:
    """Pack what the run reads of a folder: the same files give the same bytes.

    Args:
        folder: holds class folders at any depth.
        out: the archive, stored without compression.

    Returns:
        How many files were looked at, and ``contents`` of them as they were read.

    Raises:
        UserError: there is no image, a class folder is empty, or something cannot be read.
    """
    found = survey(folder)
    read_so: dict[str, bytes] = {}

    def reader(name: str, size: int) -> Callable[[], bytes]:
        def read_one() -> bytes:
            digest, data = hashlib.sha256(), bytearray()
            try:
                with open(folder / name, "rb", buffering=0) as stream:
                    while chunk := stream.read(2**20):
                        digest.update(chunk)
                        if len(data) <= MAX_BYTES:
                            data += chunk
            except OSError as error:
                raise unreadable(folder / name, error) from None
            read_so[name] = digest.digest()
            if len(data) > MAX_BYTES:
                raise UnreadableError(f"more than {MAX_BYTES} bytes")
            return bytes(data)

        return read_one

    items = [Item(file.name, reader(file.name, file.size), file.refused) for file in found.files]
    _pack(items, [], found, out, str(folder))
    for item in items:
        if item.name not in read_so:
            read_so[item.name] = refusal(item.refused) if item.refused else b""
    for file in found.files:
        if not file.refused and not read_so[file.name]:
            reader(file.name, file.size)()
    return len(found.files), contents((file.name, read_so[file.name]) for file in found.files)


def refusal(reason: str) -> bytes:
    """What stands for the contents of a file that must not be read."""
    return hashlib.sha256(f"refused: {reason}".encode()).digest()


def contents(files: Iterable[tuple[str, bytes]]) -> str:
    """One SHA-256 for names and contents, as 64 hexadecimal digits; times and places are no part of it.

    Args:
        files: path inside the folder and SHA-256 (32 bytes) of each file, in the order of ``survey``.
    """
    found = hashlib.sha256()
    for name, digest in files:
        spelt = name.encode("utf-8", errors="surrogateescape")
        found.update(spelt + b"\0" + digest)  # neither part can be mistaken for the other
    return found.hexdigest()


def zip_zip(path: Path, out: Path, name: str = "") -> None:
    """Pack what the run reads of a user's zip.

    Args:
        path: the zip.
        out: the archive, stored without compression.
        name: of the zip in messages, where ``path`` is a copy.

    Raises:
        UserError: it is no zip, or a class folder is empty.
    """
    with open_zip(path) as archive:
        infos = [info for info in archive.infolist() if not is_junk(info.filename)]
        last = {info.filename: info for info in infos}
        items, found = list[Item](), Survey()
        for path_inside in {info.filename for info in archive.infolist()} - last.keys():
            found.junk.add(next(part for part in path_inside.replace("\\", "/").split("/") if is_junk(part)))
        files = [info for info in infos if not info.is_dir()]
        for info in sorted(infos, key=lambda one: (one.filename, last[one.filename] is not one)):
            name = info.filename
            if is_image(name) or (
                not info.is_dir() and name.replace("\\", "/").rsplit("/", 1)[-1].casefold() in TABLES
            ):
                reason = fault(info)
                if not reason and last[name] is not info:
                    reason = "another file of the archive has the same name"
                items.append(Item(name, lambda info=info: read(archive, info), reason))  # type: ignore[misc]
            elif not info.is_dir():
                found.others += 1
                if name.casefold().endswith(NESTED):
                    found.nested.append(name)
        full = {"/".join(own[:end]) for item in items if is_image(item.name)
                for own in [layout.parents(item.name)] for end in range(len(own) + 1)}  # fmt: skip
        held = {
            "/".join(own[:end])
            for info in files
            for own in [layout.parents(info.filename)]
            for end in range(1, len(own) + 1)
        }
        found.bare = sorted(held - full)
        empty = [info.filename for info in infos if info.is_dir() and not is_image(info.filename)
                 and "/".join(layout.parents(info.filename)) not in held and not fault_path(info)]  # fmt: skip
        _pack(items, empty, found, out, name or str(path))


def fault_path(info: zipfile.ZipInfo) -> bool:
    """Does a folder's path leave the archive?"""
    return fault(info) != "a folder, not a file"


def _pack(items: Sequence[Item], empty: Sequence[str], found: Survey, out: Path, where: str) -> None:
    """Write what enters, and the manifest."""
    names = dict(zip([id(item) for item in items], text.paths(item.name for item in items), strict=True))
    by_name = {names[id(item)]: item for item in items}
    images = [name for name in by_name if is_image(name)]

    def read_table(name: str) -> bytes:
        try:
            return by_name[name].read()
        except UnreadableError as error:
            raise UserError(f"{where}: got {name} {error}; expected a readable table; correct it") from None

    arranged = arrange(images, [name for name in by_name if not by_name[name].refused], read_table, where)
    _check_bare([*found.bare, *found.broken], arranged.layout, where)
    left_out, refused = list[tuple[str, str]](), list[tuple[str, str]]()
    with atomic(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in empty:
            archive.writestr(zipfile.ZipInfo(text.path(name), EPOCH), b"")
        for item in tqdm(items, desc=f"packing {Path(where).name}", unit="file", leave=False):
            name = names[id(item)]
            image = is_image(name)
            if image and name not in arranged.masks and arranged.layout.places[name].left_out:
                left_out.append((name, arranged.layout.places[name].left_out))
                continue
            if not image and name not in arranged.tables:
                continue
            try:
                if item.refused:
                    raise UnreadableError(item.refused)
                data = item.read()
                if image:
                    look(data)
            except UnreadableError as error:
                refused.append((name, str(error)))
                continue
            _write(archive, name, data)
        manifest = {"left_out": left_out, "refused": refused, "remarks": [*_remarks(found), *arranged.remarks]}
        _write(archive, MANIFEST, json.dumps(manifest, ensure_ascii=True, indent=1).encode())


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system = 3  # the same bytes on every platform
    info.external_attr = 0o644 << 16
    archive.writestr(info, data)


def _check_bare(bare: Sequence[str], found: Layout, where: str) -> None:
    """Refuse a class folder in which there is no image: it would disappear without a word."""
    held = {word for own in found.classes.values() for word in [own.word] if word}
    for name in bare:
        own = words.meaning(name.rsplit("/", 1)[-1])
        if own.word and own.word not in held:
            raise UserError(
                f"{where}: got no image in the class folder {text.clean(name)!r}, but other files or nothing; expected "
                "images in it; fill it, convert what it holds, or remove it"
            )


def _remarks(found: Survey) -> list[str]:
    """What a user should know of what was not taken."""
    said = [
        ("links to folders, followed", found.links),
        ("links to folders that are read under another name, passed over", found.circles),
        ("links that lead nowhere, passed over", found.broken),
        ("pipes, devices or the like, passed over", found.specials),
        ("archives inside, which are not opened (unpack them to use them)", found.nested),
        ("folders without any image, passed over", found.bare),
        ("what systems and programs leave, passed over", list(found.junk)),
    ]
    lines = [f"{what}: {some(sorted(names))}" for what, names in said if names]
    if found.others:
        lines.append(f"files that are no images, passed over and not copied: {found.others}")
    return lines


def manifest(archive: zipfile.ZipFile) -> Mapping[str, Any]:
    """What the source of an archive held besides; empty lists for one that was not packed here."""
    nothing: dict[str, Any] = {"left_out": [], "refused": [], "remarks": []}
    try:
        told = json.loads(read(archive, archive.getinfo(MANIFEST)))
        pairs = [[(str(path), str(reason)) for path, reason in told[key]] for key in ("left_out", "refused")]
        return {"left_out": pairs[0], "refused": pairs[1], "remarks": [str(line) for line in told["remarks"]]}
    except (KeyError, ValueError, TypeError, UnreadableError):
        return nothing
