"""The pages: plain forms and links, which a script makes more comfortable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from tumorxai.archives.archives import UnreadableError
from tumorxai.base.drawing import data_uri
from tumorxai.errors import known as checked
from tumorxai.search.retrieval import spread
from tumorxai.serve import api, png, runs
from tumorxai.serve.cases import Seen
from tumorxai.serve.explorer import COLOURS
from tumorxai.serve.refusals import RefusedError, unreadable
from tumorxai.serve.site import FILTERS, Served, Site, choices

SIMILAR = 10  # cases on a page
EXAMPLES = 8
GROUPS, SHOWN, ROWS = 20, 12, 40  # groups on a page, images of each; rows of a table
WIDTH, HEIGHT = 800, 600  # of the map, in the units of its drawing
SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.5-3.5H3.5V3.5H-3.5z",
    "M0-4.6 4.4 3.4H-4.4z",
    "M0-5 5 0 0 5-5 0z",
)

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
Text = Annotated[str, Query(max_length=200)]
Page = Annotated[int, Query(ge=1, le=10**6)]


def home(site: Site, sentence: str = "") -> str:
    """The first page, with a sentence where something went wrong."""
    workspace, table = site.workspace, site.explorer.table
    test = workspace.dataset.indices("test")
    labels = table["label"].to_numpy(dtype=str)[test]
    found = next((model for model in site.results.models if model.protocol == "finetune"), None)
    return site.page(
        "home",
        section="/",
        verdict=site.results.verdict,
        sentence=sentence[:1].upper() + sentence[1:],
        trained=int((table["side"] == "train").sum()),
        searched=len(workspace.index),
        accuracy=found and found.scores["accuracy"],
        examples=[site.known(int(test[place])) for place in spread(labels, EXAMPLES, workspace.params.seed)],
    )


@router.get("/")
async def show_home(site: Served) -> str:
    """Choose an image."""
    return home(site)


@router.post("/cases")
async def take(site: Served, request: Request) -> Response:
    """Look at an uploaded image, then show its page."""
    try:
        case = await api.uploaded(site, request)
    except RefusedError as error:
        return HTMLResponse(home(site, error.sentence), error.status)
    except UnreadableError as error:
        return HTMLResponse(home(site, unreadable(error)), 422)
    token = site.cases.put(await site.work.run(site.seen, case))
    return RedirectResponse(f"/cases/{token}", 303)


@router.get("/cases/{token}")
async def show_case(
    site: Served, token: str, class_name: Text = "", label: Text = "", source: Text = "", sequence: Text = ""
) -> str:
    """The results for an uploaded image."""
    seen = site.cases.get(token)
    if seen is None:
        raise RefusedError(
            404,
            "got a case that is no longer there; uploaded images are forgotten after "
            f"{site.limits.case_seconds / 60:g} minutes, or when many others came; upload it again",
        )
    wanted = {"label": label, "source": source, "sequence": sequence}
    return await results(site, seen, class_name, wanted)


@router.get("/images/{image_id:int}")
async def show_image(
    site: Served, image_id: int, class_name: Text = "", label: Text = "", source: Text = "", sequence: Text = ""
) -> str:
    """The results for an image of the run."""
    site.known(image_id)
    seen = site.pivots.get(str(image_id))
    if seen is None:
        case = await site.work.run(site.workspace.case, image_id)
        seen = await site.work.run(site.seen, case)
        site.pivots.put(seen, str(image_id))
    wanted = {"label": label, "source": source, "sequence": sequence}
    return await results(site, seen, class_name, wanted)


async def results(site: Site, seen: Seen, class_name: str, wanted: dict[str, str]) -> str:
    """The page of one image."""
    said, image_id = seen.prediction, seen.case.image_id
    explained = checked("class", class_name or said.predicted, site.workspace.classes)
    maps = await site.work.run(site.heat, seen, explained)
    hits = await site.work.run(site.similar, seen.case, SIMILAR, wanted)
    shares = sorted(said.probabilities.items(), key=lambda each: -each[1])
    return site.page(
        "case",
        section="/",
        heading="Your image" if image_id is None else f"Image {image_id}",
        known=None if image_id is None else site.known(image_id),
        copy=said.copy_of and site.known(said.copy_of.image_id),
        prediction=said,
        temperature=site.workspace.temperature,
        shares=shares,
        picture=data_uri(seen.case.png()),
        explained=explained,
        class_name=class_name,
        maps=maps,
        scale=png.scale(),
        filters={name: wanted[name] for name in FILTERS},
        choices=choices(site),
        hits=[
            {"id": hit.image_id, "distance": 1 - hit.similarity, **{n: str(hit.payload[n]) for n in FILTERS}}
            for hit in hits
        ],
        agreeing=sum(hit.payload["label"] == said.predicted for hit in hits),
    )


@router.get("/images/{image_id:int}.png")
async def thumbnail(site: Served, image_id: int) -> Response:
    """An image of the run."""
    site.known(image_id)
    content = site.workspace.thumbnail(image_id)
    return Response(content, media_type="image/png", headers={"cache-control": "private, max-age=600"})


@router.get("/explore")
async def explore(site: Served, colour: Text = "label", only: Text | None = None) -> str:
    """The map of the embeddings."""
    checked("colour", colour, COLOURS)
    flat = await site.work.run(site.explorer.map)
    drawn = site.explorer.table.iloc[flat.ids]
    values, counts = np.unique(drawn[colour].to_numpy(dtype=str), return_counts=True)
    number = {str(value): place for place, value in enumerate(values)}
    legend = [
        {"value": value, "number": place, "shape": SHAPES[place % len(SHAPES)], "count": int(count)}
        for (value, place), count in zip(number.items(), counts, strict=True)
    ]
    dots = []
    rows = zip(*(drawn[name] for name in ("label", "source", "sequence", "side", colour)), strict=True)
    for image, (x, y), (label, source, sequence, side, value) in zip(
        flat.ids.tolist(), flat.places.tolist(), rows, strict=True
    ):
        place = number[value]
        dots.append(
            {
                "id": image,
                "x": f"{WIDTH * x:.1f}",
                "y": f"{HEIGHT * (1 - y):.1f}",
                "number": place,
                "shape": SHAPES[place % len(SHAPES)],
                "dim": only is not None and value != only,
                "text": ", ".join(filter(None, (label, source, sequence, side))),
            }
        )
    summary = ", ".join(f"{entry['count']} {entry['value'] or 'unknown'}" for entry in legend)
    return site.page(
        "explore",
        section="/explore",
        flat=flat,
        colours=COLOURS,
        colour=colour,
        only=only,
        legend=legend,
        dots=sorted(dots, key=lambda dot: not dot["dim"]),
        summary=f"{len(dots)} images by {COLOURS[colour]}: {summary}",
    )


def part(rows: Sequence[Any], page: int, length: int) -> dict[str, Any]:
    """One page of a list, the last one where there are not so many."""
    last = max(1, math.ceil(len(rows) / length))
    page = min(page, last)
    return {"rows": rows[(page - 1) * length : page * length], "page": page, "last": last, "total": len(rows)}


@router.get("/explore/copies")
async def show_copies(site: Served, page: Page = 1) -> str:
    """Groups of copies."""
    every = site.explorer.copies
    shown = part(every, page, GROUPS)
    groups, images = shown.pop("rows"), sum(len(each.ids) for each in every)
    return site.page("copies", section="/explore", groups=groups, images=images, shown=SHOWN, **shown)


@router.get("/explore/labels")
async def show_labels(site: Served, page: Page = 1) -> str:
    """Suspected labels."""
    accuracy, shown = site.results.out_of_fold_accuracy, part(site.explorer.suspects, page, ROWS)
    return site.page("labels", section="/explore", accuracy=accuracy, **shown)


@router.get("/explore/quarantine")
async def show_quarantine(site: Served, page: Page = 1) -> str:
    """Files that were left out."""
    return site.page("quarantine", section="/explore", **part(site.explorer.quarantine, page, ROWS))


@router.get("/runs")
async def show_runs(site: Served) -> str:
    """Scores and leaderboard."""
    board = runs.leaderboard(site.workspace.root)
    return site.page("runs", section="/runs", models=site.results.models, board=board, scores=runs.SCORES)


@router.get("/api")
async def show_api(site: Served, request: Request) -> str:
    """The API for people."""
    return site.page("api", section="/api", openapi=request.app.openapi(), base=str(request.base_url).rstrip("/"))
