"""The commands ``audit``, ``certify`` and ``verify``; what is slow to load is loaded when one of them runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tumorxai.errors import UserError

if TYPE_CHECKING:
    from tumorxai.certify.assess import Audited

SHOWN = 20  # differences that are printed
ANSWERS = ("audit", "certify", "verify")  # status 1 is an answer of these; a mistake of the user's ends with 2

Json = Annotated[bool, typer.Option("--json", help="print one JSON document")]
Table = Annotated[Path | None, typer.Option("--split", metavar="TABLE", help="CSV with `file` and `split`")]
Columns = Annotated[
    str | None, typer.Option(metavar="FILE,SPLIT", help="names of the table's two columns, where they differ")
]
Data = Annotated[Path, typer.Argument(metavar="FOLDER_OR_ZIP", help="class folders of images", show_default=False)]


def audit(
    data: Data,
    split: Table = None,
    columns: Columns = None,
    out: Annotated[Path, typer.Option(help="folder to write the page, tables and certificate to")] = Path("audited"),
    as_json: Json = False,
) -> None:
    """Does somebody's split leak? Trains nothing. Status 0: no copy or patient crosses; 1: leaking; 2: a mistake.

    The sides come from folders (train/CLASS/IMAGE, Testing/CLASS/IMAGE, …) or from a table.
    """
    from tumorxai.audit.verdict import LEAKING
    from tumorxai.certify import outside, page

    found = outside.audit(data, split, _pair(columns), out)
    if as_json:
        typer.echo(json.dumps(found.summary, indent=2, allow_nan=False))
    else:
        for line in _lines(found, page.points):
            typer.echo(line)
        typer.echo(f"with pictures: {out / 'index.html'}; certificate: {out / 'certificate.json'}")
    if found.summary["verdict"] == LEAKING:
        raise typer.Exit(1)


def certify(
    out: Annotated[Path, typer.Option(help="file to write")] = Path("certificate.json"),
    root: Annotated[Path, typer.Option(help="the project's folder", show_default="the current one")] = Path(),
    as_json: Json = False,
) -> None:
    """A certificate of this project's own split: every image, by its decoded pixels, with side. Status as audit's."""
    from tumorxai.audit.verdict import LEAKING
    from tumorxai.certify import own

    found = own.certify(root, out)
    if as_json:
        typer.echo(json.dumps({key: found[key] for key in ("verdict", "crossings", "sha256")}, indent=2))
    else:
        typer.echo(f"{found['verdict']}; {out}: {len(found['images'])} images, sha256 {found['sha256']}")
    if found["verdict"] == LEAKING:
        raise typer.Exit(1)


def verify(
    certificate: Annotated[Path, typer.Argument(help="as `audit` or `certify` wrote it", show_default=False)],
    data: Data,
    split: Table = None,
    columns: Columns = None,
    sha256: Annotated[str | None, typer.Option(help="digest that was published, such as in the paper")] = None,
    as_json: Json = False,
) -> None:
    """Are these the certified images, on the certified sides? Status 0: they are; 1: not, see the list; 2: a mistake.

    For a certificate of several sources, FOLDER_OR_ZIP is the folder of their archives.
    """
    from tumorxai.certify.verify import verify as compare

    found = compare(certificate, data, split, _pair(columns), sha256)
    differences = [plain(one) for one in found.differences]
    if as_json:
        content = {"ok": not differences, "images": found.images, "sides_checked": found.sides_checked}
        typer.echo(json.dumps(content | {"differences": differences}, indent=2))
    elif differences:
        typer.echo(f"refused: {len(differences)} difference{'s' * (len(differences) != 1)}")
        for one in differences[:SHOWN]:
            typer.echo(f"  {one}")
        if len(differences) > SHOWN:
            typer.echo(f"  and {len(differences) - SHOWN} more; --json lists all")
    else:
        sides = "on the same sides" if found.sides_checked else "whose sides were not checked (give their --split)"
        typer.echo(f"ok: {found.images} images, the same pixels, {sides}")
    if differences:
        raise typer.Exit(1)


def family(
    archives: Annotated[
        list[Path], typer.Argument(metavar="FOLDER_OR_ZIP...", help="class folders of images", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="folder to write the figure and the table to")] = Path("family"),
    as_json: Json = False,
) -> None:
    """Which archives hold which others' images? Copies between each two, with labels that disagree, and a figure."""
    from tumorxai.certify.family import write

    found = write(archives, out)
    if as_json:
        typer.echo(json.dumps(found, indent=2, allow_nan=False))
        return
    for row in found["archives"]:
        typer.echo(
            f"{row['source']}: {row['images']} images, {row['groups']} different ones, {row['left_out']} left out"
        )
    for row in found["kinship"]:
        typer.echo(
            f"{row['a']} in {row['b']}: {row['a_in_b']} images ({row['a_share']:.1%}), the other way round "
            f"{row['b_in_a']} ({row['b_share']:.1%}); {row['exact']} exact and {row['near']} near pairs; "
            f"{row['two_labels']} of {row['shared']} groups under two labels"
        )
    typer.echo(
        f"all together: {found['images']} images, {found['different']} different ones; drawn: {out / 'family.png'}"
    )


