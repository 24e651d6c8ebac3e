"""DICOM and NIfTI files of a source, packed as slices under names in which no patient is named.

In a source with such a file no name of a file is kept, and of folders only those of classes, sides, sequences and the
like: scanners and people put patients' names there. Patients are told apart by pseudonyms, as names of folders.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd

from tumorxai.archives import dicom, grey, layout, nifti, persons, text, words
from tumorxai.archives.archives import ENDINGS, UnreadableError, begins_dicom
from tumorxai.archives.arranging import Arranged, Told
from tumorxai.archives.dicom import Header
from tumorxai.archives.grey import Slices
from tumorxai.archives.layout import Place
from tumorxai.archives.tables import Table

MASK = "lesion mask: of a DICOM or NIfTI file it is not read; save the slices and their masks as images"
NO_DICOM = "no DICOM file, or one without its preamble, which `dcmconv OLD NEW` adds"
SUBJECT = r"sub-[A-Za-z0-9]+"


class Part(NamedTuple):
    """A slice of a volume: the file, the place of the frame or slice in it, and what orders it among its volume's."""

    name: str
    frame: int
    order: tuple[float, ...]


@dataclass
class Volume:
    """Slices that were taken together.

    Attributes:
        parts: in order; of a NIfTI file, which is opened later, one for the whole.
        nifti: is it such a file?
    """

    parts: list[Part]
    nifti: bool = False


@dataclass
class Scans:
    """The scans of a source, looked through once.

    Attributes:
        read: the bytes of each file.
        headers: of the DICOM files that can be used.
        volumes: names of the NIfTI files that can be used.
        refused: by name, why a file cannot be used.
        digests: SHA-256 of each file that was read.
        several: number of NIfTI files of several volumes.
    """

    read: Mapping[str, Callable[[], bytes]]
    headers: dict[str, Header] = field(default_factory=dict)
    volumes: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)
    several: int = 0

    def __bool__(self) -> bool:
        return bool(self.read)

    def pseudonym(self, key: str) -> str:
        """A patient's pseudonym, 16 digits: HMAC-SHA256 of what tells the patient apart.

        The salt is made of all scans of the source: the same files give the same pseudonyms anywhere, and nobody who
        lacks one of them can try out names.
        """
        salt = hashlib.sha256(b"patients" + b"".join(sorted(self.digests.values()))).digest()
        found = hmac.digest(salt, key.encode("utf-8", errors="surrogatepass"), "sha256")
        return f"patient-{int.from_bytes(found[:8]) % 10**16:016d}"


def look_through(read: Mapping[str, Callable[[], bytes]], refused: Mapping[str, str]) -> Scans:
    """Read the headers of scans.

    Args:
        read: of each file that is called like a scan, or begins like one.
        refused: those that must not be read, with the reason.
    """
    found = Scans(read, refused=dict(refused))
    for name in read:
        if name in refused:
            continue
        try:
            data = read[name]()
            found.digests[name] = hashlib.sha256(data).digest()
            if _is_nifti(name):
                needs("nibabel", "a NIfTI volume")
                found.volumes.append(name)
                found.several += nifti.several(data)
            elif not begins_dicom(data):
                raise UnreadableError(NO_DICOM if data else "empty, 0 bytes")
            else:
                needs("pydicom", "a DICOM file")
                found.headers[name] = dicom.header(data)
        except UnreadableError as error:
            found.refused[name] = str(error)
    return found


def needs(package: str, what: str) -> None:
    """Refuse a file that only a package of the extra ``medical`` reads, where that is not installed."""
    try:
        importlib.import_module(package)
    except ImportError:
        raise UnreadableError(f"{what}; to read it, install the extra `medical` (docs/install.md)") from None


