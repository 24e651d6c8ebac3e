"""The command ``check-data``; what is slow to load is loaded when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

TAXONOMIES = ("four_class", "seventeen", "six_group", "native")


def check_data(
    data: Annotated[Path, typer.Argument(metavar="FOLDER_OR_ZIP", help="your images", show_default=False)],
    taxonomy: Annotated[str, typer.Option(help=f"data.taxonomy: one of {', '.join(TAXONOMIES)}")] = "four_class",
    out: Annotated[
        Path | None, typer.Option(help="folder to write a picture of each class to", show_default="none")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """What a run would make of your images: classes, sides, patients, what is left out and why. Runs nothing."""
    from tumorxai.catalogue import check
    from tumorxai.errors import known

    known("taxonomy", taxonomy, TAXONOMIES)
    found = check.check(data.expanduser(), taxonomy, out)
    if as_json:
        typer.echo(json.dumps(found, indent=2, allow_nan=False))
        return
    for line in check.lines(found, taxonomy):
        typer.echo(line)
