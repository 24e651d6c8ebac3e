"""On which side of somebody's split each image stands, by the folders or by a table."""

from __future__ import annotations

import difflib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from tumorxai.archives import layout, text, words
from tumorxai.archives.archives import ENDINGS
from tumorxai.archives.words import squash
from tumorxai.errors import UserError

MAX_TABLE = 64 * 2**20  # largest table of a split, bytes
FIRST = 8  # names that a message lists
OFF = ""  # the side of an image that the split leaves out

# What a table says that names no side as a folder does; compared after `squash`.
OTHERS: dict[str, str] = {
    "tr": "train", "ts": "test",  # a folder called so may be a class
    **dict.fromkeys(("unlabelled", "unlabeled"), "unlabelled"),
    **dict.fromkeys(("dropped", "excluded", "unused"), OFF),
}  # fmt: skip
FILE, SPLIT = ("file",), ("split", "side")  # columns of a table, as they should be called
PATIENT = "patient"  # a column that a table may have
# What such columns are called by others, for suggestions alone.
ALIASES = {
    FILE: ("filename", "filepath", "path", "image", "imagepath", "imagename", "imageid", "img", "name", "id"),
    SPLIT: ("set", "subset", "partition", "phase", "fold", "dataset", "group", "usage", "splits"),
}


class Sides(NamedTuple):
    """Where images stand.

    Attributes:
        side: of each image, by its path: train, unlabelled, validation, test, or OFF.
        patient: of those images of which the table states it, by their paths.
        unmatched: rows of the table that are no image of the data, each with the reason.
        origin: ``folders`` or ``table``.
    """

    side: dict[str, str]
    patient: dict[str, str]
    unmatched: list[tuple[str, str]]
    origin: Literal["folders", "table"]


def by_folders(paths: Sequence[str]) -> Sides:
    """Sides by the innermost folder that is called like one, above the class or in it, as a run would take them.

    Raises:
        UserError: no folder is.
    """
    parents = [layout.parents(path) for path in paths]
    side: dict[str, str] = {path: words.standing(above) for path, above in zip(paths, parents, strict=True)}
    if not any(side.values()):
        tops = sorted({above[0] for above in parents if above})[:FIRST]
        raise UserError(
            f"got no folder that is called like a side, but {tops}; expected train/CLASS/IMAGE and test/CLASS/IMAGE, "
            "or a table; give the sides with --split TABLE.csv, which has the columns `file` and `split`"
        )
    return Sides(side, {}, [], "folders")


def spoken(cell: str) -> str | None:
    """The side that a table's cell says, OFF where it says none; None for another word."""
    return OFF if text.nobody(cell) else OTHERS.get(squash(cell), words.side(cell) or None)


def by_table(paths: Sequence[str], table: Path, columns: tuple[str, str] | None = None) -> Sides:
    """Sides by a table with one row an image.

    A row may name its image by a longer path than the data have, as on its author's machine, or by a shorter one, as
    long as one image alone fits.

    Args:
        paths: of N images in the data.
        table: comma-, semicolon- or tab-separated, with ``file``, ``split`` (or ``side``) and, if it is known,
            ``patient``.
        columns: names of the first two, where they differ.

    Raises:
        UserError: the table cannot be read, lacks a column, knows other sides, gives an image two, or no row fits.
    """
    rows = _read(table)
    file, split = _columns(rows, table, columns, paths)
    said = {cell: spoken(cell) for cell in set(rows[split])}
    strange = sorted(cell for cell, own in said.items() if own is None)
    if strange:
        raise UserError(
            f"{table}, column {split!r}: got {strange[:FIRST]}; expected train, validation (or val), test, unlabelled, "
            "or nothing for images that are not used; rename them"
        )
    index = Index(paths)
    given: dict[int, list[int]] = defaultdict(list)
    unmatched = []
    for number, name in enumerate(rows[file]):
        found = index.find(name)
        if len(found) == 1:
            given[found[0]].append(number)
        else:
            reason = f"fits {len(found)} images, such as {paths[found[0]]!r}" if found else "no image of that name"
            unmatched.append((name, reason))
    if not given:
        raise UserError(
            f"{table}, column {file!r}: got {rows[file].iloc[0]!r} and {len(rows) - 1} others, of which none is an "
            f"image of the data; expected paths such as {paths[0]!r}; correct the column"
        )
    sides, patients = dict.fromkeys(paths, OFF), {}
    known = rows[PATIENT] if PATIENT in rows else [""] * len(rows)
    for image, numbers in given.items():
        found_sides = {said[rows[split].iloc[number]] or OFF for number in numbers}
        if len(found_sides) > 1:
            raise UserError(
                f"{table}: got {paths[image]!r} on the sides {sorted(found_sides)}; expected one side for each file: a "
                "split that puts one file on two sides leaks as it stands; correct the table"
            )
        sides[paths[image]] = found_sides.pop()
        if stated := next((known[number].strip() for number in numbers if known[number].strip()), ""):
            patients[paths[image]] = stated
    return Sides(sides, patients, unmatched, "table")


