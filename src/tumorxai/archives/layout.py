"""How a folder of images is laid out: which folders are classes, sides, patients, sequences, masks and augmentations.

Only names are looked at. What they were taken for is kept (:class:`Layout`), so that it can be shown, never guessed in
silence.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tumorxai.archives import levels, partners, text, words
from tumorxai.archives.partners import ALONE, AUGMENTED, MASK, MASKS, Parts
from tumorxai.archives.tables import Table
from tumorxai.archives.words import Meaning, Side

NO_ROW = "has no label in the table"
LIKE_MASKS = "folders called like ones of masks, that mirror none of images; not taken for masks"
SHADED = "files called like masks, of no image, on which there are many grey levels; taken as images"
EMPTIED = "classes of which no image enters, for all files in their folders are left out"
NESTED = "folders of known classes that lie in those of others; the innermost is the class"
PERSONS = (
    "folders whose names differ from class to class were taken for patients, and those above them for the classes (if "
    "they are the classes, put them beside each other)"
)
DIGITS = 20  # most classes that are mere numbers, 0, 1, 2, …; folders of more are likely patients


class Place(NamedTuple):
    """What an image's path says of it.

    Attributes:
        label: its class; empty where none is told.
        side: of the publisher's split; empty for none.
        patient: id; empty where none is told.
        sequence: of MRI; empty where none is told.
        left_out: why the file is no image of the data set; empty for one that is.
        folder: that its class was read off, as it is spelt; empty where none is.
    """

    label: str = ""
    side: Side = ""
    patient: str = ""
    sequence: str = ""
    left_out: str = ""
    folder: str = ""


@dataclass
class Layout:
    """What was found, for every image's path and in all.

    Attributes:
        places: by path.
        classes: by name, what the name means.
        spellings: by class, the names of folders that are taken for it.
        levels: number of images by the level, from 1 at the top, of the folder that is their class; 0: a table's label.
        folders: by role (``side``, ``patient``, …) the folders taken for it and their images; ``inside``: folders in
            classes that mean nothing here; ``above``: those above the classes, which are not used.
        notes: what a user should know, a sentence each, with the names of the folders or files.
        asked: paths of what is called like a mask, but has no image: its grey levels tell what it is.
    """

    places: dict[str, Place] = field(default_factory=dict)
    classes: dict[str, Meaning] = field(default_factory=dict)
    spellings: dict[str, list[str]] = field(default_factory=dict)
    levels: Counter[int] = field(default_factory=Counter)
    folders: dict[str, Counter[str]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


def parents(path: str) -> Parts:
    """Folders above a file; a backslash stands for a slash, as in archives made on Windows."""
    return tuple(part for part in path.replace("\\", "/").split("/")[:-1] if part not in ("", ".", ".."))


class Folders(NamedTuple):
    """Images by their folders, and what needs no table.

    Attributes:
        inside: images of each folder, in order.
        children: names of the folders in each.
        mirrored: see :func:`tumorxai.archives.partners.mirrored`.
        belonging: of each folder, see :func:`tumorxai.archives.partners.belonging`.
    """

    inside: dict[Parts, list[str]]
    children: dict[Parts, set[str]]
    mirrored: dict[Parts, bool]
    belonging: dict[Parts, tuple[dict[str, str], dict[str, str]]]


def gather(paths: Iterable[str]) -> Folders:
    """Sort images by their folders."""
    inside: dict[Parts, list[str]] = {}
    for path in sorted(paths):
        inside.setdefault(parents(path), []).append(path)
    children: dict[Parts, set[str]] = {}
    for folder in inside:
        for end, name in enumerate(folder):
            children.setdefault(folder[:end], set()).add(name)
    belonging = {folder: partners.belonging(files) for folder, files in inside.items()}
    return Folders(inside, children, partners.mirrored(inside, children), belonging)


def arrange(
    images: Iterable[str] | Folders, table: Table, persons: Collection[str] = (),
    looked: Mapping[str, bool] | None = None,
) -> Layout:  # fmt: skip
    """Find out what each image is, by the names of its folders, and by the table where that states labels.

    Args:
        images: their paths, or what :func:`gather` made of them.
        table: what is stated of them.
        persons: names of folders that are known to be patients'.
        looked: of files that a first look asked for, whether their grey levels are those of a mask.
    """
    looked = looked or {}
    folders = images if isinstance(images, Folders) else gather(images)
    inside, found = folders.inside, Layout()
    roles = _roles(inside, folders.children, persons, {own for own, masks in folders.mirrored.items() if masks})
    by_table = table.column("label")
    doubtful = words.doubtful(folders.children.values())
    picked = {} if by_table else _pick(inside, roles, doubtful, persons, found)
    top = common(inside)
    pictured = {folder[:end] for folder in inside if "mask" not in roles[folder] for end in range(len(folder) + 1)}
    told_by_file = {path for files in inside.values() for path in files if path.casefold().endswith(".mat")}
    named = [folder for folder, files in inside.items() if not told_by_file.issuperset(files)]
    names = _merged([folder[place] for folder in named if (place := picked.get(folder)) is not None], found, doubtful)
    for folder, files in inside.items():
        role, place = roles[folder], picked.get(folder)
        told = _told(folder, role, place)
        drawn = "mask" in role and folder[: role.index("mask")] not in pictured  # called so, with no images above
        belonging, alike = _masks(folder, folders, role, drawn, top, looked, found)
        for path in files:
            own = told._replace(left_out=belonging.get(path, told.left_out))
            if path in alike and path in looked:
                shaded = _told(folder, [kind if kind != "mask" else "" for kind in role], place)
                own = own._replace(left_out=ALONE) if looked[path] else shaded
                if not looked[path]:
                    found.notes.setdefault(SHADED, []).append(text.path(path))
            row = table.notes.get(path, {})
            if not own.left_out and by_table:
                own = own._replace(left_out="" if "label" in row else NO_ROW)
            if not own.left_out:
                found.levels[0 if by_table else (place or 0) + 1] += by_table or place is not None
                label = row.get("label", "") if by_table else "" if place is None else names.get(folder[place], "")
                own = own._replace(
                    label="" if path in told_by_file else label, folder="" if place is None else folder[place]
                )
            found.places[path] = own
        if count := sum(not found.places[path].left_out for path in files):
            _count(folder, role, place, top, count, found)
    entering = {place.label for place in found.places.values() if not place.left_out}
    if emptied := sorted(set(names.values()) - entering):
        found.notes[EMPTIED] = emptied
    if by_table:
        stated = {place.label for place in found.places.values()} - {""}
        names = _merged(stated, found, words.doubtful([stated]))
        for path, own in found.places.items():
            found.places[path] = own._replace(label=names.get(own.label, ""))
    return found


def _masks(
    folder: Parts, folders: Folders, roles: list[str], drawn: bool, top: int, looked: Mapping[str, bool], found: Layout
) -> tuple[dict[str, str], set[str]]:
    """Why files of a folder are left out that belong to an image, and which files only their grey levels tell."""
    files, left_out = folders.inside[folder], not {"mask", "augmented"}.isdisjoint(roles)
    unlike = [folder[:end] for end in range(top + 1, len(folder) + 1) if not folders.mirrored.get(folder[:end], True)]
    if unlike and "mask" not in roles and looked.keys().isdisjoint(files):
        found.notes.setdefault(LIKE_MASKS, []).extend("/".join(own) for own in unlike)
    belonging, doubts = folders.belonging[folder] if drawn or not left_out else ({}, {})
    unmatched = unlike and not left_out
    alike = {path for path in files if unmatched or drawn or doubts.get(path) == MASKS} - belonging.keys()
    found.asked += sorted(alike)
    for path, kind in doubts.items():
        if not drawn and path not in looked:
            note = f"files called like {kind}, of no image beside them; taken as images"
            found.notes.setdefault(note, []).append(text.path(path))
    return belonging, alike


def _count(folder: Parts, roles: list[str], place: int | None, top: int, count: int, found: Layout) -> None:
    """Enter the images of a folder under the role of each of its parts."""
    for name, kind in zip(folder, roles, strict=True):
        if kind in ("side", "sequence", "plane", "container", "patient"):
            found.folders.setdefault(kind, Counter())[text.clean(name)] += count
    for i, (name, kind) in enumerate(zip(folder, roles, strict=True)):
        if kind in ("", "digits") and i >= top and place not in (None, i):
            where = "inside" if place is not None and i > place else "above"
            found.folders.setdefault(where, Counter())[text.clean(name)] += count


def common(inside: Iterable[Parts]) -> int:
    """How many folders all images lie in."""
    first, *others = inside or [()]
    for folder in others:
        first = first[: next((i for i, (a, b) in enumerate(zip(first, folder, strict=False)) if a != b), len(folder))]
    return len(first)


def _roles(
    inside: Mapping[Parts, Sequence[str]],
    children: Mapping[Parts, set[str]],
    persons: Collection[str],
    mirrored: Collection[Parts],
) -> dict[Parts, list[str]]:
    """Role of each part of each folder. What holds all images is neither a mask nor an augmentation of anything."""
    top = common(inside)
    pictured = {folder for folder, names in children.items() if {words.squash(name) for name in names} & words.PICTURES}
    found = {}
    for folder in inside:
        own: list[str] = []
        for place, name in enumerate(folder):
            role: str = words.role(name) or ("patient" if name in persons else "")
            labels = words.squash(name) in words.LABELS and folder[:place] in pictured
            if not role and (labels or folder[: place + 1] in mirrored):
                role = "mask"
            own.append("container" if place < top and role in ("mask", "augmented") else role)
        # The innermost is the patient's: those above are called by a hospital or a data set, BraTS2020.
        clear = [place for place, role in enumerate(own) if role == "patient"]
        for place in clear:
            if place < top or place != clear[-1]:
                own[place] = "container"
        found[folder] = own
    return found


def _pick(
    inside: Mapping[Parts, Sequence[str]],
    roles: dict[Parts, list[str]],
    doubtful: Collection[str],
    persons: Collection[str],
    found: Layout,
) -> dict[Parts, int | None]:
    """Which part of each folder is the class; None for none. Folders of patients inside of classes get their role.

    A known word is a class wherever it stands; what stands beside such a folder is a class as well. Where no name is
    known, it is the folder right above the images that is none of another role, nor looks like a patient's.

    Args:
        inside: the images of each folder.
        roles: of its parts.
        doubtful: names with a slip that are no known words.
        persons: names of folders that are known to be patients': what lies in one is no class, if another may be.
        found: receives notes.
    """
    top = common(inside)
    picked: dict[Parts, int | None] = {}
    beside: set[Parts] = set()
    for folder in inside:
        known = [place for place, name in enumerate(folder) if not roles[folder][place] and words.meaning(name).word
                 and name not in doubtful]  # fmt: skip
        kinds = [place for place in known if place >= top] or known[-1:]
        if kinds:
            picked[folder] = kinds[-1]
            outer, inner = words.meaning(folder[kinds[-2 if len(kinds) > 1 else -1]]), words.meaning(folder[kinds[-1]])
            general = outer.word == words.TUMOUR and inner.group != words.NORMAL
            if outer.group != inner.group and not general:
                names = found.notes.setdefault(NESTED, [])
                names.append("/".join(folder[kinds[-2] : kinds[-1] + 1]))
            beside.add(_bare(folder, roles[folder], kinds[-1]))
    for folder in inside:
        if folder in picked:
            continue
        free = [place for place, role in enumerate(roles[folder]) if not role]
        person = next((place for place, name in enumerate(folder) if name in persons), len(folder))
        free = [place for place in free if top <= place < person] or free
        level = [place for place in free if _bare(folder, roles[folder], place) in beside]
        picked[folder] = level[0] if level else _unknown(folder, free, top)
    if not beside:
        _inner_patients(roles, picked, top, found)
    if not beside and all(place is None for place in picked.values()):
        _numbers(roles, picked)
    _patients(roles, picked, top)
    if not beside and (said := levels.untold(picked, roles, top)):
        found.notes[said[0]] = said[1]
    return picked


def _bare(folder: Parts, roles: list[str], end: int) -> Parts:
    """The unknown folders above a part."""
    return tuple(name for name, role in zip(folder[:end], roles[:end], strict=True) if not role)


def _unknown(folder: Parts, free: list[int], top: int) -> int | None:
    """The class among folders that no word tells: the innermost that does not look like a patient's in another."""
    own = [place for place in free if place >= top] or free[-1:]
    while len(own) > 1 and words.is_id(folder[own[-1]]) and re.search(r"\d\d|^[a-z]{1,3}\W?\d", folder[own[-1]], re.I):
        own = own[:-1]
    return own[-1] if own else None


