"""What several commands have in common: the options that they all take, and their answer as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Root = Annotated[Path, typer.Option(help="the project's folder", show_default="the current one")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document")]


def print_json(content: Any) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(content, indent=2, allow_nan=False))
