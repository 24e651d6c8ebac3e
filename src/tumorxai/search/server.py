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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from tqdm import tqdm

from tumorxai.config import Search
from tumorxai.errors import UserError

KEY = "QDRANT_API_KEY"
BATCH = 256  # cases of one request: some megabytes of JSON; Qdrant refuses more than 32
PATIENCE = 600.0  # longest wait for the graph of neighbours, seconds
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


def collection(
    vectors: NDArray[np.float32],
    payloads: Sequence[Mapping[str, Any]],
    ids: NDArray[np.int64],
    fingerprint: str,
    settings: Search,
) -> str:
    """Name of the collection that holds exactly this: equal names, equal answers."""
    built = [
        fingerprint,
        list(vectors.shape),
        [dict(payload) for payload in payloads],
        settings.hnsw.model_dump(exclude={"ef"}),
        settings.quantisation.model_dump(exclude={"oversampling"}),
    ]
    content = hashlib.sha256(json.dumps(built, sort_keys=True).encode())
    content.update(np.ascontiguousarray(vectors, dtype=np.float32).tobytes())
    content.update(np.ascontiguousarray(ids, dtype=np.int64).tobytes())
    return f"tumorxai-{fingerprint[:16]}-{content.hexdigest()[:16]}"


def _quantisation(settings: Search) -> models.ScalarQuantization | None:
    if settings.quantisation.kind == "none":
        return None
    scalar = models.ScalarQuantizationConfig(
        type=models.ScalarType.INT8, quantile=settings.quantisation.quantile, always_ram=True
    )
    return models.ScalarQuantization(scalar=scalar)


def asking(settings: Search) -> models.SearchParams:
    """How the server looks for neighbours: breadth in the graph, and how many candidates are compared in full."""
    quantised = settings.quantisation.kind != "none"
    again = models.QuantizationSearchParams(rescore=True, oversampling=settings.quantisation.oversampling)
    return models.SearchParams(hnsw_ef=settings.hnsw.ef, quantization=again if quantised else None)


def fill(
    client: QdrantClient,
    name: str,
    vectors: NDArray[np.float32],
    payloads: Sequence[Mapping[str, Any]],
    ids: NDArray[np.int64],
    fingerprint: str,
    settings: Search,
    filters: Sequence[str],
) -> None:
    """Make sure that the server holds the collection :func:`collection` named, whole.

    Raises:
        UserError: it does not take all cases.
    """
    if client.collection_exists(name):
        if client.count(name, exact=True).count == len(ids):
            return
    else:
        client.create_collection(
            name,
            vectors_config=models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE),
            hnsw_config=models.HnswConfigDiff(m=settings.hnsw.m, ef_construct=settings.hnsw.ef_construct),
            quantization_config=_quantisation(settings),
            metadata={"encoder": fingerprint},
        )
    for key in filters:  # before the cases, so that the graph is built with them in mind
        client.create_payload_index(name, key, models.PayloadSchemaType.KEYWORD)
    for start in tqdm(range(0, len(ids), BATCH), "cases to Qdrant", disable=None, leave=False):
        part = slice(start, start + BATCH)
        batch = models.Batch(
            ids=ids[part].tolist(),
            vectors=vectors[part].tolist(),
            payloads=[dict(payload) for payload in payloads[part]],
        )
        client.upsert(name, batch, wait=True)
    stored = client.count(name, exact=True).count
    if stored != len(ids):
        raise UserError(
            f"got {stored} cases in the collection {name} after sending {len(ids)}; expected all of them; has another "
            "run written to it? run again"
        )
    _settle(client, name)


def _settle(client: QdrantClient, name: str) -> None:
    """Wait until the graph is built: before that, answers are right but slow, and its recall would not be measured."""
    end = time.monotonic() + PATIENCE
    while client.get_collection(name).status != models.CollectionStatus.GREEN and time.monotonic() < end:
        time.sleep(0.5)