def _numbers(roles: dict[Parts, list[str]], picked: dict[Parts, int | None]) -> None:
    """Folders called 0, 1, 2, … are classes where nothing else is; written with zeros in front they are patients."""
    places = {folder: roles[folder].index("digits") for folder in picked if "digits" in roles[folder]}
    names = {folder[place] for folder, place in places.items()}
    if 2 <= len(names) <= DIGITS and names in (
        {str(i) for i in range(len(names))},
        {str(i + 1) for i in range(len(names))},
    ):
        picked.update(places)
        for folder, place in places.items():
            roles[folder][place] = ""


def _inner_patients(roles: dict[Parts, list[str]], picked: dict[Parts, int | None], top: int, found: Layout) -> None:
    """Where no word is known and most inner folders have names of their own, they are patients, the outer ones classes.

    What mostly repeats under several folders, as classes under hospitals do, are no patients.
    """
    outer: dict[Parts, tuple[int, int]] = {}
    for folder, place in picked.items():
        free = [i for i in range(top, place or 0) if not roles[folder][i]]
        if place is not None and free:
            outer[folder] = free[-1], place
    parents: dict[str, set[Parts]] = {}
    for folder, (_, place) in outer.items():
        parents.setdefault(folder[place], set()).add(_bare(folder, roles[folder], place))
    classes = {folder[above] for folder, (above, _) in outer.items()}
    if len(classes) < 2 or 2 * sum(len(own) > 1 for own in parents.values()) >= len(parents):
        return
    if any(words.is_id(name) or words.NUMBERED.match(name) for name in classes):
        return
    for folder, (above, place) in outer.items():
        picked[folder], roles[folder][place] = above, "patient"
    found.notes[PERSONS] = sorted(f"{folder[above]}/{folder[place]}" for folder, (above, place) in outer.items())


