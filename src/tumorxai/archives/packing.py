"""One archive of a user's folder or zip: what the run reads, under names that are safe, and what was left out and why.

Folder and zip go through the same rules. Only images that enter, lesion masks that a table names and the tables that
are read are copied; a manifest says what else there was.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import stat
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from tumorxai.archives import grey, layout, persons, scans, text, words
from tumorxai.archives.archives import (
    MAX_BYTES,
    NESTED,
    NESTED_ARCHIVES,
    OTHERS,
    SCANS,
    UnreadableError,
    begins_dicom,
    changed,
    fault,
    is_image,
    is_junk,
    may_be_dicom,
    open_zip,
    read,
    unreadable,
)
from tumorxai.archives.arranging import MANIFEST, Arranged, Item, Told, arrange, noted, some
from tumorxai.archives.folders import Survey, ending, endings, survey
from tumorxai.archives.grey import Slices
from tumorxai.archives.images import decode, look
from tumorxai.archives.layout import Layout
from tumorxai.archives.scans import Scans
from tumorxai.archives.tables import TABLES
from tumorxai.config import Data
from tumorxai.errors import UserError
from tumorxai.files import atomic

LINK = "a symbolic link to what is not in the archive; zip what it leads to, without the option -y"
UNNAMED = {"above": "folders above the classes, not used", "inside": "folders in classes that mean nothing here",
           "container": "folders taken for mere containers, as sites are"}  # fmt: skip
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold, so that archives do not depend on file times
SLICES: Slices = Data.model_fields["slices"].default


def zip_folder(folder: Path, out: Path, slices: Slices = SLICES) -> tuple[int, str]:
    """Pack what the run reads of a folder: the same files give the same bytes.

    Args:
        folder: holds class folders at any depth.
        out: the archive, stored without compression.
        slices: which of a volume: ``data.slices``.

    Returns:
        How many files were looked at, and ``contents`` of them as they were read.

    Raises:
        UserError: there is no image, a class folder is empty, or something cannot be read.
    """
    found = survey(folder)
    read_so: dict[str, bytes] = {}

    def reader(name: str) -> Callable[[], bytes]:
        def read_one() -> bytes:
            digest = hashlib.sha256()
            try:
                with open(folder / name, "rb") as stream:
                    size = os.fstat(stream.fileno()).st_size
                    data = stream.read(min(size, MAX_BYTES) + 1)  # in memory once
                    digest.update(data)
                    while rest := stream.read(2**20):
                        digest.update(rest)
            except OSError as error:
                raise unreadable(folder / name, error) from None
            read_so[name] = digest.digest()
            if len(data) > MAX_BYTES:
                raise UnreadableError(f"more than {MAX_BYTES} bytes")
            if len(data) != size:
                raise changed(str(folder / name))
            return data

        return read_one

    items = [Item(file.name, reader(file.name), file.refused, file.scan) for file in found.files]
    _pack(items, [], found, out, str(folder), slices)
    for item in items:
        if item.name not in read_so:
            read_so[item.name] = refusal(item.refused) if item.refused else b""
    for file in found.files:
        if not file.refused and not read_so[file.name]:
            reader(file.name)()
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


def zip_zip(path: Path, out: Path, name: str = "", slices: Slices = SLICES) -> None:
    """Pack what the run reads of a user's zip.

    Args:
        path: the zip.
        out: the archive, stored without compression.
        name: of the zip in messages, where ``path`` is a copy.
        slices: which of a volume: ``data.slices``.

    Raises:
        UserError: it is no zip, or a class folder is empty.
    """
    with open_zip(path) as archive:
        items, empty, found = look_into(archive)
        _pack(items, empty, found, out, name or str(path), slices)


def look_into(archive: zipfile.ZipFile) -> tuple[list[Item], list[str], Survey]:
    """Images and tables of a zip, its folders in which nothing lies, and what else it holds."""
    infos = [info for info in archive.infolist() if not is_junk(info.filename)]
    last = {info.filename: info for info in infos}
    items, found, links = list[Item](), Survey(), list[zipfile.ZipInfo]()
    for path_inside in {info.filename for info in archive.infolist()} - last.keys():
        found.junk.add(next(part for part in path_inside.replace("\\", "/").split("/") if is_junk(part)))
    files = [info for info in infos if not info.is_dir()]
    for info in sorted(infos, key=lambda one: (one.filename, last[one.filename] is not one)):
        inside = info.filename
        scan = inside.casefold().endswith(SCANS) or _hidden_scan(archive, info)
        if scan or is_image(inside) or (not info.is_dir() and _is_table(inside)):
            reason = fault(info)
            if not reason and last[inside] is not info:
                reason = "another file of the archive has the same name"
            items.append(Item(inside, lambda info=info: read(archive, info), reason, scan))  # type: ignore[misc]
        elif stat.S_ISLNK(info.external_attr >> 16):
            links.append(info)
        elif not info.is_dir():
            found.others[ending(inside)] += 1
            if inside.casefold().endswith(NESTED):
                found.nested.append(inside)
    full = {"/".join(own[:end]) for item in items if not _is_table(item.name)
            for own in [layout.parents(item.name)] for end in range(len(own) + 1)}  # fmt: skip
    held = {
        "/".join(own[:end])
        for info in files
        for own in [layout.parents(info.filename)]
        for end in range(1, len(own) + 1)
    }
    found.bare = sorted(held - full)
    for info in links:
        _link(archive, info, held, found)
    empty = [info.filename for info in infos if info.is_dir() and not is_image(info.filename)
             and "/".join(layout.parents(info.filename)) not in held and not fault_path(info)]  # fmt: skip
    return items, empty, found


def _link(archive: zipfile.ZipFile, info: zipfile.ZipInfo, held: Collection[str], found: Survey) -> None:
    """Note a link that is not called like an image: it may stand for a class folder.

    A folder of the archive is read once, under its own name, as one of a folder is.
    """
    try:
        with archive.open(info) as stream:
            target = stream.read(2**12).decode(errors="surrogateescape")
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError):
        target = ""
    inside = info.filename.replace("\\", "/")
    if target and posixpath.normpath(posixpath.join(posixpath.dirname(inside), target)) in held:
        found.circles.append(info.filename)
    else:
        found.refused.append((info.filename, LINK))


def _is_table(name: str) -> bool:
    return name.replace("\\", "/").rsplit("/", 1)[-1].casefold() in TABLES


def _hidden_scan(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bool:
    """Is a file, whose name does not tell, a scanner's?"""
    if not may_be_dicom(info.filename) or fault(info):
        return False
    try:
        with archive.open(info) as stream:
            return begins_dicom(stream.read(132))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError):
        return False  # nobody has said that it is an image


