"""Tables that users put beside their images, ``labels.csv`` and ``annotations.csv``, held against the files."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from tumorxai.archives import text, words
from tumorxai.archives.archives import ENDINGS
from tumorxai.archives.rows import NOTES
from tumorxai.errors import UserError

TABLES = ("labels.csv", "annotations.csv")  # where a source without a block may have them


@dataclass
class Table:
    """Rows of a source's tables by file, and how they fit.

    Attributes:
        notes: by path of the archive, the cells that are not empty, by column.
        names: of the tables that were read.
        rows: in them.
        spelt: rows whose file is spelt otherwise than the archive's (case, slashes, a folder in front, no ending).
        unmatched: files of rows that match none.
        unused: columns that nothing reads, of tables that users wrote.
        remarks: what else a user should know, one sentence each.
    """

    notes: dict[str, dict[str, str]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    rows: int = 0
    spelt: int = 0
    unmatched: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def column(self, name: str) -> bool:
        """Does any row state this?"""
        return any(name in note for note in self.notes.values())


def match(
    tables: Mapping[str, pd.DataFrame],
    paths: Iterable[str],
    exact: bool = False,
    others: Collection[str] = (),
    shown: Callable[[str], str] = str,
) -> Table:
    """Hold the rows of tables against the files that there are.

    A row's file is its path, from the table's folder. One that matches none as it is spelt matches the only one that is
    spelt like it but for case, composed accents, backslashes, folders in front and an ending that it lacks. So does a
    row's mask.

    Args:
        tables: by their paths in the archive; a later one adds to, and overrides, what an earlier one says.
        paths: of the archive's files.
        exact: take no other spelling.
        others: those of the files that are masks and the like by their names: no row's file unless spelt so.
        shown: how what a table says may be shown.

    Raises:
        UserError: a side is none, a table says two things of one file, or two labels differ in nothing that is kept.
    """
    found = Table(names=list(tables))
    labels: dict[str, str] = {}  # as they are spelt, by what is kept
    if not tables:
        return found
    files = _Files(paths, others)
    unlabelled: Counter[str] = Counter()
    overridden: dict[tuple[str, str], list[str]] = {}
    repeated = 0
    for name, table in tables.items():
        folder = str(PurePosixPath(name).parent)
        columns = [column for column in table if column in NOTES]
        found.unused += [str(column) for column in table if not exact and column not in ("file", *NOTES)]
        rows = [
            (file if exact else text.path(file.strip()), dict(zip(columns, row, strict=True)))
            for file, *row in table[["file", *columns]].itertuples(index=False)
        ]
        found.rows += len(rows)
        if not rows:
            found.remarks.append(f"{shown(name)} has a header and no row")
        taken = {_inside(folder, file) for file, _ in rows} & files.every
        said: dict[str, dict[str, str]] = {}
        lines: dict[str, int] = {}
        for line, (file, row) in enumerate(rows, 2):
            own = _inside(folder, file)
            if own not in files.every:
                near = "" if exact else files.image(file, folder, taken)
                if not near:
                    found.unmatched.append(text.clean(file))
                    continue
                own = near
                found.spelt += 1
            if "label" in row and text.nobody(row["label"]) and not exact:
                unlabelled[text.value(row["label"])] += 1
            note = {key: _cell(key, cell, name, shown) for key, cell in row.items()}
            if label := note.get("label"):
                spelt = unicodedata.normalize("NFC", row["label"]).strip()
                if (other := labels.setdefault(label, spelt)) != spelt:
                    raise UserError(
                        f"{shown(name)}: got the labels {shown(other)!a} and {shown(spelt)!a}, which would "
                        "become one; expected labels that differ in letters; rename one"
                    )
            if note.get("mask"):
                note["mask"] = _inside(folder, note["mask"]) if exact else files.mask(note["mask"], folder, own)
            repeated += own in said
            both = f"{shown(name)}, rows {lines.setdefault(own, line)} and {line}: got two of {shown(own)!r}"
            _add(said.setdefault(own, {}), note, both, shown)
        for own, note in said.items():
            before = found.notes.setdefault(own, {})
            for key, cell in note.items():
                if before.get(key, cell) != cell:
                    overridden.setdefault((key, name), []).append(own)
            before.update(note)
    if unlabelled:
        told = ", ".join(f"{shown(own)!r} {count}" for own, count in unlabelled.most_common(5))
        found.remarks.append(
            f"{unlabelled.total()} rows state no label ({told}); where a brain without a tumour is meant, write "
            "no_tumor"
        )
    if repeated:
        found.remarks.append(f"{repeated} rows are of a file that an earlier row is of, and do not contradict it")
    for (key, name), which in overridden.items():
        found.remarks.append(
            f"tables contradict each other: the {key} of {len(which)} files, such as {shown(which[0])}, is taken from "
            f"{shown(name)}; keep one table"
        )
    return found


def _add(said: dict[str, str], note: Mapping[str, str], where: str, shown: Callable[[str], str]) -> None:
    """Add what a row says to what an earlier row of the same table says of the same file."""
    for key, cell in note.items():
        if cell and said.setdefault(key, cell) != cell:
            raise UserError(
                f"{where}, with {key} {shown(said[key])!r} and {shown(cell)!r}; expected one row per image; remove one"
            )


class _Files:
    """The archive's files, found by how rows spell them.

    Args:
        paths: of the files.
        others: those of them that are masks and the like.
    """

    def __init__(self, paths: Iterable[str], others: Collection[str]) -> None:
        self.every, self._others = set(paths), set(others)
        self._ends: dict[str, list[str]] = {}  # by each of a path's ends
        self._whole: dict[str, list[str]] = {}
        for path in self.every:
            parts = _plain(path).split("/")
            self._whole.setdefault("/".join(parts), []).append(path)
            for start in range(len(parts)):
                self._ends.setdefault("/".join(parts[start:]), []).append(path)

    def image(self, file: str, folder: str, taken: Collection[str]) -> str:
        """The only image that a row may mean; empty for none."""
        near = [path for path in self._near(file, folder) if path not in taken]
        return _only([path for path in near if path not in self._others] or near)

    def mask(self, file: str, folder: str, image: str) -> str:
        """The file that a row's mask means; the row's own words, as a path, for none."""
        own = _inside(folder, text.path(file.strip()))
        if own in self.every:
            return own
        near = [path for path in self._near(file, folder) if path != image]
        return _only([path for path in near if path in self._others] or near) or own

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        """Files by each of a path's ends without the image's own ending."""
        found: dict[str, list[str]] = {}
        for end, paths in self._ends.items():
            if stem := _stem(end):
                found.setdefault(stem, []).extend(paths)
        return found

    def _near(self, file: str, folder: str) -> list[str]:
        """Files that end as a row's does, else that it ends as: folders in front of either are let go."""
        plain = _plain(file)
        near = self._ends.get(plain, [])
        if not near:
            parts = plain.split("/")
            ends = ("/".join(parts[i:]) for i in range(1, len(parts)))
            near = next((found for end in ends if (found := self._whole.get(end))), [])
        if not near and not _stem(plain):
            near = self._stems.get(plain, [])
        return [path for path in near if folder == "." or path.startswith(f"{folder}/")]