def _pair(columns: str | None) -> tuple[str, str] | None:
    if columns is None:
        return None
    names = [name.strip() for name in columns.split(",")]
    if len(names) != 2 or not all(names):
        raise UserError(f"--columns: got {columns!r}; expected two names, such as --columns filename,subset")
    return names[0], names[1]


def plain(text: str) -> str:
    """Text for a terminal: names of files come from strangers, and may hold what a terminal obeys."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _lines(found: Audited, points: Any) -> list[str]:
    summary = found.summary
    neighbour = summary["pixel_neighbour"]
    lines = [f"{summary['verdict']}: {summary['sentence']}"]
    for name, entry in summary["crossings"].items():
        lines.append(
            f"  {name.replace('_', ' to ')}: {entry['copies']} of {entry['images']} images with a copy "
            f"({entry['exact_copies']} exact, {entry['near_copies']} near), {entry['shared_patients']} stated patients"
        )
    share = {key: neighbour[key]["accuracy"] for key in ("all", "no_copy")}
    clean = "no test image is without a copy"
    if share["no_copy"] is not None:
        gain = neighbour["inflation"]
        clean = (
            f"{100 * share['no_copy']:.1f}% on the {neighbour['no_copy']['images']} without a copy: inflation "
            f"{points(gain['value'])} points (95% interval {points(gain['low'])} to {points(gain['high'])})"
        )
    lines.append(
        f"  pixel nearest neighbour: {100 * share['all']:.1f}% of {neighbour['all']['images']} test images; {clean}"
    )
    again, told = summary["second"], summary["evidence"]
    lines.append(
        f"  second search, by keypoints: {again['missed']} further test images with a copy (false accepts may explain "
        f"{again['explained']})"
    )
    series = (
        "" if told["series"] is None else f"; {told['series']} of {told['images']} test images look like a slice of one"
    )
    lines.append(
        f"  patients: {told['known']} images known, {told['likely']} likely, {told['unknown']} unknown; "
        f"{told['patients']} test images of patients who are learned from{series}"
    )
    exact = summary["two_labels"]["exact, two labels"]
    lines.append(f"  the same pixels under two labels: {exact} pairs")
    asides = {
        "files could not be used": [
            f"{path}: {why}" for path, why in zip(found.left_out["path"], found.left_out["reason"], strict=True)
        ],
        "rows of the table fit no image": [f"{name}: {why}" for name, why in found.split.unmatched],
        "images have no side": list(found.table["path"][found.table["side"] == ""]),
    }
    for what, listed in asides.items():
        if listed:
            lines.append(f"  {len(listed)} {what}:")
            lines += [f"    {plain(one)}" for one in listed[:3]]
            if len(listed) > 3:
                lines.append(f"    and {len(listed) - 3} more: left_out.csv")
    return lines
