"""What an archive holds: its files sorted into images of known classes and files that cannot be used.

Nothing but the annotations is opened.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tumorxai.archives import arranging, rows, tables, text
from tumorxai.archives.archives import NESTED_ARCHIVES, UnreadableError, fault, is_image, is_junk, open_zip, read
from tumorxai.archives.arranging import Arranged
from tumorxai.archives.images import Box, Task
from tumorxai.archives.layout import Layout, Place
from tumorxai.archives.partners import ALONE
from tumorxai.archives.rows import BOX
from tumorxai.archives.sources import CHENG, Class, Source
from tumorxai.archives.tables import Table
from tumorxai.errors import UserError

OUTSIDE = "outside the folders that the source declares"
NO_CLASS = "outside the class folders"


@dataclass(frozen=True)
class Candidate:
    """A file that should be an image of a class.

    Attributes:
        native_label: its class folder; empty where only the file itself tells.
        notes: what its row of the annotations, or else its folders, say of it, by column.
    """

    path: str
    native_label: str
    official_split: str
    notes: dict[str, str]
    task: Task


@dataclass(frozen=True)
class Listing:
    """One archive's files.

    Attributes:
        name: identity of the source.
        source: its block, or what the archive's folders tell.
        candidates: in the order of their paths.
        refused: paths, each with its class folder and the reason.
        left_out: paths of images that are no part of the data set, masks and the like, each with the reason.
        layout: what the folders were taken for; None for a source with a block.
        table: what its tables state.
        remarks: what else a user should know, one sentence each.
    """

    name: str
    source: Source
    candidates: list[Candidate]
    refused: list[tuple[str, str, str]]
    left_out: list[tuple[str, str]] = field(default_factory=list)
    layout: Layout | None = None
    table: Table = field(default_factory=Table)
    remarks: list[str] = field(default_factory=list)


def list_archive(path: Path, name: str, block: Source | None, where: str = "") -> Listing:
    """Sort an archive's files.

    Args:
        path: the zip.
        name: identity of the source.
        block: what ``sources.yaml`` says about it; None to go by the folders alone.
        where: the user's folder or zip that it was made of, for messages; the archive itself by default.

    Raises:
        UserError: it is no zip, holds no class folder, an empty one, or annotations that cannot be read.
    """
    where = where or str(path)
    with open_zip(path) as archive:
        infos = archive.infolist()
        told = arranging.manifest(archive)
        position = {info.filename: entry for entry, info in enumerate(infos)}
        images = [(info.filename, entry) for entry, info in enumerate(infos) if is_image(info.filename)]
        if block:
            arranged, table = None, _annotations(archive, block.annotations, position)
            masks = {note["mask"] for note in table.notes.values() if note.get("mask")}
            source = block
        else:
            arranged = _arranged(archive, where, [file for file, _ in images], told)
            table, masks, source = arranged.table, arranged.masks, _inferred(arranged.layout)
    remarks = told["remarks"] or (arranged.remarks if arranged else [])  # those of packing know the source's own names
    layout = arranged.layout if arranged else None
    found = Listing(name, source, [], [], list(told["left_out"]), layout, table, remarks)
    listed = sorted((file, entry) for file, entry in images if file not in masks)
    for file, entry in listed:
        place = _place(file, source, arranged)
        if place.left_out:
            found.left_out.append((text.path(file), place.left_out))
            continue
        reason = fault(infos[entry]) or _misnamed(file)
        if not reason and position[file] != entry:
            reason = "another file of the archive has the same name"
        if not reason and not place.label and not file.casefold().endswith(".mat"):
            folder = str(PurePosixPath(file).parent)
            reason = NO_CLASS if folder == "." else f"in folder {folder!r}, which is no class of this source"
        if reason:
            found.refused.append((text.path(file), place.label, reason))
            continue
        note = {"patient": place.patient, "sequence": place.sequence} | table.notes.get(file, {})
        if note.get("mask") and note["mask"] not in position:
            found.refused.append((text.path(note["mask"]), "", "lesion mask: not in the archive"))
        task = Task(path, entry, position.get(note.get("mask", ""), -1), _box(note))
        side = note.get("side", "") or place.side
        found.candidates.append(
            Candidate(file, place.label, side, {key: own for key, own in note.items() if own}, task)
        )
    for file, reason in told["refused"]:
        found.refused.append((file, _place(file, source, arranged).label, reason))
    _check_folders(found, where, [info.filename for info in infos], inferred=block is None)
    if table.rows and not table.notes and table.unmatched:
        raise UserError(
            f"{where}: got annotations of {table.unmatched[0]!r} and others, none of which is an image of the archive; "
            "expected the column `file` to hold paths inside it; correct it"
        )
    return found


def _arranged(
    archive: zipfile.ZipFile, where: str, images: Sequence[str], told: Mapping[str, list[tuple[str, str]]]
) -> Arranged:
    """How the files of a source without a block are taken: those of the archive, and those that were not packed."""
    absent = [file for key in ("left_out", "refused") for file, _ in told[key] if is_image(file)]
    usable = [file for file in images if not fault(archive.getinfo(file))]

    def read_table(name: str) -> bytes:
        try:
            return read(archive, archive.getinfo(name))
        except UnreadableError as error:
            raise UserError(f"{where}, {name}: got a table {error}; expected a readable one; correct it") from None

    files = [name for name in archive.namelist() if not is_junk(name)]
    masks = {file for file, reason in told["left_out"] if reason == ALONE}
    packed = arranging.MANIFEST in archive.namelist()  # and what is called like a mask was looked at
    return arranging.arrange(
        [*usable, *absent], files, read_table, where, looked=lambda file: file in masks if packed else None
    )


def _inferred(layout: Layout) -> Source:
    """A source without a block, as its folders tell; names that only punctuation tells apart stay apart."""
    classes = {
        name: Class(group=own.group, histology=own.histology, sequence=own.sequence)
        for name, own in layout.classes.items()
    }
    if any(path.casefold().endswith(".mat") for path in layout.places):  # of the Cheng data set, which tell their class
        classes |= CHENG
    return Source.model_construct(title="", classes=classes)


def _place(file: str, source: Source, arranged: Arranged | None) -> Place:
    """What a file's path says."""
    if arranged:
        return arranged.layout.places.get(file, Place())
    declared = source.place(file)
    return Place(left_out=OUTSIDE) if declared is None else Place(*declared)