def check(side: Iterable[str], origin: str) -> None:
    """Refuse a split without a training or without a test side.

    Args:
        side: of each image.
        origin: ``folders`` or ``table``.

    Raises:
        UserError: one of them is empty.
    """
    counts = Counter(side)
    if not counts["train"] or not counts["test"]:
        shown = {name or "no side": count for name, count in sorted(counts.items())}
        raise UserError(
            f"got readable images on {shown}; expected some to train on and some to test on; correct the {origin}"
        )


class Index:
    """Finds images by paths that may be longer or shorter than their own."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Take the paths of N images."""
        self.parts = [PurePosixPath(path).parts for path in paths]
        self.by_name: dict[str, list[int]] = defaultdict(list)
        for image, parts in enumerate(self.parts):
            self.by_name[parts[-1]].append(image)
            stem = PurePosixPath(parts[-1]).stem
            if stem != parts[-1]:
                self.by_name[stem].append(image)  # tables often leave the ending out

    def find(self, name: str) -> list[int]:
        """Images whose path ends with ``name``, or that ``name`` ends with; those that share most of it."""
        wanted = [part for part in PurePosixPath(name.strip().replace("\\", "/")).parts if part not in ("/", ".")]
        if not wanted:
            return []
        best, found = 0, list[int]()
        for image in self.by_name.get(wanted[-1], []):
            own = (*self.parts[image][:-1], wanted[-1])
            least = min(len(own), len(wanted))
            if tuple(wanted[-least:]) == own[-least:] and least >= best:
                found = [*found, image] if least == best else [image]
                best = least
        return found


def _read(table: Path) -> pd.DataFrame:
    """A table of texts.

    Raises:
        UserError: it is missing, too large, empty or no table.
    """
    try:
        if table.stat().st_size > MAX_TABLE:
            raise UserError(f"{table}: got {table.stat().st_size} bytes; expected at most {MAX_TABLE}; is it a table?")
        content = table.read_text(encoding="utf-8-sig")
        head = content.partition("\n")[0]
        separator = max(",;\t", key=head.count)  # the first of equals
        rows = pd.read_csv(io.StringIO(content), sep=separator, dtype=str, keep_default_na=False)
    except OSError as error:
        raise UserError(f"got no table {table} ({error.strerror}); expected a file; correct --split") from None
    except (ValueError, UnicodeDecodeError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{table}: got {error}; expected a table of comma-separated values in UTF-8") from None
    if rows.empty:
        raise UserError(f"{table}: got no row; expected one for each image")
    return rows.rename(columns=lambda name: str(name).strip())


def _columns(rows: pd.DataFrame, table: Path, columns: tuple[str, str] | None, paths: Sequence[str]) -> tuple[str, str]:
    """Names of the columns of files and of sides."""
    if columns:
        lost = [name for name in columns if name not in rows]
        if lost:
            raise UserError(
                f"{table}: got the columns {list(rows)}; expected {lost}, which --columns names; correct it"
            )
        return columns
    own = {str(name).casefold(): str(name) for name in rows}
    found = [next((own[name] for name in names if name in own), None) for names in (FILE, SPLIT)]
    if found[0] is not None and found[1] is not None:
        return found[0], found[1]
    guesses = [have or guess for have, guess in zip(found, (_files(rows, paths), _sides(rows)), strict=True)]
    if guesses[0] and guesses[1] and guesses[0] != guesses[1]:
        advice = f"did you mean --columns {guesses[0]},{guesses[1]}?"
    else:
        advice = "rename them, or name them with --columns FILE,SPLIT"
    raise UserError(f"{table}: got the columns {list(rows)}; expected `file` and `split` (or `side`); {advice}")


def _files(rows: pd.DataFrame, paths: Sequence[str]) -> str | None:
    """The column that most likely names files: by what it holds, else by its name."""
    index, sample = Index(paths), rows.head(200)
    hits: Mapping[str, float] = {
        str(name): float(
            np.mean([bool(index.find(cell)) or cell.casefold().endswith(ENDINGS) for cell in sample[name]])
        )
        for name in rows
    }
    best = max(hits, key=lambda name: hits[name])
    return best if hits[best] > 0.5 else _alike(rows, FILE)


def _sides(rows: pd.DataFrame) -> str | None:
    """The column that most likely names sides: by what it holds, else by its name."""
    for name in rows:
        said = {spoken(cell) for cell in set(rows[name])}
        if len(said - {OFF}) > 1 and None not in said:
            return str(name)
    return _alike(rows, SPLIT)


def _alike(rows: pd.DataFrame, wanted: tuple[str, ...]) -> str | None:
    names = {squash(name): str(name) for name in rows}
    for alias in (*wanted, *ALIASES[wanted]):
        near = difflib.get_close_matches(alias, names, n=1, cutoff=0.8)
        if near:
            return names[near[0]]
    return None
