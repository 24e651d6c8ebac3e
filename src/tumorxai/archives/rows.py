"""How a table that a user wrote is stored: its encoding, its separator, its header, and its rows as texts."""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import sys
from collections.abc import Callable, Sequence

import pandas as pd

from tumorxai.archives import text, words
from tumorxai.archives.archives import IMAGES, SCANS
from tumorxai.errors import UserError

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
MARKS = (",", ";", "\t", "|")  # that may stand between cells

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # files are bounded as they are read, and cells as they are stored


def parse(data: bytes, where: str, strict: bool, shown: Callable[[str], str] = str) -> pd.DataFrame:
    """A table of texts with one row for each line.

    Args:
        data: the file: UTF-8 or UTF-16 with its mark, cells between one of MARKS.
        where: for messages.
        strict: name columns that look like misnamed ones; of a known source its own are right.
        shown: how what the file says may be shown.

    Raises:
        UserError: it is no such table, or a column is missing, there twice or called otherwise than expected.
    """
    header, *lines = _cells(data, where)
    columns = [text.value(name) for name in header]
    told = [shown(name) for name in columns[:12]]
    _check_header(columns, told, where, strict, shown)
    width = len(columns)
    for number, row in enumerate(lines, 2):
        if len(row) > width and any(cell.strip() for cell in row[width:]):
            raise UserError(
                f"{where}: got {len(row)} cells in row {number}, under a header of {width}; expected one cell for "
                "each column; correct it, or put text that holds the separator into quotes"
            )
    table = pd.DataFrame(
        [row[:width] + [""] * (width - len(row)) for row in lines], columns=columns, dtype=object
    )  # fmt: skip
    keep = [bool(name) or any(cell.strip() for cell in table.iloc[:, place]) for place, name in enumerate(columns)]
    table = table.loc[:, keep].rename(columns={"": "a column without a name"})
    if strict and "label" not in table and (kinds := _one_hot(table)):
        raise UserError(
            f"{where}: got a column of 0 and 1 for each class ({', '.join(map(shown, kinds[:12]))}); expected one "
            "column `label` that holds the name of the class; write it, or remove these columns"
        )
    fold = table.get("fold", pd.Series(dtype=str)).str.strip()
    if not fold.str.fullmatch(r"\d*").all():
        raise UserError(
            f"{where}: got folds {[shown(own) for own in sorted(set(fold))[:8]]}; expected whole numbers; correct the "
            "column `fold`"
        )
    return table


def _cells(data: bytes, where: str) -> list[list[str]]:
    """Lines that are not empty, as their cells; the first is the header."""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        content = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: got a byte at place {error.start} that is not {'UTF-16' if wide else 'UTF-8'}; expected a table "
            "in UTF-8; save it again in that encoding (`CSV UTF-8` in Excel)"
        ) from None
    if content[:1000].count("\0") > len(content[:1000]) / 4:
        raise UserError(
            f"{where}: got bytes that are no text, or text in UTF-16 without its mark; expected a table in UTF-8; save "
            "it again in that encoding (`CSV UTF-8` in Excel)"
        )
    first, _, rest = content.lstrip("\r\n").partition("\n")
    told = first.strip().strip('"')
    if told.casefold().startswith("sep=") and len(told) == 5:  # Excel's own line, above the header
        mark, content = told[4], rest
    else:
        mark = _mark(first)
    try:
        rows = csv.reader(io.StringIO(content, newline=""), delimiter=mark, skipinitialspace=True, strict=True)
        lines = [row for row in rows if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UserError(
            f"{where}: got {error}; expected a table of comma-separated values; correct it, its quotes above all"
        ) from None
    if not lines:
        raise UserError(
            f"{where}: got an empty table; expected comma-separated values, a header and one row per image; fill it "
            "or remove it"
        )
    return lines


def _mark(header: str) -> str:
    """What stands between the cells: what sets off a column `file`, else what stands in the header at all."""
    there = [mark for mark in MARKS if mark in header]
    cut = {mark: [words.squash(cell.strip().strip('"')) for cell in header.split(mark)] for mark in there}
    return next((mark for mark in there if "file" in cut[mark]), there[0] if there else ",")


def _check_header(
    columns: Sequence[str], told: Sequence[str], where: str, strict: bool, shown: Callable[[str], str]
) -> None:
    if "file" not in columns and any(name.casefold().endswith((*IMAGES, *SCANS)) for name in columns):
        raise UserError(
            f"{where}: got an image's name in the first row, and no header; expected the names of the columns there, "
            "such as file,label; write them above the rows"
        )
    for name in ("file", *NOTES):
        twice = [own for own in columns if own.casefold() == name]
        if len(twice) > 1 and (strict or twice.count(name) > 1):
            raise UserError(
                f"{where}: got {len(twice)} columns {', '.join(twice)}; expected one column `{name}`; remove or rename "
                "the others"
            )
    if "file" not in columns or strict:
        misnamed = [
            f"{shown(own)!r} to `{name}`"
            for name in ("file", *NOTES)
            if name not in columns
            for own in _meant(name, columns)[:1]
        ]
        if misnamed:
            raise UserError(
                f"{where}: got columns {list(told)}; expected `file` and any of {', '.join(NOTES)}; rename a "
                f"column {', '.join(misnamed)}, or remove it"
            )
    if "file" not in columns:
        raise UserError(
            f"{where}: got columns {list(told)}; expected one row per image and its path in a column `file`, and "
            "commas, semicolons, tabs or | between cells; correct it"
        )


def _meant(name: str, columns: Sequence[str]) -> list[str]:
    """Columns that were probably meant to be ``name``."""
    own = [column for column in columns if words.squash(column) in (name, *ALIASES.get(name, ()))]
    others = [column for column in columns if column not in ("file", *NOTES)]
    return own or (difflib.get_close_matches(name, others, 1, 0.85) if len(name) > 4 else [])


def _one_hot(table: pd.DataFrame) -> list[str]:
    """Columns of which exactly one says 1 in each row, and the others 0, where one is called as a class is."""
    truth = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
    kinds = [str(name) for name in table if name not in ("file", *NOTES)]
    kinds = [name for name in kinds if set(table[name].str.strip().str.casefold()) <= truth.keys()]
    if len(kinds) < 2 or not len(table) or not any(words.meaning(name).word for name in kinds):
        return []
    said = table[kinds].apply(lambda cells: cells.str.strip().str.casefold().map(truth)).sum(axis=1)
    return kinds if bool((said == 1).all()) else []