def picture(data: bytes, name: str) -> bytes:
    """The middle slice of one file as a PNG; the file itself, if it is no scan.

    Raises:
        UnreadableError: it cannot be read, or only with the extra ``medical``.
    """
    if begins_dicom(data):
        needs("pydicom", "a DICOM file")
        told = dicom.header(data)
        places = _ordered([Part(name, frame, (plane.position or 0, frame)) for frame, plane in enumerate(told.planes)])
        return dicom.picture(data, places[len(places) // 2].frame)
    if _is_nifti(name):
        needs("nibabel", "a NIfTI volume")
        return nifti.pictures(data, 1)[0][1]
    return data


def is_scan(data: bytes, name: str) -> bool:
    """Does a file begin as DICOM files do, or is it called as NIfTI files are?"""
    return begins_dicom(data) or _is_nifti(name)


def _is_nifti(name: str) -> bool:
    return name.casefold().endswith((".nii", ".nii.gz"))


class Renamed:
    """New names of a source's files, without a word of the old ones but for classes, sides and sequences."""

    def __init__(self, scans: Scans, arranged: Arranged) -> None:
        self._scans, self._arranged = scans, arranged
        self._taken: set[str] = set()
        self.names: dict[str, list[str]] = {}  # of the archive, by those of the source

    def patient(self, name: str) -> str:
        """Pseudonym of a file's patient, by the table, the header, the folders or the file's name; empty for none."""
        note, place = self._arranged.table.notes.get(name, {}), self._place(name)
        header = self._scans.headers.get(name)
        told = note.get("patient") or (header.patient if header else "") or place.patient
        if told:
            return self._scans.pseudonym(told)
        if header and header.study:
            return self._scans.pseudonym(f"study {header.study}")
        return self._scans.pseudonym(_subject(name)) if _is_nifti(name) else ""

    def sequence(self, name: str) -> str:
        """Sequence of a file, by its folders, its header or its name; what a table says stays in the table."""
        place, header = self._place(name), self._scans.headers.get(name)
        if place.sequence or words.meaning(place.folder).sequence:
            return place.sequence
        return header.sequence if header else words.spoken(_stem(name)) if _is_nifti(name) else ""

    def give(self, name: str, file: str, stays_out: bool = False) -> str:
        """A new name of a file or of one of its slices.

        Args:
            name: of the file, in the source.
            file: its new name, without folders.
            stays_out: of a file that does not enter; then nobody asks whose it is.
        """
        place = self._place(name)
        whose = "" if stays_out else self.patient(name)
        own = [place.side, place.folder, "" if stays_out else self.sequence(name), whose, file]
        (given,) = text.paths(["/".join(part for part in own if part)])
        stem, dot, ending = given.partition(".") if "/" not in given.partition(".")[2] else given.rpartition(".")
        number = 2
        while given in self._taken:
            given, number = f"{stem}~{number}{dot}{ending}", number + 1
        self._taken.add(given)
        self.names.setdefault(name, []).append(given)
        return given

    def scan(self, name: str) -> bool:
        """Is a file of the source a scan?"""
        return name in self._scans.read

    def _place(self, name: str) -> Place:
        return self._arranged.layout.places.get(name, Place())


def by_contents(kind: str, name: str, data: bytes) -> str:
    """A file's new name: the kind, 12 digits of the SHA-256, by which ``sha256sum`` finds it again, and the ending."""
    return f"{kind}-{hashlib.sha256(data).hexdigest()[:12]}{_ending(name)}"


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].partition(".")[0]


def _subject(name: str) -> str:
    """What tells the patient of a NIfTI file: a BIDS subject, else the name without the words for its sequence.

    Equal names in folders of two classes are two patients.
    """
    if own := re.search(SUBJECT, _stem(name)):
        return own[0]
    said = [word for word in words.tokens(_stem(name)) if word not in words.CONTRAST and not words.sequence(word)]
    folders = [
        part for part in layout.parents(name) if words.role(part) not in ("side", "sequence", "plane", "container")
    ]
    return "/".join([*folders, " ".join(said)])


def volumes(scans: Scans, arranged: Arranged) -> list[Volume]:
    """The volumes that a source's scans form, in the order of their first files.

    Files of one series that lie in one folder and in one plane are one; so is each file of several frames.
    """
    found: dict[tuple[object, ...], Volume] = {}
    for name, header in scans.headers.items():
        place = arranged.layout.places.get(name)  # none of a mask
        if place is None or place.left_out or header.left_out:
            continue
        label = arranged.table.notes.get(name, {}).get("label", "")
        for frame, plane in enumerate(header.planes):
            alone = name if len(header.planes) > 1 or not header.series else ""
            key = (layout.parents(name), label, alone, header.series, plane.orientation, header.size)
            own = found.setdefault(key, Volume([]))
            where = () if plane.position is None else (round(plane.position, 2),)
            own.parts.append(Part(name, frame, (*where, float(header.number), float(frame))))
    for name in scans.volumes:
        if (place := arranged.layout.places.get(name)) and not place.left_out:
            found[(name,)] = Volume([Part(name, 0, ())], nifti=True)
    for own in found.values():
        own.parts = _ordered(own.parts)
    return sorted(found.values(), key=lambda own: own.parts[0].name)


def _ordered(parts: Iterable[Part]) -> list[Part]:
    """Parts by their position, where all have one; else by their numbers."""
    return sorted(parts, key=lambda part: (part.order, part.name))


def distinct(parts: list[Part]) -> list[Part]:
    """Of parts at one position, as echoes and time points are, the first."""
    seen: dict[object, Part] = {}
    for part in parts:
        seen.setdefault(part.order[0] if len(part.order) == 3 else part, part)
    return list(seen.values())


def by_number(name: str, number: int) -> str:
    """A new name of a file that is not read: its number among the source's files, in order."""
    return f"file-{number:06d}{_ending(name)}"


def table(found: Table, renamed: Renamed) -> bytes:
    """What the tables state of the files that have new names, but for the patients, who are in these."""
    rows: list[dict[str, str]] = []
    for name, note in found.notes.items():
        own = {key: cell for key, cell in note.items() if key != "patient"}
        if mask := note.get("mask"):
            own["mask"] = next(iter(renamed.names.get(mask, ())), "missing.png")
            if renamed.scan(mask):
                del own["mask"]  # it is refused, once
        rows += [{"file": given} | own for given in renamed.names.get(name, ())]
    rows += [{"file": f"row without a file {number}"} for number in range(1, len(found.unmatched) + 1)]
    return pd.DataFrame(rows, columns=["file", *sorted({key for row in rows for key in row} - {"file"})]).to_csv(
        index=False, lineterminator="\n"
    ).encode()  # fmt: skip


def slices(
    scans: Scans, arranged: Arranged, renamed: Renamed, wanted: Slices, told: Told
) -> Iterator[tuple[str, bytes]]:
    """The slices that enter, each under its new name.

    Args:
        scans: of the source.
        arranged: how its files are taken.
        renamed: gives the names.
        wanted: which slices of a volume.
        told: receives the files that do not enter, and what a user should know.
    """
    for number, (name, reason) in enumerate(scans.refused.items(), 1):
        told.refused.append((renamed.give(name, _refused(scans, name, number), stays_out=True), reason))
    for number, name in enumerate([*scans.headers, *scans.volumes], 1):
        if name in arranged.masks:
            told.refused.append((renamed.give(name, _refused(scans, name, number), stays_out=True), MASK))
            continue
        reason = persons.unnamed(arranged.layout.places[name].left_out) or (
            scans.headers[name].left_out if name in scans.headers else ""
        )
        if reason:
            told.left_out.append((renamed.give(name, _refused(scans, name, number), stays_out=True), reason))
    taken = again = 0
    every = volumes(scans, arranged)
    for number, volume in enumerate(every, 1):
        parts = volume.parts if wanted == "all" else distinct(volume.parts)
        again += len(volume.parts) - len(parts)
        for name, read in _opened(scans, volume, parts, wanted):
            try:
                for place, png in read():
                    yield renamed.give(name, f"series-{number:04d}_slice-{place:04d}.png"), png
                    taken += 1
            except UnreadableError as error:
                told.refused.append((renamed.give(name, _refused(scans, name, number), stays_out=True), str(error)))
    told.remarks += _remarks(scans, len(every), taken, again, wanted)


def _opened(
    scans: Scans, own: Volume, parts: list[Part], wanted: Slices
) -> Iterator[tuple[str, Callable[[], list[tuple[int, bytes]]]]]:
    """Of a volume the files that are opened, and what gives the places and PNGs of their slices."""
    if own.nifti:
        name = parts[0].name
        yield name, lambda: nifti.pictures(scans.read[name](), wanted)
        return
    latest: dict[str, bytes] = {}  # frames of one file follow one another

    def read(name: str) -> bytes:
        if name not in latest:
            latest.clear()
            latest[name] = scans.read[name]()
        return latest[name]

    for place in grey.chosen(len(parts), wanted):
        part = parts[place]
        yield part.name, lambda place=place, part=part: [(place, dicom.picture(read(part.name), part.frame))]  # type: ignore[misc]


def _remarks(scans: Scans, volumes: int, taken: int, again: int, wanted: Slices) -> list[str]:
    said = [
        f"DICOM and NIfTI: {volumes} volumes, of which {taken} slices were taken (data.slices: {wanted})"
        + (f"; {again} pictures of a position that another of the series shows were passed over" if again else ""),
        "names of files, and of folders but for classes, sides and sequences, were not kept: they may name patients",
    ]
    if scans.several:
        said.append(f"{scans.several} NIfTI files hold several volumes, of which the first is taken; save others alone")
    if captures := sum(header.capture for header in scans.headers.values()):
        said.append(f"{captures} DICOM files are captures of a screen or paper: see that no name is written on them")
    if nameless := sum(not header.patient for header in scans.headers.values()):
        said.append(f"{nameless} DICOM files name no patient; their folder or examination is taken for one")
    return said


def _refused(scans: Scans, name: str, number: int) -> str:
    """A new name of a file that does not enter, by its contents where it was read."""
    if name not in scans.digests:
        return by_number(name, number)
    return f"scan-{scans.digests[name].hex()[:12]}{_ending(name)}"


def _ending(name: str) -> str:
    """A file's ending, where it is a known one; else that of DICOM files, which often have none."""
    return next((own for own in sorted(ENDINGS, key=len, reverse=True) if name.casefold().endswith(own)), ".dcm")
