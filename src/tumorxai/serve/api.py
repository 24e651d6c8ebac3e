"""The JSON API."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Path, Query, Request
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel

from tumorxai.explain.methods import METHODS
from tumorxai.run import case as cases
from tumorxai.search.index import Hit
from tumorxai.serve import png, runs, uploads
from tumorxai.serve.site import Served, Site, choices

PAGE = 100  # rows of a list in one answer


class Error(BaseModel):
    """Why a request was refused."""

    error: str


class Run(BaseModel):
    """What is served."""

    classes: list[str]
    sources: list[str]
    sequences: list[str]
    methods: list[str]
    images: int
    image_size: int
    channels: int
    backbone: str
    pretraining: str
    temperature: float
    simulated: bool


class Copy(BaseModel):
    """An image of the run that the asked one duplicates."""

    image_id: int
    side: str
    orientation: str
    correlation: float


class Prediction(BaseModel):
    """What the classifier says, and what speaks against believing it."""

    predicted: str
    probabilities: dict[str, float]
    distance: float
    threshold: float | None
    percentile: float | None
    unlike: bool
    copy_of: Copy | None


class HeatMap(BaseModel):
    """A map as a grey PNG in base64, 255 where there is most evidence."""

    method: str
    explained: str
    flat: bool
    png: str


class Similar(BaseModel):
    """A similar case; the distance is 1 - similarity."""

    image_id: int
    similarity: float
    distance: float
    label: str
    source: str
    sequence: str
    side: str


class CaseAnswer(BaseModel):
    """All about one image."""

    prediction: Prediction
    maps: list[HeatMap]
    similar: list[Similar]


class Known(BaseModel):
    """What is known of an image of the run."""

    image_id: int
    label: str
    source: str
    sequence: str
    side: str
    group: int
    path: str


class Point(BaseModel):
    """An image on the map of the embeddings."""

    image_id: int
    x: float
    y: float


class MapAnswer(BaseModel):
    """The map; places are in [0, 1]."""

    kind: Literal["t-SNE", "principal components"]
    total: int
    points: list[Point]


class CopyGroup(BaseModel):
    """Images that are copies of each other."""

    group: int
    ids: list[int]
    labels: list[str]
    sides: list[str]
    kinds: list[str]


class Suspect(BaseModel):
    """An image whose label is likely wrong."""

    image_id: int
    label: str
    suggested: str
    p_label: float
    p_suggested: float


class Quarantined(BaseModel):
    """A file that could not be used."""

    source: str
    path: str
    reason: str


class ModelScores(BaseModel):
    """A model's test scores, each with its 95% interval."""

    protocol: str
    name: str
    images: int
    scores: dict[str, runs.Scored]


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "A form that cannot be read, several files, or a foreign Host header"},
    403: {"model": Error, "description": "A request from another site"},
    404: {"model": Error, "description": "No such image"},
    408: {"model": Error, "description": "The file took too long"},
    413: {"model": Error, "description": "The file is too large"},
    415: {"model": Error, "description": "No form"},
    422: {"model": Error, "description": "No image, or a name or number that does not exist"},
    503: {"model": Error, "description": "Too much is waiting, or the run was changed"},
    504: {"model": Error, "description": "It took too long"},
}
FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {uploads.FIELD: {"type": "string", "format": "binary"}},
                    "required": [uploads.FIELD],
                },
                "encoding": {uploads.FIELD: {"contentType": "image/png, image/jpeg"}},
            }
        },
    }
}


def method_name(name: str) -> str:
    """The name of a method of explanation, checked."""
    if name not in METHODS:
        raise ValueError(f"expected one of {', '.join(METHODS)}")
    return name


router = APIRouter(prefix="/api", responses=ERRORS)

Name = Annotated[str | None, Query(min_length=1, max_length=200)]
Count = Annotated[int, Query(ge=1, le=50)]
Method = Annotated[str, AfterValidator(method_name)]
Methods = Annotated[list[Method], Query(default_factory=lambda: ["grad_cam"], max_length=len(METHODS))]
ImageId = Annotated[int, Path(ge=0)]
Offset = Annotated[int, Query(ge=0, le=10**9)]


def narrowed(label: Name = None, source: Name = None, sequence: Name = None) -> dict[str, str | None]:
    """What similar cases must be of."""
    return {"label": label, "source": source, "sequence": sequence}


Wanted = Annotated[dict[str, str | None], Depends(narrowed)]


async def uploaded(site: Site, request: Request) -> cases.Case:
    """The image of a request."""
    with site.arriving.body() as count:
        content = await uploads.read(request, site.limits, count)
        return cases.Case(*await site.decoders.decode(content))


def predicted(found: cases.Prediction) -> Prediction:
    """A prediction for an answer."""
    copy = found.copy_of
    return Prediction(
        predicted=found.predicted,
        probabilities=found.probabilities,
        distance=found.distance,
        threshold=found.threshold,
        percentile=found.percentile,
        unlike=found.unlike,
        copy_of=copy
        and Copy(
            image_id=copy.image_id, side=copy.side, orientation=copy.orientation, correlation=float(copy.correlation)
        ),
    )


def drawn(maps: dict[str, NDArray[np.float32]], explained: str) -> list[HeatMap]:
    """Maps for an answer."""
    return [
        HeatMap(
            method=method,
            explained=explained,
            flat=bool(heat.max() == heat.min()),
            png=base64.b64encode(png.grey(heat)).decode("ascii"),
        )
        for method, heat in maps.items()
    ]


