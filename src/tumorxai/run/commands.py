"""The commands that ask a finished run about images: predict, explain, search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tumorxai.errors import UserError, known
from tumorxai.explain.methods import METHODS
from tumorxai.tools import completion
from tumorxai.tools.options import Json, Root, print_json

if TYPE_CHECKING:
    from tumorxai.run.batch import File

NOTICE = "Research use only. Not a medical device, not for diagnosis."

Images = Annotated[
    list[Path],
    typer.Argument(metavar="IMAGE...", help="image files, folders or patterns such as '*.png'", show_default=False),
]
ClassName = Annotated[
    str | None,
    typer.Option("--class", metavar="NAME", autocompletion=completion.classes, help="default: the predicted one"),
]


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def _report(found: list[dict[str, Any]], as_json: bool, lines: Callable[[dict[str, Any]], list[str]]) -> None:
    """Print the answers; the status is 1 if any image could not be read."""
    if as_json:
        print_json(found)
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


def _prediction_lines(one: dict[str, Any]) -> list[str]:
    calibrated = "probabilities" in one
    shares = sorted(one["probabilities" if calibrated else "uncalibrated_probabilities"].items(), key=lambda x: -x[1])
    lines = [f"{one['image']}: {', '.join(f'{name} {100 * share:.1f}%' for name, share in shares)}"]
    if not calibrated:
        return lines
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


def predict(
    images: Images,
    out: Annotated[
        Path | None, typer.Option(metavar="TABLE.csv", help="write a table instead; an interrupted call is resumed")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="a classifier alone, without its run: probabilities are not calibrated")
    ] = None,
    fit: Annotated[str, typer.Option(help="with --model: pad or stretch, data.fit of its run")] = "pad",
    copies: Annotated[bool, typer.Option(help="look for copies of the run's images, which takes longest")] = True,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """Calibrated class probabilities, with a warning where an image is unlike the training data or a copy of it.

    A zip is looked into as well as a folder.
    """
    from tumorxai.run import batch

    known("--fit", fit, ("pad", "stretch"))
    if out is not None and out.suffix != ".csv":
        raise UserError(f"--out: got {out}; expected a name that ends in .csv")
    asked = _asked(images)
    predictor = batch.Alone(model, fit) if model else batch.Run(root, copies)
    part = out and out.with_name(f"{out.name}.part")
    found = batch.predict(asked, predictor, part)
    if not as_json:
        typer.echo(NOTICE + (" The probabilities are not calibrated." if model else ""))
    if out is None or part is None:
        _report(found, as_json, _prediction_lines)
        return
    batch.write(out, found)
    part.unlink()
    if not as_json:
        typer.echo(f"{out}: {_plural(sum('error' not in one for one in found), 'image')}")
    _report(found, as_json, lambda _: [])


def _asked(images: list[Path]) -> list[File]:
    """The images of some paths; what of folders and zips was passed over goes to the terminal."""
    from tumorxai.run import batch

    said: list[str] = []
    asked = batch.files(images, said)
    for line in said:
        typer.echo(f"note: {line}", err=True)
    return asked


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
    asked = _asked(images)
    if zips := [file.path for file in asked if file.inside]:
        raise UserError(f"got the zip {zips[0]}; expected images or folders of images; unpack it")
    explained = explain_images(
        [file.path for file in asked],
        methods,
        class_name,
        model or root / "models" / "finetuned.safetensors",
        out,
        layer,
        masks,
        windows,
        fit,
    )
    found = [
        {
            "image": file.name,
            "predicted": one.predicted,
            "explained": one.explained,
            "uncalibrated_probability": one.probabilities[one.explained],  # the network's own; predict calibrates
            "flat": one.flat,
            "picture": str(one.picture),
        }
        for file, one in zip(asked, explained, strict=True)
    ]
    _report(found, as_json, _explanation_lines)


def _explanation_lines(one: dict[str, Any]) -> list[str]:
    flat = f"; shows no place: {', '.join(one['flat'])}" if one["flat"] else ""
    said = "" if one["explained"] == one["predicted"] else f" (predicted: {one['predicted']})"
    return [f"{one['image']}: {one['explained']}{said}{flat}; {one['picture']}"]


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

    from tqdm import tqdm

    from tumorxai.run import batch
    from tumorxai.run.case import Workspace

    workspace = Workspace.open(root)
    asked: list[batch.File | int] = [*(batch.File(str(path), path) for path in images or []), *(ids or [])]
    found = []
    try:
        named: dict[str, Any]
        for one in tqdm(asked, unit="image", disable=None if len(asked) > 1 else True):
            if isinstance(one, int):
                named, case = {"image_id": one}, workspace.case(one)
            else:
                named = {"image": one.name}
                try:
                    case = workspace.read(batch.contents(one))
                except batch.UNUSABLE as error:
                    found.append(named | {"error": batch.unusable(one, error)})
                    continue
            hits = workspace.search(case, count, class_name, source, sequence, not copies)
            own = [{"similarity": hit.similarity, **hit.payload, "image_id": hit.image_id} for hit in hits]
            found.append(named | {"hits": own})
    finally:
        workspace.close()
    _report(found, as_json, _hit_lines)


def _hit_lines(one: dict[str, Any]) -> list[str]:
    lines = [f"{one.get('image', 'image ' + str(one.get('image_id')))}: {_plural(len(one['hits']), 'similar case')}"]
    for hit in one["hits"]:
        known_of = [hit["label"], hit["sequence"], hit["source"], hit["side"]]
        lines.append(f"  {hit['similarity']:.3f}  image {hit['image_id']}: {', '.join(filter(None, known_of))}")
    return lines
