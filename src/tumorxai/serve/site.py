"""What all requests of one server share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from jinja2 import Environment, PackageLoader, StrictUndefined

from tumorxai import __version__, config
from tumorxai.base.drawing import data_uri
from tumorxai.explain.attention import NotApplicableError
from tumorxai.explain.methods import METHODS
from tumorxai.inputs import identity
from tumorxai.run.case import FILES, SHOWN, Case, Workspace
from tumorxai.search.index import Hit
from tumorxai.serve import png, uploads
from tumorxai.serve.cases import Cases, Heat, Seen
from tumorxai.serve.decoding import Decoders
from tumorxai.serve.explorer import Explorer
from tumorxai.serve.limits import Limits
from tumorxai.serve.prometheus import Metrics
from tumorxai.serve.refusals import RefusedError
from tumorxai.serve.runs import Results
from tumorxai.serve.work import Work

FILTERS = ("label", "source", "sequence")


@dataclass(frozen=True)
class Site:
    """One server's state.

    Attributes:
        workspace: the run that it shows.
        limits: what it takes on.
        work: its threads.
        decoders: its processes for uploaded files.
        arriving: how much of uploads is in memory.
        cases: images uploaded of late.
        pivots: images of the pack shown of late.
        explorer: tables of the run.
        results: its scores.
        metrics: its counters.
        templates: of the pages.
        methods: of explanation that fit the classifier.
    """

    workspace: Workspace
    limits: Limits
    work: Work
    decoders: Decoders
    arriving: uploads.Arriving
    cases: Cases
    pivots: Cases
    explorer: Explorer
    results: Results
    metrics: Metrics
    templates: Environment
    methods: tuple[str, ...]

    @classmethod
    def of(cls, workspace: Workspace, limits: Limits) -> Site:
        """Open what the requests need, so that nothing is missing when the first one comes.

        Raises:
            UserError: the run lacks its index, is half another run, or a stage is replacing it.
        """
        identity.check_run(workspace.root, SHOWN)
        first = workspace.case(0)
        workspace.predict(first)
        workspace.search(first, 1)
        explorer = Explorer(workspace.root, workspace.dataset, workspace.embeddings, limits.drawn)
        templates = Environment(
            loader=PackageLoader("tumorxai.serve"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        templates.globals |= {
            "version": __version__,
            "backbone": workspace.params.model.backbone,
            "method": config.about(workspace.params.method).title,
            "sources": explorer.values("source"),
            "simulated": "phantom" in explorer.values("source"),
            "minutes": f"{limits.case_seconds / 60:g}",
            "size": workspace.params.data.image_size,
            "classes": workspace.classes,
            "limits": limits,
        }
        results = Results.of(workspace.root)
        workspace.as_opened((*FILES, *SHOWN))
        return cls(
            workspace=workspace,
            limits=limits,
            work=Work(limits),
            decoders=Decoders(workspace.fit, limits),
            arriving=uploads.Arriving(limits),
            cases=Cases(limits.cases, limits.case_seconds),
            pivots=Cases(limits.cases, limits.case_seconds),
            explorer=explorer,
            results=results,
            metrics=Metrics(),
            templates=templates,
            methods=applicable(workspace, first),
        )

    def page(self, template: str, **values: Any) -> str:
        """A page as HTML."""
        return self.templates.get_template(f"{template}.html.j2").render(**values)

    def known(self, image_id: int) -> dict[str, Any]:
        """What is known of an image of the pack.

        Raises:
            RefusedError: there is no such image.
        """
        table = self.explorer.table
        if not 0 <= image_id < len(table):
            raise RefusedError(404, f"got the image {image_id}; expected one of 0 to {len(table) - 1}")
        row = table.iloc[image_id]
        text = {name: str(row[name]) for name in ("label", "source", "sequence", "side", "path", "patient")}
        return {"id": image_id, "group": int(row["group"]), **text}

    def seen(self, case: Case) -> Seen:
        """A case with its prediction."""
        return Seen(case, self.workspace.predict(case))

    def heat(self, seen: Seen, class_name: str) -> list[Heat]:
        """Heat-maps of every method for a class, computed once."""
        if class_name not in seen.maps:
            maps = self.workspace.explain(seen.case, self.methods, class_name)
            seen.maps[class_name] = [
                Heat(METHODS[name].title, data_uri(png.overlay(heat)), bool(heat.max() == heat.min()))
                for name, heat in maps.items()
            ]
        return seen.maps[class_name]

    def similar(self, case: Case, count: int, wanted: Mapping[str, str | None]) -> list[Hit]:
        """The most similar cases that fit the filters; an empty filter is none."""
        label, source, sequence = (wanted.get(name) or None for name in FILTERS)
        return self.workspace.search(case, count, label, source, sequence)


def applicable(workspace: Workspace, case: Case) -> tuple[str, ...]:
    """The methods of the parameters' block ``explain`` that fit the classifier; trying also warms them up."""
    found = []
    for method in workspace.params.explain.methods:
        try:
            workspace.explain(case, [method])
        except NotApplicableError:
            continue
        found.append(method)
    return tuple(found)


def choices(site: Site) -> dict[str, Sequence[str]]:
    """The names that each filter can take."""
    return {name: site.workspace.classes if name == "label" else site.explorer.values(name) for name in FILTERS}


def of_request(request: Request) -> Site:
    """The server's state, for FastAPI's dependencies."""
    site: Site = request.app.state.site
    return site


Served = Annotated[Site, Depends(of_request)]