def _patients(roles: dict[Parts, list[str]], picked: Mapping[Parts, int | None], top: int) -> None:
    """Give the part that is a patient's its role: inside the class one with a number, above it a clear one."""
    within: dict[Parts, list[int]] = {}
    above: dict[Parts, list[int]] = {}
    classes: dict[str, set[str]] = {}  # in which a name stands
    held: dict[Parts, set[str]] = {}
    for folder, place in picked.items():
        if place is None or "patient" in roles[folder]:
            continue
        kinds = roles[folder]
        within[folder] = [
            i for i in range(place + 1, len(folder)) if kinds[i] in ("", "digits") and words.is_id(folder[i])
        ]
        above[folder] = [i for i in range(top, place) if kinds[i] in ("", "digits")]
        for i in within[folder]:
            classes.setdefault(folder[i], set()).add(folder[place])
            held.setdefault(folder[:i], set()).add(folder[i])
    # A name in two classes that has no digits of an id, as a step's or a year's, is nobody's.
    years = all(words.YEAR.fullmatch(name) for name in classes)
    nobody = {name for name, own in classes.items() if years or (len(own) > 1 and not words.ID.search(name))}
    outer = {folder[i] for folder, places in above.items() for i in places if not roles[folder][i]}
    numbers = {folder[i] for folder, places in above.items() for i in places if roles[folder][i] == "digits"}
    persons = outer if words.numbered_alike(outer) else set()
    if not all(words.YEAR.fullmatch(name) for name in numbers):
        persons = persons | numbers
    for folder, places in within.items():
        inner = [i for i in places if folder[i] not in nobody]
        inner = [i for i in inner if len(held[folder[:i]]) > 1] or inner  # not what holds all of its class
        for i in inner[:1] or [i for i in above[folder] if folder[i] in persons][-1:]:
            roles[folder][i] = "patient"


