"""Tables that users put beside their images, ``labels.csv`` and ``annotations.csv``, held against the files."""

from __future__ import annotations

import difflib
import io
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from tumorxai.archives import text, words
from tumorxai.errors import UserError

TABLES = ("labels.csv", "annotations.csv")  # where a source without a block may have them
BOX = ("x_center", "y_center", "width", "height")  # fractions of the image
NOTES = ("label", "patient", "fold", "side", "sequence", "mask", *BOX)  # columns that are used
ALIASES = {  # what people call them; compared after `words.squash`
    "file": ("filename", "filepath", "path", "image", "imagename", "imagepath", "imagefile", "img",
             "name", "imageid", "files"),
    "label": ("class", "classname", "target", "diagnosis", "category", "tumortype", "tumourtype", "labels", "y"),
    "patient": ("patientid", "patients", "pid", "subject", "subjectid", "patientnumber", "case", "caseid"),
    "side": ("split", "set", "subset", "partition", "fold name"),
    "sequence": ("modality", "mrisequence", "sequences"),
    "mask": ("maskpath", "maskfile", "segmentation", "masks"),
}  # fmt: skip


@dataclass
class Table:
    """Rows of a source's tables by file, and how they fit.

    Attributes:
        notes: by path of the archive, the cells that are not empty, by column.
        names: of the tables that were read.
        rows: in them.
        spelt: rows whose file is spelt otherwise than the archive's (case, slashes, a folder in front).
        unmatched: files of rows that match none.
        unused: columns that nothing reads, of tables that users wrote.
    """

    notes: dict[str, dict[str, str]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    rows: int = 0
    spelt: int = 0
    unmatched: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def column(self, name: str) -> bool:
        """Does any row state this?"""
        return any(name in note for note in self.notes.values())


def parse(data: bytes, where: str, strict: bool) -> pd.DataFrame:
    """A table of texts with one row for each file.

    Args:
        data: comma-separated values, or separated by semicolons or tabs.
        where: for messages.
        strict: name columns that look like misnamed ones; of a known source its own are right.

    Raises:
        UserError: it is no such table, names a file twice, or a column has another name than expected.
    """
    try:
        first = data.split(b"\n", 1)[0]
        mark = next((own for own in (",", ";", "\t") if own.encode() in first), ",")
        table = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, sep=mark, encoding="utf-8-sig")
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{where}: got {error}; expected a table of comma-separated values; correct it") from None
    table.columns = [text.value(str(name)) for name in table]
    if "file" not in table or strict:
        misnamed = [
            f"{own!r} to `{name}`" for name in ("file", *NOTES) if name not in table for own in _meant(name, table)[:1]
        ]
        if misnamed:
            raise UserError(
                f"{where}: got columns {list(table)[:12]}; expected `file` and any of {', '.join(NOTES)}; rename a "
                f"column {', '.join(misnamed)}, or remove it"
            )
    if "file" not in table or table["file"].duplicated().any():
        raise UserError(
            f"{where}: got columns {list(table)[:12]}; expected one row per image and its path in a column `file`; "
            "correct it"
        )
    fold = table.get("fold", pd.Series(dtype=str)).str.strip()
    if not fold.str.fullmatch(r"\d*").all():
        raise UserError(
            f"{where}: got folds {sorted(set(fold))[:8]}; expected whole numbers; correct the column `fold`"
        )
    return table


def _meant(name: str, table: pd.DataFrame) -> list[str]:
    """Columns that were probably meant to be ``name``."""
    columns = [str(column) for column in table]
    own = [column for column in columns if words.squash(column) in (name, *ALIASES.get(name, ()))]
    others = [column for column in columns if column not in ("file", *NOTES)]
    return own or (difflib.get_close_matches(name, others, 1, 0.85) if len(name) > 4 else [])


def match(tables: Mapping[str, pd.DataFrame], paths: Iterable[str], exact: bool = False) -> Table:
    """Hold the rows of tables against the files that there are.

    A row's file is its path, from the table's folder. One that matches none as it is spelt matches the only one that is
    spelt like it but for case, composed accents, backslashes and folders in front.

    Args:
        tables: by their paths in the archive; a later one adds to, and overrides, what an earlier one says.
        paths: of the archive's files.
        exact: take no other spelling.

    Raises:
        UserError: a side is none, or two labels differ in nothing that can be kept.
    """
    found = Table(names=list(tables))
    labels: dict[str, str] = {}  # as they are spelt, by what is kept
    if not tables:
        return found
    every = set(paths)
    plain: dict[str, list[str]] = {}
    whole: dict[str, list[str]] = {}
    for path in every:
        parts = _plain(path).split("/")
        whole.setdefault("/".join(parts), []).append(path)
        for start in range(len(parts)):
            plain.setdefault("/".join(parts[start:]), []).append(path)
    for name, table in tables.items():
        folder = str(PurePosixPath(name).parent)
        columns = [column for column in table if column in NOTES]
        found.unused += [str(column) for column in table if not exact and column not in ("file", *NOTES)]
        rows = [
            (file if exact else text.path(file.strip()), dict(zip(columns, row, strict=True)))
            for file, *row in table[["file", *columns]].itertuples(index=False)
        ]
        found.rows += len(rows)
        taken = {_inside(folder, file) for file, _ in rows} & every
        for file, row in rows:
            own = _inside(folder, file)
            if own not in every:
                near = [] if exact else [path for path in _near(_plain(file), plain, whole) if path not in taken]
                if len(near) != 1:
                    found.unmatched.append(text.clean(file))
                    continue
                own = near[0]
                taken.add(own)
                found.spelt += 1
            note = {key: _cell(key, cell, name) for key, cell in row.items()}
            if label := note.get("label"):
                spelt = unicodedata.normalize("NFC", row["label"]).strip()
                if (other := labels.setdefault(label, spelt)) != spelt:
                    raise UserError(
                        f"{name}: got the labels {other!a} and {spelt!a}, which would become one; expected "
                        "labels that differ in letters; rename one"
                    )
            if "mask" in note and folder != "." and note["mask"]:
                note["mask"] = _inside(folder, note["mask"])
            found.notes.setdefault(own, {}).update({key: cell for key, cell in note.items() if cell})
    return found


def _near(file: str, plain: dict[str, list[str]], whole: dict[str, list[str]]) -> list[str]:
    """Paths that end as a row's file does, else those that it ends as: folders in front of either are let go."""
    if file in plain:
        return plain[file]
    parts = file.split("/")
    return next((found for i in range(1, len(parts)) if (found := whole.get("/".join(parts[i:])))), [])


def _inside(folder: str, file: str) -> str:
    return file if folder == "." else f"{folder}/{file}"


def _plain(path: str) -> str:
    """A path as it is compared with others."""
    found = unicodedata.normalize("NFC", path.strip().replace("\\", "/")).casefold()
    while found.startswith("./"):
        found = found[2:]
    return found.lstrip("/")


def _cell(column: str, cell: str, where: str) -> str:
    if column == "mask":
        return cell
    if column == "patient":
        return text.patient_id(cell)
    own = text.value(cell)
    if column == "side" and own:
        if not (side := words.side(own)):
            raise UserError(
                f"{where}: got the side {own!r}; expected train, validation or test; correct the column `side`"
            )
        return side
    if column == "sequence":
        return words.sequence(own) or own
    return "" if column == "label" and own.casefold() in text.NOBODY - {"none"} else own


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
