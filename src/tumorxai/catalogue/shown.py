"""What a source's folders were taken for, in words and as counts: shown, never guessed in silence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from tumorxai.archives import arranging, levels, tables, text, words
from tumorxai.archives.sources import Class, label
from tumorxai.catalogue.listing import Candidate, Listing, patient

FIRST = 3  # names given of those left out
SHOWN = 20  # folders of a role, and ids that look alike, that are listed
ROLES = {
    "side": "sides", "patient": "patients", "sequence": "sequences", "plane": "planes", "container": "mere containers",
    "inside": "parts of a class, which mean nothing here", "above": "folders above the classes, not used",
}  # fmt: skip


def described(listing: Listing, taxonomy: str) -> dict[str, Any]:
    """What a source's files were taken for, before any is decoded, as ``details/catalogue.json`` holds it.

    Args:
        listing: the source's files.
        taxonomy: ``data.taxonomy``.

    Returns:
        ``classes`` (their images, the folders taken for them, the known word, the label in the taxonomy, empty where
        there is none), ``levels`` (images by the level of the folder that is their class, from 1 at the top; 0: a
        table), ``sides``, ``patients``, ``sequences``, ``folders`` by role (the first; ``folders_number`` of all),
        ``left_out`` by reason, ``table``,
        ``remarks``, and ``unusual``, empty here: images unlike their class are found when they are decoded.
    """
    layout, by_class = listing.layout, dict[str, list[Candidate]]()
    for candidate in listing.candidates:
        by_class.setdefault(candidate.native_label, []).append(candidate)
    known = listing.source.classes
    classes = {}
    for name in sorted(by_class):
        own, spelt = known.get(name, Class()), layout.classes.get(name, words.Meaning()) if layout else words.Meaning()
        sequences = {candidate.notes.get("sequence", "") or own.sequence for candidate in by_class[name]}
        labels = {label(taxonomy, name, own.group, sequence) for sequence in sequences} - {""}
        classes[name] = {
            "images": len(by_class[name]),
            "folders": layout.spellings.get(name, []) if layout else [name],
            "word": spelt.word or own.group,
            "slip": spelt.slip,
            "labels": sorted(labels),
            "nearest": "" if spelt.word or own.group or labels else words.nearest(name),
        }
    return {
        "images": len(listing.candidates),
        "classes": classes,
        "levels": {str(level): count for level, count in sorted(layout.levels.items()) if count} if layout else {},
        "sides": _counted(candidate.official_split for candidate in listing.candidates),
        "patients": _patients(listing),
        "sequences": _counted(candidate.notes.get("sequence", "") for candidate in listing.candidates),
        "folders": {role: dict(found.most_common(SHOWN)) for role, found in layout.folders.items()} if layout else {},
        "folders_number": {role: len(found) for role, found in layout.folders.items()} if layout else {},
        "left_out": _left_out(listing),
        "table": tables.described(listing.table, sum(c.path not in listing.table.notes for c in listing.candidates))
        if listing.table.names
        else None,
        "unusual": [],
        "remarks": [*listing.remarks, *(arranging.noted(layout) if layout else [])],
    }


def _counted(values: Any) -> dict[str, int]:
    return {key: count for key, count in sorted(Counter(values).items()) if key}


def _patients(listing: Listing) -> dict[str, Any]:
    ids = [(patient(listing, one, ""), one.native_label) for one in listing.candidates]
    named = [(own.split(":", 1)[-1], label_) for own, label_ in ids if own]
    distinct = {own for own, _ in named}
    classes = Counter(own for own, _ in set(named))
    return {
        "number": len(distinct),
        "images": len(named),
        "without": len(ids) - len(named),
        "in_several_classes": sum(count > 1 for count in classes.values()),
        "alike": text.alike(distinct)[:SHOWN],
    }


def _left_out(listing: Listing) -> dict[str, Any]:
    found: dict[str, list[str]] = {}
    for path, reason in listing.left_out:
        found.setdefault(reason, []).append(path)
    return {reason: {"files": len(paths), "first": sorted(paths)[:FIRST]} for reason, paths in sorted(found.items())}


def lines(name: str, layout: Mapping[str, Any], taxonomy: str) -> list[str]:
    """The same in words, a line each; what a user may have to act on begins with ``note:``."""
    levels = [f"{_folder_level(int(level))}" for level in layout["levels"]]
    kept = {own: entry for own, entry in layout["classes"].items() if own}
    found = [
        f"{name}: {layout['images']} images, {len(kept)} classes" + (f", by {' and '.join(levels)}" if levels else "")
    ]
    for own, entry in kept.items():
        spelt = [folder for folder in entry["folders"] if folder != own]
        read = f", read as {entry['word']}" if entry["word"] and entry["word"] != own.casefold() else ""
        read += " (spelt with a slip)" if entry["slip"] else ""
        into = ", ".join(entry["labels"])
        found.append(
            f"  class {own}: {entry['images']} images"
            + (f", with the folders {', '.join(spelt)}" if spelt else "")
            + read
            + (f" -> {into}" if into and into != own else "")
        )
    for key, title in (("sides", "own sides"), ("sequences", "sequences")):
        if layout[key]:
            found.append(f"  {title}: " + ", ".join(f"{own} {count}" for own, count in layout[key].items()))
    for role, folders in layout["folders"].items():
        number = layout["folders_number"][role]
        found.append(
            f"  {'' if role == 'above' else 'folders taken for '}{ROLES[role]}: {', '.join(list(folders)[:8])}"
            + (f" … ({number} in all)" if number > 8 else "")
        )
    told = layout["patients"]
    if told["number"]:
        found.append(f"  patients: {told['number']}, of {told['images']} images; {told['without']} images have none")
    for reason, entry in layout["left_out"].items():
        found.append(f"  left out: {entry['files']}, {reason} (such as {', '.join(entry['first'])})")
    return found + [f"  note: {line}" for line in notes(layout, taxonomy)]


def _folder_level(level: int) -> str:
    return "the table's labels" if level == 0 else f"the folders of level {level}"


def dropped(layout: Mapping[str, Any]) -> list[str]:
    """Classes that have no place in the taxonomy, with what may be meant, a phrase each."""
    found = []
    for own, entry in layout["classes"].items():
        if own and not entry["labels"]:
            why = (
                "a tumour of no stated kind"
                if entry["word"] == words.TUMOUR
                else (
                    f"nearest known word: {entry['nearest']}"
                    if entry["nearest"]
                    else f"read as {entry['word']}"
                    if entry["word"]
                    else "no known word"
                )
            )
            found.append(f"{own!r} ({entry['images']} images; {why})")
    return found


def none_readable(name: str, lost: Collection[str], reason: str) -> str:
    """Why a source is refused of whose classes no image can be used.

    Args:
        name: identity of the source.
        lost: the classes; empty for all.
        reason: why the first image cannot be used.
    """
    return (
        f"{name}: got no readable image of {sorted(lost) or 'any class'}; expected at least one; the first one refused "
        f"is {reason}; replace the files or remove the folder"
    )


def too_few(labels: Collection[str], layouts: Collection[Mapping[str, Any]], taxonomy: str, least: int) -> str:
    """Why data of these labels are refused; empty if there are enough of them. Names the classes without a place."""
    if len(labels) >= least:
        return ""
    if lost := [phrase for layout in layouts for phrase in dropped(layout)]:
        return (
            f"data.taxonomy {taxonomy}: got only the classes {sorted(labels)}, and no place for {', '.join(lost)}; "
            f"expected at least {least}; {unsure(layouts)}rename a folder to the word that is meant, or set "
            "data.taxonomy to native, which takes every class as it is called"
        )
    return (
        f"data.sources: got only the classes {sorted(labels)}; expected at least {least} to tell apart; add images of "
        "another class, each class in a folder of its own"
    )


def unsure(layouts: Collection[Mapping[str, Any]]) -> str:
    """What to do before anything else where no word tells which folders are the classes; empty where one does."""
    told = [line for layout in layouts for line in layout["remarks"] if line.startswith(levels.UNTOLD)]
    return f"see first which folders are the classes ({told[0]}); then " if told else ""


def _alike(names: Iterable[str]) -> list[list[str]]:
    """Classes that differ in case or punctuation alone, or as numbers are spelt (0 and 0.0)."""
    seen: dict[str, list[str]] = {}
    for name in sorted(names):
        seen.setdefault(words.squash(re.sub(r"(?<=\d)[.,]0+$", "", name)), []).append(name)
    return [group for group in seen.values() if len(group) > 1]


def notes(layout: Mapping[str, Any], taxonomy: str) -> list[str]:
    """What a user may have to act on."""
    found, table, told = [], layout["table"], layout["patients"]
    if lost := dropped(layout):
        found.append(
            f"left out, for they have no place in data.taxonomy {taxonomy}: {', '.join(lost)}; "
            f"{'if these are the classes (see below), ' if unsure([layout]) else ''}rename a folder to the word that "
            "is meant, or set data.taxonomy=native, which takes every class as it is called"
        )
    if near := _alike(layout["classes"]):
        pairs = ", ".join(" and ".join(map(repr, group)) for group in near[:5])
        found.append(f"classes that look alike and are taken for different ones: {pairs}; correct them if they are one")
    if table:
        if table["unmatched_rows"]:
            found.append(
                f"{table['unmatched_rows']} of {table['rows']} rows of {', '.join(table['names'])} match no image, "
                f"such as {', '.join(table['unmatched_examples'])}"
            )
        if table["spelt_otherwise"]:
            found.append(
                f"{table['spelt_otherwise']} rows match an image that is spelt otherwise (case, folders in front, no "
                "ending)"
            )
        if table["images_without_row"]:
            found.append(f"{table['images_without_row']} images have no row in {', '.join(table['names'])}")
        if table["unused_columns"]:
            found.append(f"columns that nothing reads: {', '.join(table['unused_columns'])}")
    if told["number"] and told["without"]:
        found.append(f"{told['without']} images have no known patient: slices of one may stand on two sides")
    if told["alike"]:
        pairs = ", ".join(" and ".join(map(repr, group)) for group in told["alike"][:5])
        found.append(
            f"ids of patients that look alike and are taken for different ones: {pairs}; correct them if they are one"
        )
    if told["in_several_classes"]:
        found.append(f"{told['in_several_classes']} patients have images of several classes; equal ids are one patient")
    if odd := layout.get("unusual"):  # of a run before they were looked for there is no such list
        reasons = Counter(reason for entry in odd for reason in entry["why"])
        found.append(
            f"{len(odd)} images are unlike the others of their class ({_several(reasons)}), such as "
            f"{', '.join(entry['path'] for entry in odd[:FIRST])}; details/catalogue.json names all: look at them"
        )
    return found + list(layout["remarks"])


def _several(reasons: Mapping[str, int]) -> str:
    return ", ".join(
        f"{count} {reason}" for reason, count in sorted(reasons.items(), key=lambda own: (-own[1], own[0]))
    )
