"""The curves and confusion matrices of the runs compared, over and beside each other.

What is drawn is what ``dvc plots diff`` would draw: the plots that ``plots/dvc.yaml`` defines. But each is taken from
the runs that made it, once, and bears their short names.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import matplotlib as mpl
import numpy as np
import pandas as pd
import yaml
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from tumorxai.base.drawing import BLACK, PALETTE
from tumorxai.base.protocols import TITLES
from tumorxai.errors import UserError
from tumorxai.inputs.identity import digest
from tumorxai.report.figures import INK, Confusion, blank, confusion, style, svg
from tumorxai.run.compare.entrants import Found, stale
from tumorxai.run.compare.judge import Side
from tumorxai.run.compare.names import labels, unique
from tumorxai.run.compare.revisions import Missing, Revision

DEFINED = "plots/dvc.yaml"
COLOURS = tuple(INK if colour == BLACK else colour for colour in PALETTE)  # black is the page's ink, dark or light
DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)))
SIDES = 3  # test sides whose curves are drawn, those with most classifiers


@dataclass(frozen=True)
class Plot:
    """One picture that ``plots/dvc.yaml`` defines: a column of one file.

    Attributes:
        title: of the definition that it belongs to.
        file: path of a table.
        x: column.
        y: column.
        labels: of the two axes.
        matrix: it is a confusion matrix.
    """

    title: str
    file: str
    x: str
    y: str
    labels: tuple[str, str]
    matrix: bool = False

    @property
    def protocol(self) -> str | None:
        """The protocol whose predictions the file is about, by a folder or the file of that name; None: another."""
        path = PurePosixPath(self.file)
        return next((part for part in (path.stem, *path.parts[:-1]) if part in TITLES), None)


@dataclass
class Line:
    """One content of a plot's file.

    Attributes:
        label: short name of the runs that made it.
        experiments: their names.
        params: what they were run with, as far as they have it in common.
        content: of the file.
        place: among the lines of the picture: the most accurate first.
    """

    label: str
    experiments: list[str]
    params: dict[str, str]
    content: bytes
    place: int = 0


@dataclass(frozen=True)
class Chart:
    """Curves over each other.

    Attributes:
        title: what is drawn.
        svg: the picture.
        legend: colour, dash (of DASHES), name and experiments of each curve.
        summary: for those who cannot see the picture.
        more: how many curves are not drawn.
    """

    title: str
    svg: Markup
    legend: list[tuple[str, int, str, str]]
    summary: str
    more: int


@dataclass
class Group:
    """What one definition of ``plots/dvc.yaml`` became.

    Attributes:
        title: of the definition.
        charts: its curves.
        matrices: its confusion matrices: title, name, experiments and table.
        more: how many matrices are not shown.
    """

    title: str
    charts: list[Chart] = field(default_factory=list)
    matrices: list[tuple[str, str, str, Confusion]] = field(default_factory=list)
    more: int = 0


def plots(text: str) -> tuple[list[Plot], list[str]]:
    """The plots that ``plots/dvc.yaml`` defines, and the names of those that are of another form.

    Raises:
        UserError: the text is not valid YAML.
    """
    found: list[Plot] = []
    unknown: list[str] = []
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(
            f"{DEFINED}: got {error}; expected YAML; correct it, or restore it with `git checkout {DEFINED}`"
        ) from None
    defined = (content or {}).get("plots") or []
    listed = [defined] if isinstance(defined, Mapping) else defined
    entries = [{each: None} if isinstance(each, str) else each for each in listed]
    for name, given in ((name, given) for entry in entries for name, given in entry.items()):
        own = given or {}
        x, y = own.get("x"), own.get("y")
        if not isinstance(x, str) or not isinstance(y, Mapping):
            unknown.append(str(name))
            continue
        for file, columns in y.items():
            for column in [columns] if isinstance(columns, str) else columns:
                axes = str(own.get("x_label", x)), str(own.get("y_label", column))
                matrix = own.get("template") == "confusion"
                place = (PurePosixPath(DEFINED).parent / file).as_posix()
                found.append(Plot(str(own.get("title", name)), place, x, column, axes, matrix))
    return found, unknown


def _title(plot: Plot, alone: bool) -> str:
    """What tells a picture from the others of its definition."""
    path = PurePosixPath(plot.file)
    first = TITLES[plot.protocol] if plot.protocol else "" if alone else plot.y.replace("_", " ")
    return first or path.stem.replace("_", " ")


def lines(plot: Plot, revisions: Sequence[Revision], found: Found, side: Side | None, missing: Missing) -> list[Line]:
    """The distinct contents of a plot's file.

    Args:
        plot: of what.
        revisions: where to look.
        found: which classifier each revision has.
        side: the test side that the plot is about; None: it is about no classifier's predictions.
        missing: where it is noted what is left out.
    """
    by_content: dict[str, Line] = {}
    places = {entrant.key: place for place, entrant in enumerate(side.entrants)} if side else {}
    for number, revision in enumerate(revisions):
        if (stage := revision.lock.producer(plot.file)) is None:
            continue
        label, params, place = "", revision.lock.params(stage), number
        if side is not None:
            key = found.kept.get((number, plot.protocol or ""))
            if key is None or key not in places:
                continue
            place = places[key]
            label, params = side.entrants[place].label, side.entrants[place].params
        if revision.lock.changed(stage):
            stale(revision, [stage.name], missing)
            continue
        try:
            content = revision.read(plot.file)
        except FileNotFoundError:
            missing.add(revision.name, "plots that are not in the cache are not drawn; `dvc pull` may fetch them")
            continue
        if content is None:
            continue
        known = by_content.setdefault(digest(content), Line(label, [], dict(params), content, place))
        known.params = {name: value for name, value in known.params.items() if params.get(name) == value}
        if revision.name not in known.experiments:
            known.experiments.append(revision.name)
        if label not in known.label.split("; "):
            known.label = "; ".join(filter(None, (known.label, label)))
    own = sorted(by_content.values(), key=lambda line: line.place)
    every = [line.experiments for line in own]
    if side is None:
        called = labels([line.params for line in own], every)
    else:
        called = unique([line.label for line in own], every)
    for line, name in zip(own, called, strict=True):
        line.label = name or line.experiments[0]
    return own


def chart(plot: Plot, title: str, name: str, own: Sequence[Line], missing: Missing) -> Chart | None:
    """Draw curves over each other; None: there is nothing to draw.

    Args:
        plot: which columns.
        title: of the picture.
        name: unique in the page.
        own: at most as many as there are colours are drawn, the first ones.
        missing: where it is noted what cannot be read.
    """
    legend: list[tuple[str, int, str, str]] = []
    courses, whole = [], True
    with mpl.rc_context(style(name)):
        figure, axes = blank()
        for line in own:
            if len(legend) == len(COLOURS):
                break
            try:
                table = pd.read_csv(io.BytesIO(line.content), sep="\t" if plot.file.endswith(".tsv") else ",")
                x, y = (pd.to_numeric(table[column]).to_numpy(np.float64) for column in (plot.x, plot.y))
            except (ValueError, KeyError):
                missing.add(", ".join(line.experiments), f"{plot.file} has no numbers {plot.y} over {plot.x}")
                continue
            if not len(x):
                continue
            colour, dash = COLOURS[len(legend)], len(legend) % len(DASHES)
            whole &= bool((x == x.round()).all())
            axes.plot(x, y, color=colour, linestyle=DASHES[dash], linewidth=1.7, marker="." if len(x) < 10 else "")
            shown = "currentColor" if colour == INK else colour
            legend.append((shown, dash, line.label, " ".join(line.experiments)))
            courses.append(f"{line.label} from {y[0]:.4g} to {y[-1]:.4g}")
        if whole:  # epochs
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=plot.labels[0], ylabel=plot.labels[1].replace("_", " "))
        drawn = svg(figure) if legend else None
    if drawn is None:
        return None
    return Chart(title, drawn, legend, f"{title}: {'; '.join(courses)}", len(own) - len(legend))


def draw(
    text: str, revisions: Sequence[Revision], found: Found, sides: Sequence[Side], missing: Missing
) -> list[Group]:
    """All pictures.

    Args:
        text: of ``plots/dvc.yaml``.
        revisions: which are compared.
        found: which classifier each has.
        sides: the test sides; the curves of the first SIDES are drawn.
        missing: where it is noted what is left out.
    """
    defined, unknown = plots(text)
    for name in unknown:
        missing.add(DEFINED, f"the plot {name!r} is not drawn: its x is no column, or its y no files with columns")
    groups: dict[str, Group] = {}
    for number, plot in enumerate(defined):
        group = groups.setdefault(plot.title, Group(plot.title))
        files = {each.file for each in defined if each.title == plot.title}
        about: Sequence[Side | None] = [None] if plot.protocol is None else sides[:SIDES]
        for place, side in enumerate(about):
            title = _title(plot, alone=len(files) == sum(each.title == plot.title for each in defined))
            if side is not None and len(sides) > 1:
                title += f", test side {side.name}"
            own = lines(plot, revisions, found, side, missing)
            if plot.matrix:
                group.more += max(len(own) - len(COLOURS), 0)
                for line in own[: len(COLOURS)]:
                    try:
                        table = confusion(io.BytesIO(line.content))
                    except (KeyError, ValueError):
                        missing.add(" ".join(line.experiments), f"{plot.file} holds no pairs of classes")
                        continue
                    group.matrices.append((title, line.label, " ".join(line.experiments), table))
            elif (made := chart(plot, title, f"chart-{number}-{place}", own, missing)) is not None:
                group.charts.append(made)
    return [group for group in groups.values() if group.charts or group.matrices]