def listed(hits: Sequence[Hit]) -> list[Similar]:
    """Similar cases for an answer."""
    return [
        Similar(
            image_id=hit.image_id,
            similarity=hit.similarity,
            distance=1 - hit.similarity,
            **{name: str(hit.payload[name]) for name in ("label", "source", "sequence", "side")},
        )
        for hit in hits
    ]


def whole(
    site: Site, case: cases.Case, methods: Sequence[str], class_name: str | None, count: int, wanted: dict[str, Any]
) -> CaseAnswer:
    """Everything about one image."""
    said = site.workspace.predict(case)
    explained = class_name or said.predicted
    maps = site.workspace.explain(case, methods, explained)
    hits = site.similar(case, count, wanted)
    return CaseAnswer(prediction=predicted(said), maps=drawn(maps, explained), similar=listed(hits))


@router.get("/run", summary="What is served: classes, sources, methods of explanation")
async def run(site: Served) -> Run:
    """The run behind this server."""
    params = site.workspace.params
    names = choices(site)
    return Run(
        classes=list(site.workspace.classes),
        sources=list(names["source"]),
        sequences=list(names["sequence"]),
        methods=list(site.methods),
        images=len(site.explorer.table),
        image_size=params.data.image_size,
        channels=params.data.channels,
        backbone=params.model.backbone,
        pretraining=params.method,
        temperature=site.workspace.temperature,
        simulated="phantom" in names["source"],
    )


@router.post("/predict", summary="Class probabilities of an image", openapi_extra=FORM)
async def predict(site: Served, request: Request) -> Prediction:
    """Calibrated probabilities, the distance to the training images and a copy in the data."""
    case = await uploaded(site, request)
    return predicted(await site.work.run(site.workspace.predict, case))


@router.post("/explain", summary="Heat-maps of an image", openapi_extra=FORM)
async def explain(site: Served, request: Request, methods: Methods, class_name: Name = None) -> list[HeatMap]:
    """Heat-maps for a class, by default the predicted one."""
    case = await uploaded(site, request)

    def work() -> list[HeatMap]:
        explained = class_name or site.workspace.predict(case).predicted
        return drawn(site.workspace.explain(case, methods, explained), explained)

    return await site.work.run(work)


@router.post("/search", summary="Cases similar to an image", openapi_extra=FORM)
async def search(site: Served, request: Request, wanted: Wanted, count: Count = 10) -> list[Similar]:
    """The most similar cases, copies of the image and of its patient left out."""
    case = await uploaded(site, request)
    return listed(await site.work.run(site.similar, case, count, wanted))


@router.post("/case", summary="All of these at once", openapi_extra=FORM)
async def whole_case(
    site: Served,
    request: Request,
    methods: Methods,
    wanted: Wanted,
    class_name: Name = None,
    count: Count = 10,
) -> CaseAnswer:
    """Prediction, heat-maps and similar cases of an uploaded image."""
    case = await uploaded(site, request)
    return await site.work.run(whole, site, case, methods, class_name, count, wanted)


@router.get("/images/{image_id}", summary="What is known of an image of the run")
async def known(site: Served, image_id: ImageId) -> Known:
    """Label, source, sequence, side, group and file of an image."""
    found = site.known(image_id)
    return Known(image_id=found.pop("id"), **{name: found[name] for name in Known.model_fields if name in found})


@router.get("/images/{image_id}/case", summary="All about an image of the run, which is how a search goes on")
async def pivot(
    site: Served,
    image_id: ImageId,
    methods: Methods,
    wanted: Wanted,
    class_name: Name = None,
    count: Count = 10,
) -> CaseAnswer:
    """Prediction, heat-maps and similar cases of an image of the run."""
    site.known(image_id)
    case = await site.work.run(site.workspace.case, image_id)
    return await site.work.run(whole, site, case, methods, class_name, count, wanted)


@router.get("/map", summary="The images on a plane, similar ones near each other")
async def plane(site: Served) -> MapAnswer:
    """Places of the images; of principal components until t-SNE has been computed."""
    flat = await site.work.run(site.explorer.map)
    points = [
        Point(image_id=image, x=round(x, 4), y=round(y, 4))
        for image, (x, y) in zip(flat.ids.tolist(), flat.places.tolist(), strict=True)
    ]
    return MapAnswer(kind=flat.kind, total=flat.total, points=points)


@router.get("/copies", summary="Groups of copies, a hundred at a time")
async def copies(site: Served, offset: Offset = 0) -> list[CopyGroup]:
    """Groups of images that are copies of each other."""
    return [CopyGroup(**vars(each)) for each in site.explorer.copies[offset : offset + PAGE]]


@router.get("/suspects", summary="Suspected labels, a hundred at a time")
async def suspects(site: Served, offset: Offset = 0) -> list[Suspect]:
    """Images whose label is likely wrong, the least likely label first."""
    rows = site.explorer.suspects[offset : offset + PAGE]
    return [Suspect(**{name: row[name] for name in Suspect.model_fields}) for row in rows]


@router.get("/quarantine", summary="Files left out, a hundred at a time")
async def quarantine(site: Served, offset: Offset = 0) -> list[Quarantined]:
    """Files that could not be used, with the reason."""
    rows = site.explorer.quarantine[offset : offset + PAGE]
    return [Quarantined(**{name: row[name] for name in Quarantined.model_fields}) for row in rows]


@router.get("/scores", summary="Test scores of the run's models")
async def scores(site: Served) -> list[ModelScores]:
    """Scores with 95% intervals, the most accurate model first."""
    return [ModelScores(**vars(model)) for model in site.results.models]
