"""Text from outside, file names, classes, ids of patients: made safe to store, print and open, and kept apart."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable

MAX_TEXT = 120  # characters of a name or an id; longer ones are cut, with a hash of the whole behind
# Marks that change the direction or the lines of what stands around them, and half characters (lone surrogates).
UNSAFE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff\\ud800-\\udfff]"
)
FORMULA = re.compile(r"^\s*[=+\-@]")  # what a spreadsheet would compute

# What stands in a column of patients where none is known; compared without case and outer blanks.
NOBODY = {"", "-", "--", "?", ".", "na", "n/a", "#n/a", "n.a.", "nan", "none", "null", "nil", "unknown", "unk", "unkn",
          "not available", "not applicable", "missing", "<na>", "undefined", "anonymous", "anonymized", "anonymised",
          "anon", "tbd"}  # fmt: skip
NOTHING = re.compile(r"#[A-Z/]+0?[!?]|([X?.*_-])\1+", re.IGNORECASE)  # errors of spreadsheets; xxx, ???


def clean(text: str) -> str:
    """A text without control characters, marks of direction and half characters, of at most MAX_TEXT characters.

    Each is replaced by the mark U+FFFD. A longer text ends with a hash of its whole, so that two stay two.
    """
    found = UNSAFE.sub("\ufffd", text)
    if len(found) <= MAX_TEXT:
        return found
    whole = hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:12]
    return f"{found[: MAX_TEXT - 13]}~{whole}"


def value(text: str) -> str:
    """A value out of a table: composed (NFC), without outer blanks, clean, and no formula to a spreadsheet."""
    found = clean(unicodedata.normalize("NFC", text).strip())
    return f"_{found}" if FORMULA.match(found) else found


def nobody(text: str) -> bool:
    """Does a cell say that nothing is known (NOBODY, NOTHING)?"""
    own = text.strip()
    return own.casefold() in NOBODY or NOTHING.fullmatch(own) is not None


def patient_id(text: str) -> str:
    """An id as it is stored; empty for what says that there is none (:func:`nobody`)."""
    return "" if nobody(text) else clean(unicodedata.normalize("NFC", text).strip())


def path(name: str) -> str:
    """A file's path as an archive spells it: slashes, each part clean, and no formula to a spreadsheet.

    Bytes that are no UTF-8, which the system passes on as half characters, become U+FFFD.
    """
    if name.isascii() and "\\" not in name and len(name) <= MAX_TEXT and not UNSAFE.search(name):
        found = name
    else:
        spelt = os.fsencode(name).decode("utf-8", errors="replace") if UNSAFE.search(name) else name
        found = "/".join(_part(part) for part in spelt.replace("\\", "/").split("/"))
    return f"_{found}" if FORMULA.match(found) else found


def _part(name: str) -> str:
    """One part of a path; where it is cut, its ending stays."""
    if len(name) <= 2 * MAX_TEXT:
        return UNSAFE.sub("\ufffd", name)
    ending = name[name.rfind(".") :] if 0 < len(name) - name.rfind(".") <= 8 else ""
    return clean(name) + UNSAFE.sub("\ufffd", ending)


def paths(names: Iterable[str]) -> list[str]:
    """:func:`path` of each; of those that would become equal, the later ones get a number before their ending.

    So do folders: two whose names become equal may be two classes.
    """
    taken: set[str] = set()
    folders: dict[str, str] = {}  # as they are spelt, and as they are called
    called: set[str] = set()
    found = []
    for name in names:
        plain = path(name)
        if "/" in plain:
            above, plain = _folder(name, plain, folders, called), plain.rsplit("/", 1)[1]
            plain = f"{above}/{plain}"
        own, number = plain, 2
        while own in taken:
            stem, dot, ending = plain.rpartition(".")
            own = f"{stem}~{number}{dot}{ending}" if dot and "/" not in ending else f"{plain}~{number}"
            number += 1
        taken.add(own)
        found.append(own)
    return found


def _folder(name: str, plain: str, folders: dict[str, str], called: set[str]) -> str:
    """How the folder of a file is called: no two that are spelt otherwise alike.

    Args:
        name: of the file, as it is spelt.
        plain: its :func:`path`.
        folders: receives how each is called, by how it is spelt.
        called: receives these names.
    """
    spelt, parts = name.replace("\\", "/").split("/")[:-1], plain.split("/")[:-1]
    whole = "/".join(spelt)
    if whole in folders:
        return folders[whole]
    above = ""
    for end, part in enumerate(parts, 1):
        key = "/".join(spelt[:end])
        if key not in folders:
            own, number = above + part, 2
            while own in called:
                own, number = f"{above}{part}~{number}", number + 1
            folders[key] = own
            called.add(own)
        above = f"{folders[key]}/"
    return folders[whole]


def alike(ids: Iterable[str]) -> list[list[str]]:
    """Ids that may mean one patient: equal without case, blanks and punctuation, and as numbers (103 and 103.0)."""
    seen: dict[str, set[str]] = {}
    for own in ids:
        key = re.sub(r"(?<=\d)[.,]0+$", "", own.casefold())
        key = "".join(letter for letter in unicodedata.normalize("NFKD", key) if letter.isalnum())
        key = re.sub(r"(?<!\d)0+(?=\d)", "", key)
        seen.setdefault(key, set()).add(own)
    return [sorted(group) for key, group in sorted(seen.items()) if len(group) > 1]
