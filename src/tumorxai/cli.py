"""The command ``tumorxai``. What is slow to load is loaded by the subcommand that needs it: `--help` is quick."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tumorxai.certify import commands as certifying
from tumorxai.errors import UserError, known, told
from tumorxai.run import commands as asking
from tumorxai.run.commands import NOTICE
from tumorxai.tools import completion
from tumorxai.tools.check_data import check_data
from tumorxai.tools.offline import commands as offline
from tumorxai.tools.options import Json, Root, print_json


class Group(TyperGroup):
    """Ends on a mistake of the user's with one message and status 1, or 2 where 1 is an answer, without a traceback."""

    def invoke(self, ctx: Any) -> Any:  # typer's releases differ in whose Context it is
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except Exception as error:  # those of click itself are none of ours, and go on
            if (own := told(error)) is None:
                raise
            typer.echo(f"error: {own}", err=True)
            raise typer.Exit(2 if ctx.invoked_subcommand in certifying.ANSWERS else 1) from None


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=f"Self-supervised learning for brain-MRI tumour classification: ask a finished run. {NOTICE}",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("tumorxai"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print it")] = False,
) -> None:
    pass


for _asked in (asking.predict, asking.explain, asking.search):
    app.command()(_asked)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="address to listen at; others than this machine's are not protected")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8000,
    name: Annotated[list[str] | None, typer.Option(help="repeatable; a further name that it answers to")] = None,
    root: Root = Path(),
) -> None:
    """A page and an API to ask the run from a browser, on this machine only unless set otherwise."""
    import contextlib
    import socket

    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise UserError(
            f"got {host}:{port}, which cannot be listened at ({error.strerror}); expected a free port; choose another "
            "--port"
        ) from None
    from tumorxai.run.case import Workspace
    from tumorxai.serve.app import create
    from tumorxai.serve.limits import LOOPBACK, Limits
    from tumorxai.serve.listen import server

    limits = Limits(hosts=tuple(dict.fromkeys((*LOOPBACK, host.lower(), *map(str.lower, name or ())))))
    with listener, contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
        page = create(Workspace.open(root), limits)
        if host not in ("127.0.0.1", "localhost", "::1"):
            typer.echo(f"warning: {host} can be reached by others, and nobody is asked for a password", err=True)
        typer.echo(f"http://{host}:{listener.getsockname()[1]}  (Ctrl-C ends it)  {NOTICE}")
        server(page, limits).run(sockets=[listener])


@app.command()
def compare(
    commits: Annotated[
        int, typer.Option(help="the last N commits and their experiments; -1: all, which takes long")
    ] = 20,
    protocol: Annotated[list[str] | None, typer.Option(metavar="NAME", help="repeatable; default: all")] = None,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """A leaderboard of all experiments and commits, with paired tests."""
    from tumorxai.base.protocols import PROTOCOLS
    from tumorxai.run.compare import FOLDER, write
    from tumorxai.run.compare.tables import terminal

    for name in protocol or []:
        known("protocol", name, PROTOCOLS)
    board = write(root, commits, protocol or list(PROTOCOLS))
    if as_json:
        print_json(json.loads(board.to_json(orient="records")))
        return
    typer.echo(terminal(board))
    typer.echo(f"with curves, and with what was left out and why: {root / FOLDER / 'index.html'}")


for _command in (certifying.audit, certifying.certify, certifying.verify, certifying.family, check_data):
    app.command()(_command)


@app.command()
def preset(
    name: Annotated[
        str | None,
        typer.Argument(autocompletion=completion.presets, help="without one, they are listed", show_default=False),
    ] = None,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """Make a named set of parameters the current experiment: params.yaml is written anew, but its comments stay."""
    from tumorxai.tools import presets

    if name:
        presets.apply(name, root / "presets", root / "params.yaml")
        if as_json:
            print_json({"preset": name})
        else:
            typer.echo(f"params.yaml is {name} now; `git diff params.yaml` shows what changed, `dvc repro` runs it")
        return
    found = presets.described(root / "presets")
    if as_json:
        print_json(found)
    else:
        for one, text in found.items():
            typer.echo(f"{one}: {text}")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="new or empty", show_default=False)], as_json: Json = False
) -> None:
    """Make a folder for experiments with the installed package: pipeline, parameters, presets, git and DVC."""
    from tumorxai.tools import project

    git = project.create(folder)
    if as_json:
        print_json({"folder": str(folder), "git": git})
    else:
        typer.echo(f"{folder} holds a project, with the preset demo; next: cd {folder} && {project.NEXT[git]}dvc repro")


for _without_dvc in (offline.sweep, offline.bring_back):
    app.command()(_without_dvc)


@app.command()
def doctor(
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="read all outputs, here and in DVC's cache, against dvc.lock instead, metrics against the commit's",
        ),
    ] = False,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """Is this machine ready for a run? Says what is missing and what to do; status 1 if a run would not work."""
    from tumorxai.tools.doctor import Check, examine

    if verify:
        from tumorxai.tools import committed
        from tumorxai.tools import verify as verifying

        wrong = verifying.verify(root)
        found = [Check(one.path, "fail", f"got {one.found}", one.advice) for one in wrong]
        found = found or [Check("outputs", "ok", "all bytes are those that dvc.lock records")]
        found += committed.checks(root)
    else:
        found = examine(root)
    if as_json:
        print_json([dataclasses.asdict(check) for check in found])
    else:
        for check in found:
            typer.echo(f"{check.state:5}{check.name:10}{check.found}" + (f" -> {check.advice}" if check.advice else ""))
    if any(check.state == "fail" for check in found):
        raise typer.Exit(1)


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="file to write: *.safetensors, *.onnx or *.pt2 (torch.export)")],
    model: Annotated[Path | None, typer.Option(help="encoder; default: models/encoder.safetensors")] = None,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """The encoder as one file for other programs, run beside PyTorch before it gets its name."""
    from tumorxai.run import export as exporting

    weights = model or root / "models" / "encoder.safetensors"
    difference = exporting.run(weights, out)
    if as_json:
        print_json({"model": str(weights), "out": str(out), "bytes": out.stat().st_size, "difference": difference})
    else:
        typer.echo(f"{out}: differs from PyTorch by {difference:.1g} of the features' standard deviation")


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="new or empty", show_default=False)],
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="send it to this repository on the hub as well")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="for everybody to see, not you alone")] = False,
    certificate: Annotated[
        Path | None, typer.Option(help="default: the project's certificate.json, but not that of your own images")
    ] = None,
    although_leaking: Annotated[
        bool, typer.Option("--although-leaking", help="even if the split leaks, as the card then says")
    ] = False,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """Encoder, classifier, cards and checklist as one folder for the Hugging Face Hub, which timm loads."""
    from tumorxai.run import publish as publishing
    from tumorxai.run.publish import hub

    if push:
        hub.check(push)
    done = publishing.write(root, folder, push or "", certificate, although_leaking)
    url = hub.push(folder, push, public, publishing.WRITTEN) if push else None
    if as_json:
        print_json({"folder": str(folder), **dataclasses.asdict(done), "url": url})
        return
    typer.echo(f"{folder}: {', '.join(done.files)}; the split: {done.verdict}")
    for name, reason in done.not_timm.items():
        typer.echo(f"timm does not load the {name} ({reason}); tumorxai does")
    if url:
        typer.echo(url)


def main() -> None:
    """The command."""
    app(prog_name="tumorxai")


if __name__ == "__main__":
    main()
