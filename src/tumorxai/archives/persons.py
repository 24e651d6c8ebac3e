"""Folders that may be called by patients, and what of a name may be shown in a source of scans."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

from tumorxai.archives import layout, words
from tumorxai.archives.dicom import Header
from tumorxai.archives.partners import Parts
from tumorxai.archives.tables import TABLES

KEPT = ("side", "sequence", "plane")  # roles of folders whose names name nobody; a mask's may be `Doe_masks`


def known(headers: Mapping[str, Header]) -> set[str]:
    """Names of folders that the headers of files in them know as the name or id of their one patient.

    Args:
        headers: of the DICOM files, by path.
    """
    called = set()
    for name, header in headers.items():
        folders = layout.parents(name)
        for end, folder in enumerate(folders, 1):
            long = {own for own in header.names if len(own) > 2}  # two letters may stand in any name
            told = words.squash(folder) in header.names or bool(long & {*map(words.squash, words.tokens(folder))})
            if told and not words.role(folder) and not words.meaning(folder).word:
                called.add(folders[:end])
    return {folders[-1] for folders in called} - _several(headers)  # a class may be called like its patients, Astro_01


def _several(headers: Mapping[str, Header]) -> set[str]:
    """Names of folders in which several patients lie."""
    inside: dict[Parts, set[str]] = {}
    for name, header in headers.items():
        folders = layout.parents(name)
        for end in range(1, len(folders) + 1):
            inside.setdefault(folders[:end], set()).add(header.patient or header.study)
    return {folders[-1] for folders, patients in inside.items() if len(patients) > 1}


def nested(scans: Iterable[str], images: Sequence[str], headers: Mapping[str, Header], known: set[str]) -> set[str]:
    """Names of folders of scans that may be called by patients whom no header names, as of NIfTI and anonymous files.

    Of folders in one another that no word tells, one level may be the classes, others sites, and one the patients: the
    outermost of whose names there are more than of the level above, and that seldom repeat in several folders; where
    there is none, the one of the outer two of which there are more, or as many inside.

    Args:
        scans: paths of the scans.
        images: of all images, scans too.
        headers: of the DICOM files, by path.
        known: names of folders that are patients'.
    """
    top = layout.common({layout.parents(name) for name in images})
    levels: list[dict[str, set[Parts]]] = []  # by name, the folders above that it stands in
    for name in scans:
        folders = layout.parents(name)[top:]
        if known.isdisjoint(folders) and not any(words.meaning(folder).word for folder in folders):
            free = [folder for folder in folders if not words.role(folder)]
            for level, folder in enumerate(free if len(free) > 1 else ()):
                levels += [{}] if level == len(levels) else []
                levels[level].setdefault(folder, set()).add(tuple(free[:level]))
    several = _several({name: header for name, header in headers.items() if header.patient})
    for level, (above, names) in enumerate(pairwise(levels), 1):
        if len(names) > len(above) and 2 * sum(len(own) > 1 for own in names.values()) < len(names):
            others = {name for i, own in enumerate(levels) if i != level for name in own}
            return names.keys() - several - others
    outer, inner = ({*own} - several for own in [*levels, {}, {}][:2])
    return inner - outer if len(inner) >= len(outer) else outer - inner


def remarks(known: Iterable[str], nested: Collection[str], classes: Mapping[str, words.Meaning]) -> list[str]:
    """What a user should know of the names of folders, a sentence each, without such a name.

    Args:
        known: names of folders that are patients'.
        nested: those that may be.
        classes: what the names of the classes mean.
    """
    said = []
    if mixed := sum(any(words.meaning(token).word for token in words.tokens(name)) for name in known):
        said.append(
            f"{mixed} folders are called by a patient and by a class at once, and were taken for the patient's alone; "
            "call them by the class"
        )
    if nested:
        said.append(
            f"of folders of scans that lie in one another, and that no word tells, {len(nested)} were taken for "
            "patients, the others for classes"
        )
    if kept := [name for name, own in classes.items() if not own.word]:
        said.append(f"{len(kept)} classes that no word tells keep their names: see that none is a person's")
    return said


def safe(name: str) -> str:
    """A path of which only those folders are named that name nobody, and tables; of a level its number."""
    if level := re.match(r"level \d+ \(", name):
        return f"{level[0]}…)"
    return "/".join(part if _harmless(part) else "…" for part in name.rstrip("/").split("/"))


def _harmless(name: str) -> bool:
    plain = "".join(words.tokens(name))
    told = words.meaning(name).word or words.role(name) in KEPT or plain in words.CONTAINERS
    return bool(told) or name.casefold() in TABLES


def unnamed(reason: str) -> str:
    """Why a file does not enter, without the name of a folder and the bytes that say so."""
    return reason.partition(", in folder")[0].partition("; it begins with")[0]
