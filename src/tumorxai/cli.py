"""The command ``tumorxai``. What is slow to load is loaded by the subcommand that needs it: `--help` is quick."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from tumorxai.certify import commands as certifying
from tumorxai.errors import UserError, known
from tumorxai.explain.methods import METHODS
from tumorxai.tools import completion

if TYPE_CHECKING:
    from tumorxai.run.case import Case, Prediction, Workspace

NOTICE = "Research use only. Not a medical device, not for diagnosis."


class Group(TyperGroup):
    """Ends on a mistake of the user's with one message and status 1, or 2 where 1 is an answer, without a traceback."""

    def invoke(self, ctx: Any) -> Any:  # typer's releases differ in whose Context it is
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2 if ctx.invoked_subcommand in certifying.ANSWERS else 1) from None


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=f"Self-supervised learning for brain-MRI tumour classification: ask a finished run. {NOTICE}",
)


Images = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="image files", show_default=False)]
Root = Annotated[Path, typer.Option(help="the project's folder", show_default="the current one")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document")]
ClassName = Annotated[
    str | None,
    typer.Option("--class", metavar="NAME", autocompletion=completion.classes, help="default: the predicted one"),
]


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


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=2, allow_nan=False))


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def _ask(
    root: Path, images: list[Path], ids: list[int], answer: Callable[[Workspace, Case], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Answers about image files and images of the pack; one that cannot be read has an ``error`` instead."""
    from tqdm import tqdm

    from tumorxai.archives.archives import UnreadableError
    from tumorxai.run.case import MAX_BYTES, Workspace

    workspace = Workspace.open(root)
    asked: list[Path | int] = [*images, *ids]
    found = []
    try:
        for one in tqdm(asked, unit="image", disable=None if len(asked) > 1 else True):
            named: dict[str, Any] = {"image_id": one} if isinstance(one, int) else {"image": str(one)}
            try:
                if isinstance(one, int):
                    case = workspace.case(one)
                else:
                    with one.open("rb") as stream:  # never more than is refused anyway
                        case = workspace.read(stream.read(MAX_BYTES + 1))
            except (OSError, UnreadableError) as error:
                reason = (error.strerror if isinstance(error, OSError) else None) or error
                found.append(named | {"error": f"got {one}, which cannot be read ({reason}); expected an image"})
                continue
            found.append(named | answer(workspace, case))
    finally:
        workspace.close()
    return found


def _report(found: list[dict[str, Any]], as_json: bool, lines: Callable[[dict[str, Any]], list[str]]) -> None:
    """Print the answers; the status is 1 if any image could not be read."""
    if as_json:
        _print_json(found)
    failed = False
    for one in found:
        if "error" in one:
            failed = True
            typer.echo(f"error: {one['error']}", err=True)
        elif not as_json:
            for line in lines(one):
                typer.echo(line)
    if failed:
        raise typer.Exit(1)


def _described(prediction: Prediction) -> dict[str, Any]:
    fields = dataclasses.asdict(prediction)
    return {"predicted": prediction.predicted, **fields, "unlike": prediction.unlike}


def _prediction_lines(one: dict[str, Any]) -> list[str]:
    shares = sorted(one["probabilities"].items(), key=lambda item: -item[1])
    lines = [f"{one['image']}: {', '.join(f'{name} {100 * share:.1f}%' for name, share in shares)}"]
    if one["unlike"]:
        lines.append(
            f"  warning: unlike the training images (distance {one['distance']:.3f}, threshold {one['threshold']:.3f});"
            " do not believe the probabilities"
        )
    if one["copy_of"]:
        copy = one["copy_of"]
        how = "" if copy["orientation"] == "as is" else f", {copy['orientation']}"
        lines.append(f"  warning: already in the data: a copy of image {copy['image_id']} (side {copy['side']}{how})")
    return lines


@app.command()
def predict(images: Images, root: Root = Path(), as_json: Json = False) -> None:
    """Calibrated class probabilities, with a warning where an image is unlike the training data or a copy of it."""
    found = _ask(root, images, [], lambda workspace, case: _described(workspace.predict(case)))
    if not as_json:
        typer.echo(NOTICE)
    _report(found, as_json, _prediction_lines)


@app.command()
def explain(
    images: Images,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"one of {', '.join(METHODS)}; repeatable; default: grad_cam",
            autocompletion=lambda incomplete: [name for name in METHODS if name.startswith(incomplete)],
        ),
    ] = None,
    class_name: ClassName = None,
    like: Annotated[Path | None, typer.Option(help="explain the similarity to this image instead")] = None,
    out: Annotated[Path, typer.Option(help="folder to write pictures and maps to")] = Path("explained"),
    model: Annotated[
        Path | None, typer.Option(help="weights; default: models/finetuned.safetensors, with --like the encoder")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="module of the encoder that CAMs are read off")] = None,
    masks: Annotated[int | None, typer.Option(min=1, help="most masks of ViT-CX for an image")] = None,
    windows: Annotated[int, typer.Option(min=1, max=64, help="of occlusion, on a side")] = 8,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """Heat-maps: where a classifier finds its evidence, or what makes two images similar."""
    from tumorxai import config
    from tumorxai.explain.image_files import explain_images, explain_similarity

    methods, fit = method or ["grad_cam"], config.load(root / "params.yaml").data.fit
    if like is not None:
        if len(images) != 1 or len(methods) != 1 or class_name is not None:
            raise UserError(
                "got --like with several images or methods, or a class; expected one image, one method and no class"
            )
        picture = out / f"{images[0].stem}_like_{like.stem}.png"
        encoder = model or root / "models" / "encoder.safetensors"
        cosine, _ = explain_similarity(images[0], like, methods[0], encoder, picture, fit)
        pair = {"image": str(images[0]), "like": str(like), "cosine": cosine, "picture": str(picture)}
        _report([pair], as_json, lambda one: [f"{one['image']}: cosine {cosine:.3f} to {like}; {one['picture']}"])
        return
    explained = explain_images(
        images, methods, class_name, model or root / "models" / "finetuned.safetensors", out, layer, masks, windows, fit
    )
    found = [
        {
            "image": str(one.path),
            "predicted": one.predicted,
            "explained": one.explained,
            "uncalibrated_probability": one.probabilities[one.explained],  # the network's own; predict calibrates
            "flat": one.flat,
            "picture": str(one.picture),
        }
        for one in explained
    ]
    _report(found, as_json, _explanation_lines)


def _explanation_lines(one: dict[str, Any]) -> list[str]:
    flat = f"; shows no place: {', '.join(one['flat'])}" if one["flat"] else ""
    said = "" if one["explained"] == one["predicted"] else f" (predicted: {one['predicted']})"
    return [f"{one['image']}: {one['explained']}{said}{flat}; {one['picture']}"]


@app.command()
def search(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE...", help="image files", show_default=False)
    ] = None,
    ids: Annotated[list[int] | None, typer.Option("--id", help="an image of the data instead; repeatable")] = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="most cases for each")] = 5,
    class_name: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME", autocompletion=completion.classes, help="only cases of this class"),
    ] = None,
    source: Annotated[str | None, typer.Option(help="only cases of this data set")] = None,
    sequence: Annotated[str | None, typer.Option(help="only cases of this MRI sequence")] = None,
    copies: Annotated[bool, typer.Option("--copies", help="keep copies of the image and its patient's others")] = False,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """Similar cases with their labels; copies of the image and other images of its patient are left out."""
    if not images and not ids:
        raise UserError("got no image; expected image files, or `--id NUMBER` of an image of the data")

    def answer(workspace: Workspace, case: Case) -> dict[str, Any]:
        hits = workspace.search(case, count, class_name, source, sequence, not copies)
        return {"hits": [{"similarity": hit.similarity, **hit.payload, "image_id": hit.image_id} for hit in hits]}

    _report(_ask(root, images or [], ids or [], answer), as_json, _hit_lines)


def _hit_lines(one: dict[str, Any]) -> list[str]:
    lines = [f"{one.get('image', 'image ' + str(one.get('image_id')))}: {_plural(len(one['hits']), 'similar case')}"]
    for hit in one["hits"]:
        known_of = [hit["label"], hit["sequence"], hit["source"], hit["side"]]
        lines.append(f"  {hit['similarity']:.3f}  image {hit['image_id']}: {', '.join(filter(None, known_of))}")
    return lines


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

    import uvicorn

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

    limits = Limits(hosts=tuple(dict.fromkeys((*LOOPBACK, host.lower(), *map(str.lower, name or ())))))
    with listener, contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
        page = create(Workspace.open(root), limits)
        if host not in ("127.0.0.1", "localhost", "::1"):
            typer.echo(f"warning: {host} can be reached by others, and nobody is asked for a password", err=True)
        typer.echo(f"http://{host}:{listener.getsockname()[1]}  (Ctrl-C ends it)  {NOTICE}")
        uvicorn.Server(uvicorn.Config(page, log_level="warning", server_header=False)).run(sockets=[listener])


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
        _print_json(json.loads(board.to_json(orient="records")))
        return
    typer.echo(terminal(board))
    typer.echo(f"with curves, and with what was left out and why: {root / FOLDER / 'index.html'}")


for _command in (certifying.audit, certifying.certify, certifying.verify, certifying.family):
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
            _print_json({"preset": name})
        else:
            typer.echo(f"params.yaml is {name} now; `git diff params.yaml` shows what changed, `dvc repro` runs it")
        return
    found = presets.described(root / "presets")
    if as_json:
        _print_json(found)
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
        _print_json({"folder": str(folder), "git": git})
    else:
        typer.echo(f"{folder} holds a project, with the preset demo; next: cd {folder} && {project.NEXT[git]}dvc repro")


@app.command()
def doctor(root: Root = Path(), as_json: Json = False) -> None:
    """Is this machine ready for a run? Says what is missing and what to do; status 1 if a run would not work."""
    from tumorxai.tools.doctor import examine

    found = examine(root)
    if as_json:
        _print_json([dataclasses.asdict(check) for check in found])
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
        _print_json({"model": str(weights), "out": str(out), "bytes": out.stat().st_size, "difference": difference})
    else:
        typer.echo(f"{out}: differs from PyTorch by {difference:.1g} of the features' standard deviation")


def main() -> None:
    """The command."""
    app(prog_name="tumorxai")


if __name__ == "__main__":
    main()