def _misnamed(file: str) -> str:
    """Why a file's name cannot be used as it is; empty where it can."""
    return (
        ""
        if text.path(file) == file.replace("\\", "/")
        else ("its name holds control characters or marks of direction, begins as a formula, or is too long; rename it")
    )


def patient(listing: Listing, candidate: Candidate, own: str) -> str:
    """Identity of an image's patient across sources, ``SOURCE:ID``, or empty.

    Args:
        listing: the source's files.
        candidate: one of them.
        own: what the image file itself says.
    """
    number = text.patient_id(own or candidate.notes.get("patient", ""))
    if not number and listing.source.patient:
        match = re.search(listing.source.patient, PurePosixPath(candidate.path).name)
        number = text.patient_id(match.group(1)) if match else ""
    return f"{listing.name}:{number}" if number else ""


def left_out(listing: Listing) -> dict[str, int]:
    """How many files were left out for each reason."""
    return dict(Counter(reason for _, reason in listing.left_out))


def _check_folders(listing: Listing, where: str, files: list[str], inferred: bool) -> None:
    """Refuse an archive without any class folder, or with an empty one."""
    if not listing.candidates:
        found = sorted({str(PurePosixPath(file).parent) for file in files if not is_junk(file)})[:12]
        out = "".join(f"; left out: {count} ({reason})" for reason, count in left_out(listing).items())
        if inferred:
            out += "".join(f"; {line}" for line in listing.remarks if line.startswith(NESTED_ARCHIVES))
            first = (
                f"; the first one refused is {listing.refused[0][0]!r}: {listing.refused[0][2]}"
                if listing.refused
                else ""
            )
            first += "".join(f"; {line}" for line in listing.remarks if line.startswith(arranging.IDLE))
            if listing.table.names and not listing.table.column("label"):
                first += f"; {', '.join(listing.table.names)} states no label in {listing.table.rows} rows"
            raise UserError(
                f"{where}: got no image in a class folder, but the folders {found}{out}{first}; expected CLASS/IMAGE, "
                "train/CLASS/IMAGE and test/CLASS/IMAGE, or a table labels.csv with the columns file and label; sort "
                "the images into folders of their classes, or write that table"
            )
        raise UserError(
            f"{where}: got no image in a class folder, but the folders {found}{out}; expected "
            f"{sorted(listing.source.classes)} under "
            f"{sorted(listing.source.folders)}; is this the archive of {listing.name}?"
        )
    seen = {candidate.native_label for candidate in listing.candidates} | {native for _, native, _ in listing.refused}
    filled = {str(parent) for file in files if not file.endswith("/") for parent in PurePosixPath(file).parents}
    for folder in files:
        if folder.endswith("/") and folder.rstrip("/") not in filled and not is_junk(folder) and not is_image(folder):
            place = None if inferred else listing.source.place(folder + "image")
            if inferred or (place and place[0] and place[0] not in seen):
                raise UserError(
                    f"{where}: got the empty class folder {folder!r}; expected images in it; fill it or remove it"
                )


def _annotations(archive: zipfile.ZipFile, path: str, files: Mapping[str, int]) -> Table:
    """What the annotations of a source with a block state; nothing without such a file."""
    if not path:
        return Table()
    where = f"{archive.filename}, {path}"
    try:
        data = read(archive, archive.getinfo(path))
    except KeyError:
        raise UserError(
            f"{where}: got no such file; expected this source's annotations; fetch the archive again"
        ) from None
    except UnreadableError as error:
        raise UserError(f"{where}: got {error}; expected a table of comma-separated values; correct it") from None
    return tables.match({path: rows.parse(data, where, strict=False)}, files, exact=True)


def _box(note: dict[str, str]) -> Box | None:
    """The lesion box of an annotation, if it states one."""
    texts = [note.get(name, "") for name in BOX]
    if not all(texts):
        return None
    try:
        x, y, width, height = (float(text) for text in texts)
    except ValueError:
        x = y = width = height = -1.0
    if not (0 <= x <= 1 and 0 <= y <= 1 and 0 < width <= 1 and 0 < height <= 1):
        raise UserError(
            f"annotations: got the box {texts}; expected {', '.join(BOX)} as fractions of the image; correct it"
        )
    return x, y, width, height