def fault_path(info: zipfile.ZipInfo) -> bool:
    """Does a folder's path leave the archive?"""
    return fault(info) != "a folder, not a file"


def _pack(items: Sequence[Item], empty: Sequence[str], found: Survey, out: Path, where: str, slices: Slices) -> None:
    """Write what enters, and the manifest."""
    by_name = dict(zip(text.paths(item.name for item in items), items, strict=True))
    images = [name for name in by_name if not _is_table(name)]
    own = {name: item for name, item in by_name.items() if item.scan}
    seen = scans.look_through(
        {name: item.read for name, item in own.items()},
        {name: item.refused for name, item in own.items() if item.refused},
    )
    shown = persons.safe if seen else str
    known = persons.known(seen.headers)
    nested = persons.nested(seen.read, images, seen.headers, known)

    def read_table(name: str) -> bytes:
        try:
            return by_name[name].read()
        except UnreadableError as error:
            raise UserError(f"{where}: got {shown(name)} {error}; expected a readable table; correct it") from None

    usable = [name for name in by_name if not by_name[name].refused]
    arranged = arrange(images, usable, read_table, where, known | nested, shown, lambda name: _is_map(by_name[name]))
    lost = [name for name, _ in found.refused]
    _check_bare([*found.bare, *found.broken, *lost], arranged.layout, where, shown)
    told = Told(
        refused=[(text.path(shown(name)), reason) for name, reason in found.refused],
        remarks=[*remarks(found, shown), *arranged.remarks],
    )
    if seen:  # later, under new names, nobody sees this any more
        told.remarks += persons.remarks(known, nested, arranged.layout.classes)
        told.remarks += noted(arranged.layout, shown)
        for role, said in UNNAMED.items():
            if folders := arranged.layout.folders.get(role):
                told.remarks.append(f"{said}: {len(folders)}")
    with atomic(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in empty:
            _write(archive, text.path(shown(name)), b"")
        bar = tqdm(by_name.items(), desc=f"packing {Path(where).name}", unit="file", leave=False)
        entering = _renamed(dict(bar), seen, arranged, told, slices) if seen else _entering(bar, arranged, told)
        for name, data in entering:
            _write(archive, name, data)
        _write(archive, MANIFEST, json.dumps(asdict(told), ensure_ascii=True, indent=1).encode())


def _is_map(item: Item) -> bool | None:
    """Has a file the grey levels of a mask? None for a scan, whose slices are judged later, and what cannot be read."""
    if item.scan or item.refused or item.name.casefold().endswith(OTHERS):
        return None
    try:
        return grey.is_map(decode(item.read()).image)
    except UnreadableError:
        return None


def _entering(
    items: Iterable[tuple[str, Item]],
    arranged: Arranged,
    told: Told,
    left: Callable[[str], str] = str,
    kept: Callable[[str, bytes], str] = lambda name, data: name,
    said: Callable[[str], str] = str,
) -> Iterator[tuple[str, bytes]]:
    """Images that enter, masks that a table names and tables that are read, each with its name and its bytes.

    Args:
        items: by name.
        arranged: how they are taken.
        told: receives those that do not enter.
        left: how a file that is not read is called.
        kept: how one that is read is called.
        said: how the reason is told for which a file does not enter.
    """
    for name, item in items:
        image = not _is_table(name)
        if image and name not in arranged.masks and (reason := arranged.layout.places[name].left_out):
            told.left_out.append((left(name), said(reason)))
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
            told.refused.append((left(name), said(str(error))))
            continue
        yield kept(name, data), data


def _renamed(
    items: Mapping[str, Item], seen: Scans, arranged: Arranged, told: Told, slices: Slices
) -> Iterator[tuple[str, bytes]]:
    """The same of a source with scans: slices as images, under names that no old one is part of, and their table."""
    renamed = scans.Renamed(seen, arranged)
    others = {name: item for name, item in items.items() if not item.scan and not _is_table(name)}
    numbers = {name: number for number, name in enumerate(items, 1)}

    def left(name: str) -> str:
        return renamed.give(name, scans.by_number(name, numbers[name]), stays_out=True)

    def kept(name: str, data: bytes) -> str:
        return renamed.give(name, scans.by_contents("image", name, data))

    yield from _entering(others.items(), arranged, told, left, kept, persons.unnamed)
    yield from scans.slices(seen, arranged, renamed, slices, told)
    if arranged.tables:
        name = "labels.csv" if arranged.table.column("label") else "annotations.csv"
        yield name, scans.table(arranged.table, renamed)


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system = 3  # the same bytes on every platform
    info.external_attr = 0o644 << 16
    archive.writestr(info, data)


def _check_bare(bare: Sequence[str], found: Layout, where: str, shown: Callable[[str], str]) -> None:
    """Refuse a class folder in which there is no image: it would disappear without a word."""
    held = {word for own in found.classes.values() for word in [own.word] if word}
    for name in bare:
        own = words.meaning(name.rsplit("/", 1)[-1])
        if own.word and own.word not in held:
            raise UserError(
                f"{where}: got no image in the class folder {text.clean(shown(name))!r}, but other files or nothing; "
                "expected images in it; fill it, convert what it holds, or remove it"
            )


def remarks(found: Survey, shown: Callable[[str], str] = str) -> list[str]:
    """What a user should know of what was not taken.

    Args:
        found: in the source.
        shown: how a name may be shown.
    """
    said = [
        ("links to folders, followed", found.links),
        ("links to folders that are read under another name, passed over", found.circles),
        ("links that lead nowhere, passed over", found.broken),
        ("pipes, devices or the like, passed over", found.specials),
        (NESTED_ARCHIVES, found.nested),
        ("folders without any image, passed over", found.bare),
        ("what systems and programs leave, passed over", list(found.junk)),
    ]
    lines = [f"{what}: {some(sorted({shown(name) for name in names}))}" for what, names in said if names]
    if found.others:
        told = f" ({endings(found.others)})" if shown is str else ""  # what is behind a dot may be a name as well
        lines.append(f"files that are no images, passed over and not copied: {found.others.total()}{told}")
    return lines
