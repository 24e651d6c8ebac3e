"""The commands ``tumorxai bring-back`` and ``tumorxai sweep``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from tumorxai.errors import UserError
from tumorxai.tools.options import Json, Root, print_json


def bring_back(
    folder: Annotated[Path, typer.Argument(help="result folder of a bundle's run", show_default=False)],
    other_versions: Annotated[
        bool, typer.Option("--other-versions", help="take what was computed with other versions of packages, too")
    ] = False,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """Take in what was run without DVC, as if its stages had run here; what does not fit is refused, with status 1."""
    from tumorxai.tools.offline import bring_back as bringing

    brought = bringing.bring(root, folder, other_versions)
    if as_json:
        print_json(dataclasses.asdict(brought))
    else:
        for line in bringing.lines(brought):
            typer.echo(line)
    if brought.refused:
        raise UserError("\n".join(f"{name}: {why}" for name, why in brought.refused.items()))


def sweep(
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", "-S", metavar="KEY=VALUE[,VALUE]", help="repeatable; every combination is a run"),
    ] = None,
    stages: Annotated[
        list[str] | None,
        typer.Option("--stage", metavar="STAGE", help="repeatable; default: all that are scored", show_default=False),
    ] = None,
    side_by_side: Annotated[
        int, typer.Option(min=0, help="runs at once; 0: as many as fit into the memory of card or machine")
    ] = 0,
    minutes: Annotated[
        float | None, typer.Option(help="after which all has stopped; the same command goes on", show_default=False)
    ] = None,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """Run many settings side by side on this machine; a run that fails stops no other, and the status is 1."""
    from tumorxai.tools.offline import bring_back as bringing
    from tumorxai.tools.offline import plan
    from tumorxai.tools.offline import sweep as sweeping

    asked = plan.of_settings(setting or [], tuple(stages or plan.DEFAULT))
    outcome, brought = sweeping.sweep(root, asked, side_by_side, minutes)
    if as_json:
        print_json({"runs": dataclasses.asdict(outcome), "brought": dataclasses.asdict(brought)})
    else:
        for line in bringing.lines(brought):
            typer.echo(line)
        for name, left in outcome.left.items():
            typer.echo(f"{name}: left are {', '.join(left)}; the same command goes on")
    if why := sweeping.failed(outcome, brought):
        raise UserError("; ".join(f"{name}: {text}" for name, text in why.items()))
