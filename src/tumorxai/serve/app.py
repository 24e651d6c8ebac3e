"""The application: pages, JSON API, health and metrics, around one run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from threadpoolctl import threadpool_limits

from tumorxai import __version__
from tumorxai.archives.archives import UnreadableError
from tumorxai.errors import ChangedError, UserError
from tumorxai.run.case import Workspace
from tumorxai.serve import api, pages
from tumorxai.serve.guard import Guard
from tumorxai.serve.limits import Limits
from tumorxai.serve.refusals import SENTENCES, RefusedError, unreadable
from tumorxai.serve.site import Served, Site, choices

STATIC = Path(__file__).parent / "static"
DESCRIPTION = "Class probabilities, heat-maps and similar cases of a brain MRI. Research use only, not for diagnosis."


def create(workspace: Workspace, limits: Limits | None = None) -> FastAPI:
    """The application for one run.

    Args:
        workspace: the run; its index stays open until the application ends.
        limits: what the server takes on; by default what :class:`Limits` says.

    Raises:
        UserError: the run lacks its index, or a stage is replacing it.
    """
    limits = limits or Limits()
    site = Site.of(workspace, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        site.decoders.start()
        with threadpool_limits(1, "blas"):  # the workers are as many as the cores
            yield
        site.decoders.close()
        site.work.close()
        workspace.close()

    def answer(request: Request, status: int, sentence: str) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": sentence}, status)
        shown = sentence[:1].upper() + sentence[1:]
        return HTMLResponse(site.page("error", section="", status=status, sentence=shown), status)

    app = FastAPI(
        title="TumorXAI",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url="/api/openapi.json",
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.site = site

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        response = answer(request, error.status, error.sentence)
        if error.status == 503:
            response.headers["retry-after"] = "5"
        return response

    @app.exception_handler(UserError)
    async def mistaken(request: Request, error: UserError) -> Response:
        return answer(request, 422, str(error))

    @app.exception_handler(ChangedError)
    async def replaced(request: Request, error: ChangedError) -> Response:
        return answer(request, 503, str(error))

    @app.exception_handler(UnreadableError)
    async def not_readable(request: Request, error: UnreadableError) -> Response:
        return answer(request, 422, unreadable(error))

    @app.exception_handler(RequestValidationError)
    async def not_valid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name, message = first["loc"][-1], str(first["msg"])
        return answer(request, 422, f"{name}: got {str(first['input'])[:80]!r}; {message[:1].lower()}{message[1:]}")

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        response = answer(request, error.status_code, SENTENCES.get(error.status_code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response

    app.include_router(api.router)
    app.include_router(pages.router)
    app.add_api_route("/health", health, include_in_schema=False)
    app.add_api_route("/metrics", metrics, include_in_schema=False, response_class=PlainTextResponse)
    app.mount("/static", StaticFiles(directory=STATIC))
    describe(app, {**choices(site), "class_name": workspace.classes, "methods": site.methods})
    app.add_middleware(Guard, limits=limits, metrics=site.metrics, answer=answer)
    return app


def describe(app: FastAPI, names: Mapping[str, Sequence[str]]) -> None:
    """Tell in the schema which names the parameters take: those of this run."""
    for path in app.openapi()["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in names:
                    one = {"type": "string", "enum": list(names[parameter["name"]])}
                    several = parameter["schema"].get("type") == "array"
                    parameter["schema"] = {**parameter["schema"], "items": one} if several else one


async def health(site: Served) -> dict[str, str]:
    """Whether the server answers."""
    return {"status": "ok", "encoder": site.workspace.fingerprint[:12]}


async def metrics(site: Served) -> str:
    """Counters for Prometheus."""
    return site.metrics.text(
        {
            "tumorxai_work_pending": site.work.pending,
            "tumorxai_cases_in_memory": len(site.cases),
        }
    )
