"""The pages of ``results/``, each written from the JSON file beside it or from all of them, and the README's table.

    python -m tumorxai.tools.results

A JSON file with ``runs`` is what `make papers` leaves, one with ``archives`` what ``benchmarks/copies.py`` does. One
with ``tables`` holds what other commands have printed: shares in [0, 1] or plain numbers, with 95 % intervals where
there are any, and under ``record`` where the figures come from; what is not known of that is null.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tumorxai.errors import UserError, run
from tumorxai.files import read_json, write_text
from tumorxai.tools import leak_figure, overview, papers, results_copies

RECORD = {"date": "date", "commit": "commit", "hardware": "hardware", "python": "Python", "versions": "versions"}


def number(value: float, unit: str | int) -> str:
    """A figure as it is shown: a share in percent (unit "%"), with so many digits (a number), as it stands ("")."""
    if unit == "%":
        return f"{100 * value:z.1f}"
    return f"{value:z,.{unit}f}" if isinstance(unit, int) else f"{value:,}"


def cell(entry: Any, unit: str | int) -> str:
    """What stands in a cell: nothing, words, a figure, or ``value`` with ``low`` and ``high``."""
    if entry is None or isinstance(entry, str):
        return entry or ""
    if not isinstance(entry, dict):
        return number(entry, unit)
    value, low, high = (number(entry[key], unit) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def rows(table: dict[str, Any]) -> list[str]:
    """The Markdown of a table: ``columns`` (name: unit) and ``rows`` (name: cells, in the columns' order).

    Raises:
        UserError: a row has more or fewer cells than there are columns.
    """
    columns = table["columns"]
    lines = [f"| {' | '.join([table.get('corner', ''), *columns])} |", "|---" * (len(columns) + 1) + "|"]
    for name, entries in table["rows"].items():
        if len(entries) != len(columns):
            raise UserError(f"row {name!r}: got {len(entries)} cells; expected {len(columns)}, one for each column")
        cells = [cell(entry, unit) for entry, unit in zip(entries, columns.values(), strict=True)]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return lines


def minus(first: dict[str, Any], second: dict[str, Any], columns: list[str]) -> dict[str, Any]:
    """The table of the first table's shares minus the second's, of independent samples, for the rows that both have."""
    places = [[list(table["columns"]).index(column) for column in columns] for table in (first, second)]
    found: dict[str, list[Any]] = {}
    for name in (name for name in first["rows"] if name in second["rows"]):
        pairs = [(first["rows"][name][one], second["rows"][name][other]) for one, other in zip(*places, strict=True)]
        found[name] = [None if None in pair else papers.difference(*pair) for pair in pairs]
    return {"columns": dict.fromkeys(columns, "%"), "rows": found}


def record(content: dict[str, Any]) -> str:
    """Where a page's figures come from, in a sentence; what is not known is said to be."""
    known = dict(content)
    if known.get("versions"):
        known["versions"] = ", ".join(f"{name} {version}" for name, version in known["versions"].items())
    said = [f"{word} {known[key]}" if known.get(key) else f"{word} not recorded" for key, word in RECORD.items()]
    took = f"; {known['took']}" if known.get("took") else ""
    return f"Record: {'; '.join(said)}{took}. How it came here: {known['recorded']}."


def tables(content: dict[str, Any]) -> str:
    """The page of a JSON file with ``tables``."""
    lines = [f"# {content['title']}"]
    for text in content["about"]:
        lines += ["", text]
    if content.get("commands"):
        lines += ["", "```sh", *content["commands"], "```"]
    for table in content["tables"].values():
        lines += ["", f"## {table['title']}", ""]
        if table.get("text"):
            lines += [table["text"], ""]
        if "minus" in table:
            one, other = (content["tables"][name] for name in table["minus"])
            lines += rows(minus(one, other, table["of"]))
        else:
            lines += rows(table)
    if content.get("remarks"):
        lines += ["", "## What it says, and what not", "", *(f"- {text}" for text in content["remarks"])]
    return "\n".join([*lines, "", record(content["record"])]) + "\n"


def page(path: Path, lists: Path) -> str:
    """The Markdown of a file of results.

    Args:
        path: JSON file.
        lists: folder of the papers' lists of runs.

    Raises:
        UserError: it is of no known kind.
    """
    content = read_json(path)
    if "runs" in content:
        return papers.table(papers.describe(path.stem, lists), content["runs"])
    if "archives" in content:
        return results_copies.page(content)
    if "tables" in content:
        return tables(content)
    raise UserError(f"{path}: got the keys {', '.join(content)}; expected runs, archives or tables among them")


def write(root: Path) -> None:
    """Write every page of ``results/`` and its pictures, and the README's table and picture.

    Raises:
        UserError: a file is of no known kind, or the README has no markers.
    """
    for path in sorted((root / "results").glob("*.json")):
        write_text(path.with_suffix(".md"), page(path, root / "papers"))
    write_text(root / "results" / overview.NAME, overview.page(root))
    leak = root / "results" / "leak.json"
    if leak.exists():
        leak_figure.draw(read_json(leak)["measured"]["parts"], leak.with_suffix(".png"))
    papers.headline(root)


def main() -> None:
    """The command."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    write(Path())


if __name__ == "__main__":
    run(main)
