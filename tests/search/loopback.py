"""A server on the loopback that speaks the part of Qdrant's REST interface that the search uses.

It is no Qdrant server: the collections are held by the client package's in-memory mode, which is exact. What it tests
is our side of the wire: which requests are sent, with which key, and what follows from every kind of answer.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from pydantic import BaseModel
from qdrant_client import QdrantClient, models

from tests.http_server import LoopbackServer


@dataclass
class Request:
    """What came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Loopback(LoopbackServer):
    """The server, and how it misbehaves.

    Attributes:
        key: the only key that is let in; empty lets everybody in.
        delay: before each answer, seconds.
        uploads: how many upserts are taken before the server fails; None for all.
        metadata: whether it keeps a collection's metadata, as Qdrant does from 1.16 on.
        error: status of every answer, if set, with the headers repeated in the body.
        requests: all that came in.
    """

    key: str = ""
    delay: float = 0.0
    uploads: int | None = None
    metadata: bool = True
    error: int | None = None
    requests: list[Request] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)
    client: QdrantClient = field(default_factory=lambda: QdrantClient(":memory:"))

    def sent(self, method: str, ending: str) -> list[Request]:
        return [request for request in self.requests if request.method == method and request.path.endswith(ending)]

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("content-length", 0))
        body = json.loads(handler.rfile.read(length) or b"{}")
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Request(handler.command, handler.path.split("?")[0], headers, body)
        with self.lock:
            self.requests.append(request)
            status, result = self._answer(request)
        time.sleep(self.delay)
        content = json.dumps({"result": result, "status": "ok", "time": 0.0}).encode()
        with suppress(ConnectionError):  # the other side has run out of patience
            handler.send_response(status)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)

    def _answer(self, request: Request) -> tuple[int, Any]:
        if self.error:
            return self.error, f"refused {request.headers}"
        if self.key and request.headers.get("api-key") != self.key:
            return 401, "Must provide an API key"
        _, _, name, *rest = request.path.split("/")
        exists = self.client.collection_exists(name)
        match request.method, "/".join(rest):
            case "GET", "exists":
                return 200, {"exists": exists}
            case "PUT", "":
                content = models.CreateCollection.model_validate(request.body)
                assert content.vectors is not None
                kept = content.metadata if self.metadata else None
                return 200, self.client.create_collection(name, vectors_config=content.vectors, metadata=kept)
            case _ if not exists:
                return 404, f"Collection `{name}` doesn't exist!"
            case "GET", "":
                return 200, _plain(self.client.get_collection(name))
            case "PUT", "index":
                return 200, {"operation_id": 0, "status": "completed"}
            case "PUT", "points":
                if self.uploads is not None:
                    self.uploads -= 1
                    if self.uploads < 0:
                        return 503, "disk full"
                batch = models.PointsBatch.model_validate(request.body).batch
                return 200, _plain(self.client.upsert(name, batch))
            case "POST", "points/count":
                return 200, _plain(self.client.count(name))
            case "POST", "points/query/batch":
                asked = models.QueryRequestBatch.model_validate(request.body).searches
                exact = [search.model_copy(update={"params": None}) for search in asked]
                return 200, [_plain(answer) for answer in self.client.query_batch_points(name, exact)]
            case "POST", "facet":
                facet = models.FacetRequest.model_validate(request.body)
                return 200, _plain(self.client.facet(name, facet.key, limit=facet.limit or 10))
        raise AssertionError(f"{request.method} {request.path} is no request that the search should send")


def _plain(answer: BaseModel) -> Any:
    return json.loads(answer.model_dump_json())