def _told(folder: Parts, roles: list[str], place: int | None) -> Place:
    """What the folders say of the images in them, but for the class."""
    if "mask" in roles:
        return Place(left_out=f"{MASK}, in folder {text.clean(folder[roles.index('mask')])!r}")
    if "augmented" in roles:
        return Place(left_out=f"{AUGMENTED}, in folder {text.clean(folder[roles.index('augmented')])!r}")
    patient, sequence = "", ""
    for name, role in zip(folder, roles, strict=True):
        sequence = words.sequence(name) if role == "sequence" else sequence
        patient = text.patient_id(name) if role == "patient" else patient
    return Place("", words.standing(folder), patient, sequence)


def _merged(names: Iterable[str], found: Layout, doubtful: Collection[str]) -> dict[str, str]:
    """The class of each name: itself, or the first of those that are filed under the same known word.

    Names that no word tells, or one only with a slip, are one class only if they are equal; accents may be composed or
    not. Two that become equal only as they are made safe stay two.
    """
    out: dict[str, str] = {}
    first: dict[Meaning, str] = {}
    spelt: dict[str, str] = {}  # by the class, how its name was spelt
    for name in sorted(set(names)):
        own = Meaning() if name in doubtful else words.meaning(name)
        composed = unicodedata.normalize("NFC", name)
        plain, number = text.value(composed), 2
        while spelt.setdefault(plain, composed) != composed:
            plain, number = f"{text.value(composed)}~{number}", number + 1
        label = first.setdefault(own, plain) if own.word and not own.slip else plain
        out[name] = label
        found.classes.setdefault(label, own)
        found.spellings.setdefault(label, []).append(plain)
    return out
