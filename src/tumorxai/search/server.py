"""A Qdrant server: reaching it, and filling a collection that is never asked before it is whole.

A collection is named after its encoder and its content. Indexing the same embeddings again therefore finds it and sends
nothing, an interrupted upload is completed under the same name, and the indexes of experiments stand side by side. Only
a finished upload is entered in ``models/index/server.json``, which is what an index is opened by.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from tqdm import tqdm

from tumorxai.config import Search
from tumorxai.errors import UserError
from tumorxai.files import read_json, write_json
from tumorxai.search.hits import FILTERS, Cases, Hit, Wanted

SERVER = "server.json"  # stands in the index's folder where a server has the cases
KEY = "QDRANT_API_KEY"
BATCH = 256  # cases of one request: some megabytes of JSON; Qdrant refuses more than 32
PATIENCE = 600.0  # longest wait for the graph of neighbours, seconds
ASKED = 128  # questions of one request
KEPT = 200  # characters of the server's own words in a message


def _key(url: str) -> str:
    """The key for ``url``; empty where none is set. It stands in no message."""
    key = os.environ.get(KEY, "").strip()
    if not key.isascii() or not key.isprintable():
        raise UserError(f"got a {KEY} with characters that no key has; expected plain ASCII; set it anew")
    parts = urlsplit(url)
    if key and parts.scheme == "http" and not _loopback(parts.hostname or ""):
        raise UserError(
            f"got a {KEY} and search.url {url}; expected https, or anybody on the way could read the key; use https, "
            "or a tunnel to localhost"
        )
    return key


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def connect(settings: Search) -> QdrantClient:
    """A client of the server ``settings.url``; nothing is sent yet.

    Raises:
        UserError: the key is malformed, or would go over the network in clear.
    """
    key = _key(settings.url)
    return QdrantClient(
        url=settings.url,
        timeout=settings.timeout,
        headers={"api-key": key} if key else None,
        check_compatibility=False,  # a request of its own, in a thread, that only warns
    )


@contextmanager
def answers(url: str) -> Iterator[None]:
    """Turn whatever goes wrong between here and the server into one :class:`UserError`."""
    try:
        yield
    except ResponseHandlingException as error:
        raise UserError(
            f"got no answer from the Qdrant server {url} ({type(error.source).__name__}: {error.source}); expected one "
            "within search.timeout; start the server, correct search.url, or empty it for the embedded index"
        ) from None
    except UnexpectedResponse as error:
        if error.status_code in (401, 403):
            raise UserError(
                f"got {error.status_code} from the Qdrant server {url}; expected to be let in; set {KEY} to a key "
                "that may do this"
            ) from None
        words = error.content.decode("utf-8", errors="replace")
        if key := os.environ.get(KEY, "").strip():
            words = words.replace(key, "…")
        raise UserError(
            f"got {error.status_code} from the Qdrant server {url}: {words[:KEPT]}; expected an answer; look at the "
            "server's log"
        ) from None


def collection(cases: Cases, settings: Search) -> str:
    """Name of the collection that holds exactly this: equal names, equal answers."""
    built = [
        cases.fingerprint,
        list(cases.vectors.shape),
        cases.payloads,
        settings.hnsw.model_dump(exclude={"ef"}),
        settings.quantisation.model_dump(exclude={"oversampling"}),
    ]
    content = hashlib.sha256(json.dumps(built, sort_keys=True).encode())
    content.update(np.ascontiguousarray(cases.vectors, dtype=np.float32).tobytes())
    content.update(np.ascontiguousarray(cases.ids, dtype=np.int64).tobytes())
    return f"tumorxai-{cases.fingerprint[:16]}-{content.hexdigest()[:16]}"


def _quantisation(settings: Search) -> models.ScalarQuantization | None:
    if settings.quantisation.kind == "none":
        return None
    scalar = models.ScalarQuantizationConfig(
        type=models.ScalarType.INT8, quantile=settings.quantisation.quantile, always_ram=True
    )
    return models.ScalarQuantization(scalar=scalar)


def _asking(settings: Search) -> models.SearchParams:
    """How the server looks for neighbours: breadth in the graph, and how many candidates are compared in full."""
    quantised = settings.quantisation.kind != "none"
    again = models.QuantizationSearchParams(rescore=True, oversampling=settings.quantisation.oversampling)
    return models.SearchParams(hnsw_ef=settings.hnsw.ef, quantization=again if quantised else None)


def fill(path: Path, cases: Cases, settings: Search) -> None:
    """Make sure that the server holds the collection, whole, and write into ``path`` which one it is.

    Raises:
        UserError: the server cannot be used, or does not take all cases.
    """
    name = collection(cases, settings)
    client = connect(settings)
    try:
        with answers(settings.url):
            _send(client, name, cases, settings)
    finally:
        client.close()
    path.mkdir()
    write_json(path / SERVER, {"collection": name, "cases": len(cases.ids), "search": settings.model_dump()})


def _send(client: QdrantClient, name: str, cases: Cases, settings: Search) -> None:
    if client.collection_exists(name):
        if client.count(name, exact=True).count == len(cases.ids):
            return
    else:
        client.create_collection(
            name,
            vectors_config=models.VectorParams(size=cases.vectors.shape[1], distance=models.Distance.COSINE),
            hnsw_config=models.HnswConfigDiff(m=settings.hnsw.m, ef_construct=settings.hnsw.ef_construct),
            quantization_config=_quantisation(settings),
            metadata={"encoder": cases.fingerprint},
        )
    for key in FILTERS:  # before the cases, so that the graph is built with them in mind
        client.create_payload_index(name, key, models.PayloadSchemaType.KEYWORD)
    for start in tqdm(range(0, len(cases.ids), BATCH), "cases to Qdrant", disable=None, leave=False):
        part = slice(start, start + BATCH)
        batch = models.Batch(
            ids=cases.ids[part].tolist(), vectors=cases.vectors[part].tolist(), payloads=cases.payloads[part]
        )
        client.upsert(name, batch, wait=True)
    stored = client.count(name, exact=True).count
    if stored != len(cases.ids):
        raise UserError(
            f"got {stored} cases in the collection {name} after sending {len(cases.ids)}; expected all of them; has "
            "another run written to it? run again"
        )
    _settle(client, name)


def _settle(client: QdrantClient, name: str) -> None:
    """Wait until the graph is built: before that, answers are right but slow, and its recall would not be measured."""
    end = time.monotonic() + PATIENCE
    while client.get_collection(name).status != models.CollectionStatus.GREEN and time.monotonic() < end:
        time.sleep(0.5)


class Remote:
    """A collection on a server, opened for questions.

    Args:
        path: folder that :func:`fill` wrote.

    Raises:
        UserError: it does not say where the cases are; the server does not answer, or has lost some of them.
    """

    def __init__(self, path: Path) -> None:
        try:
            content = read_json(path / SERVER)
            self._name, cases = str(content["collection"]), int(content["cases"])
            settings = Search.model_validate(content["search"])
        except (ValueError, KeyError, TypeError):  # JSON's and pydantic's errors are ValueErrors
            raise UserError(
                f"got a {path / SERVER} that does not say where the index is; expected one from an earlier stage; run "
                "`dvc repro --force search`"
            ) from None
        self._url, self._params = settings.url, _asking(settings)
        self._client = connect(settings)
        try:
            with answers(self._url):
                whole = self._client.collection_exists(self._name) and len(self) == cases
            if not whole:
                raise UserError(
                    f"got no collection {self._name} of {cases} cases on {self._url}; expected the one that an earlier "
                    "stage filled; run `dvc repro --force search`"
                )
            with answers(self._url):
                about = self._client.get_collection(self._name).config.metadata or {}
            if "encoder" not in about:
                raise UserError(
                    f"got an index in {path} that does not say which encoder filled it; expected its fingerprint, "
                    "which Qdrant keeps from version 1.16 on; update the server and run `dvc repro --force search`"
                )
            self.encoder = str(about["encoder"])
        except BaseException:
            self._client.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __len__(self) -> int:
        with answers(self._url):
            return self._client.count(self._name, exact=True).count

    def values(self, key: str) -> list[str]:
        """All values of a key of the payload."""
        with answers(self._url):
            return [str(hit.value) for hit in self._client.facet(self._name, key, limit=10_000, exact=True).hits]

    def ask(self, queries: NDArray[np.float32], limits: Sequence[int], where: Wanted) -> list[list[Hit]]:
        """The most similar cases of each query (n, d), at most ``limits`` (n) of them, in any order among equals."""
        conditions: list[models.Condition] = [
            models.FieldCondition(key=key, match=models.MatchAny(any=wanted)) for key, wanted in where.items()
        ]
        condition = models.Filter(must=conditions) if conditions else None
        requests = [
            models.QueryRequest(
                query=query.tolist(), filter=condition, limit=limit, with_payload=True, params=self._params
            )
            for query, limit in zip(queries, limits, strict=True)
        ]
        responses: list[models.QueryResponse] = []
        with answers(self._url):
            for start in range(0, len(requests), ASKED):
                responses += self._client.query_batch_points(self._name, requests[start : start + ASKED])
        return [
            [Hit(int(point.id), float(point.score), point.payload or {}) for point in response.points]
            for response in responses
        ]
