"""What the shell completes: values of options that depend on the project."""

from __future__ import annotations

import json
from pathlib import Path

import typer


def classes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Classes of the fine-tuned classifier."""
    try:
        card = json.loads((ctx.params.get("root") or Path()).joinpath("models/finetuned.json").read_text())
        return [name for name in card["classes"] if name.startswith(incomplete)]
    except (OSError, ValueError, KeyError):
        return []


def presets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of presets."""
    folder = (ctx.params.get("root") or Path()) / "presets"
    return sorted(path.stem for path in folder.glob("*.yaml") if path.stem.startswith(incomplete))