def _only(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else ""


def _stem(file: str) -> str:
    """A path without its ending, where that is a known one; else nothing."""
    ending = next((own for own in sorted(ENDINGS, key=len, reverse=True) if file.endswith(own)), "")
    return file.removesuffix(ending) if ending else ""


def _inside(folder: str, file: str) -> str:
    return file if folder == "." else f"{folder}/{file}"


def _plain(path: str) -> str:
    """A path as it is compared with others."""
    found = unicodedata.normalize("NFC", path.strip().replace("\\", "/")).casefold()
    while found.startswith("./"):
        found = found[2:]
    return found.lstrip("/")


def _cell(column: str, cell: str, where: str, shown: Callable[[str], str]) -> str:
    if column == "mask":
        return cell
    if column == "patient":
        return text.patient_id(cell)
    own = text.value(cell)
    if column == "side" and own:
        if not (side := words.side(own)):
            raise UserError(
                f"{shown(where)}: got the side {shown(own)!r}; expected train, validation or test; correct the column "
                "`side`"
            )
        return side
    if column == "sequence":
        return words.sequence(own) or own
    return "" if column == "label" and text.nobody(cell) else own


def described(found: Table, without: int) -> dict[str, Any]:
    """How a source's tables fit, for ``details/catalogue.json``.

    Args:
        found: the tables.
        without: images that have no row.
    """
    return {
        "names": found.names,
        "rows": found.rows,
        "spelt_otherwise": found.spelt,
        "unmatched_rows": len(found.unmatched),
        "unmatched_examples": found.unmatched[:3],
        "images_without_row": without,
        "unused_columns": found.unused,
    }
