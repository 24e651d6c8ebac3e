"""What an archive holds: its files sorted into images of known classes and files that cannot be used.

Nothing but the annotations is opened.
"""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from tumorxai.archives import sources
from tumorxai.archives.archives import UnreadableError, fault, is_image, is_junk, open_zip, read
from tumorxai.archives.images import Box, Task
from tumorxai.archives.sources import Source
from tumorxai.errors import UserError

BOX = ("x_center", "y_center", "width", "height")  # fractions of the image
NOTES = {"patient", "fold", "sequence", "mask", *BOX}  # columns of an annotations file that are used
ANNOTATIONS = "annotations.csv"  # where a source without a block may have them


@dataclass(frozen=True)
class Candidate:
    """A file that should be an image of a class.

    Attributes:
        native_label: its class folder; empty where only the file itself tells.
        notes: its row of the annotations, by column.
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
    """

    name: str
    source: Source
    candidates: list[Candidate]
    refused: list[tuple[str, str, str]]


def list_archive(path: Path, name: str, block: Source | None) -> Listing:
    """Sort an archive's files.

    Args:
        path: the zip.
        name: identity of the source.
        block: what ``sources.yaml`` says about it; None to go by the folders alone.

    Raises:
        UserError: it is no zip, holds no class folder, an empty one, or annotations that cannot be read.
    """
    with open_zip(path) as archive:
        infos = archive.infolist()
        notes = _annotations(
            archive, block.annotations if block else ANNOTATIONS, required=bool(block and block.annotations)
        )
    position = {info.filename: entry for entry, info in enumerate(infos)}
    masks = {note["mask"] for note in notes.values() if note.get("mask")}
    files = [
        (info.filename, entry)
        for entry, info in enumerate(infos)
        if is_image(info.filename) and info.filename not in masks
    ]
    usable = [file for file, entry in files if not fault(infos[entry])]
    source = block or sources.infer(usable)
    listing = Listing(name, source, [], [])
    for file, entry in sorted(files):
        place = source.place(file)
        if place is None:
            continue
        native, side = place
        reason = fault(infos[entry])
        if not reason and position[file] != entry:
            reason = "another file of the archive has the same name"
        if not reason and not native and not file.casefold().endswith(".mat"):
            reason = f"in folder {str(PurePosixPath(file).parent)!r}, which is no class of this source"
        if reason:
            listing.refused.append((file, native, reason))
            continue
        note = notes.get(file, {})
        if note.get("mask") and note["mask"] not in position:
            listing.refused.append((note["mask"], "", "lesion mask: not in the archive"))
        task = Task(path, entry, position.get(note.get("mask", ""), -1), _box(note))
        listing.candidates.append(Candidate(file, native, side, note, task))
    _check_folders(listing, path, [info.filename for info in infos], inferred=block is None)
    if notes and not any(candidate.notes for candidate in listing.candidates):
        raise UserError(
            f"{path}: got annotations of {next(iter(notes))!r} and others, none of which is an image of the archive; "
            "expected the column `file` to hold paths inside it; correct it"
        )
    return listing


def patient(listing: Listing, candidate: Candidate, own: str) -> str:
    """Identity of an image's patient across sources, ``SOURCE:ID``, or empty.

    Args:
        listing: the source's files.
        candidate: one of them.
        own: what the image file itself says.
    """
    number = own or candidate.notes.get("patient", "")
    if not number and listing.source.patient:
        match = re.search(listing.source.patient, PurePosixPath(candidate.path).name)
        number = match.group(1) if match else ""
    return f"{listing.name}:{number}" if number else ""


def _check_folders(listing: Listing, path: Path, files: list[str], inferred: bool) -> None:
    """Refuse an archive without any class folder, or with an empty one."""
    if not listing.candidates:
        found = sorted({str(PurePosixPath(file).parent) for file in files if not is_junk(file)})[:12]
        raise UserError(
            f"{path}: got no image in a class folder, but the folders {found}; expected "
            f"{sorted(listing.source.classes)} under "
            f"{sorted(listing.source.folders)}; is this the archive of {listing.name}?"
        )
    seen = {candidate.native_label for candidate in listing.candidates} | {native for _, native, _ in listing.refused}
    filled = {str(parent) for file in files if not file.endswith("/") for parent in PurePosixPath(file).parents}
    for folder in files:
        if folder.endswith("/") and folder.rstrip("/") not in filled and not is_junk(folder) and not is_image(folder):
            place = listing.source.place(folder + "image")
            if inferred or (place and place[0] and place[0] not in seen):
                raise UserError(
                    f"{path}: got the empty class folder {folder!r}; expected images in it; fill it or remove it"
                )


def _annotations(archive: zipfile.ZipFile, path: str, required: bool) -> dict[str, dict[str, str]]:
    """Rows of a source's annotations by file; empty without such a file."""
    where = f"{archive.filename}, {path}"
    try:
        info = archive.getinfo(path)
    except KeyError:
        if required:
            raise UserError(
                f"{where}: got no such file; expected this source's annotations; fetch the archive again"
            ) from None
        return {}
    try:
        table = pd.read_csv(io.BytesIO(read(archive, info)), dtype=str, keep_default_na=False)
    except (UnreadableError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{where}: got {error}; expected a table of comma-separated values; correct it") from None
    if "file" not in table or table["file"].duplicated().any():
        raise UserError(
            f"{where}: got columns {list(table)}; expected one row per image and its path in a column `file`; "
            "correct it"
        )
    fold = table.get("fold", pd.Series(dtype=str))
    if not fold.str.fullmatch(r"\d*").all():
        raise UserError(
            f"{where}: got folds {sorted(set(fold))[:8]}; expected whole numbers; correct the column `fold`"
        )
    columns = [name for name in table if name in NOTES]
    rows = table[columns].to_dict(orient="records")
    return {
        file: {str(key): value for key, value in row.items()} for file, row in zip(table["file"], rows, strict=True)
    }


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
