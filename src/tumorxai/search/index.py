"""Similar cases: embeddings in a Qdrant collection, embedded or on a server, compared by cosine similarity."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models

from tumorxai.config import Search
from tumorxai.errors import UserError
from tumorxai.files import atomic, read_json, write_json
from tumorxai.search import server

COLLECTION = "cases"
SERVER = "server.json"  # stands in the index's folder where a server has the cases
FILTERS = ("label", "source", "sequence", "side")
BATCH = 128  # questions of one request
SPARE = 8  # cases asked for beyond those wanted, to see whether the last one is tied with the next
TIE = 1e-6  # similarities closer than this are equal: float32 sums of equal vectors differ by less

Where = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Hit:
    """A case that was found.

    Attributes:
        image_id: of the case.
        similarity: cosine, in [-1, 1].
        payload: what is known about it.
    """

    image_id: int
    similarity: float
    payload: Mapping[str, Any]


def _connect(path: Path) -> QdrantClient:
    try:
        return QdrantClient(path=str(path))
    except RuntimeError as error:
        if "already accessed" not in str(error):
            raise
        raise UserError(
            f"got the index {path} while another process has it open; expected to be alone, as an embedded index has "
            "one reader; stop the other process (a killed one holds no lock) and run again"
        ) from None


def build(
    path: Path,
    vectors: NDArray[np.float32],
    payloads: Iterable[Mapping[str, Any]],
    ids: NDArray[np.int64],
    fingerprint: str,
    settings: Search | None = None,
) -> None:
    """Write a new index; an older one at the same place is replaced once the new one is whole.

    Args:
        path: folder to write. With a server, it says where the cases are.
        vectors: embeddings (n, d).
        payloads: what is known about each case, in the order of ``vectors``.
        ids: image_id of each case (n,).
        fingerprint: of the encoder that made the embeddings.
        settings: where the cases go: to a server, if its address is set.

    Raises:
        UserError: an embedding is not finite or zero, so that it has no direction; the server cannot be used.
    """
    norms = np.linalg.norm(vectors, axis=1)
    if not (np.isfinite(norms) & (norms > 0)).all():
        wrong = int((~(np.isfinite(norms) & (norms > 0))).sum())
        raise UserError(
            f"got {wrong} of {len(vectors)} embeddings that are zero or not finite; expected directions to compare; "
            "the encoder has collapsed or diverged: look at the pretraining curves"
        )
    if (path / "meta.json").exists():
        _connect(path).close()  # in use elsewhere? then it must not vanish
    settings, known = settings or Search(), [dict(payload) for payload in payloads]
    with atomic(path) as temporary:
        if settings.url:
            _send(temporary, vectors, known, ids, fingerprint, settings)
        else:
            _embed(temporary, vectors, known, ids, fingerprint)
        if path.exists():
            shutil.rmtree(path)


def _embed(
    path: Path, vectors: NDArray[np.float32], payloads: list[dict[str, Any]], ids: NDArray[np.int64], fingerprint: str
) -> None:
    client = _connect(path)
    try:
        client.create_collection(
            COLLECTION,
            vectors_config=models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE),
            metadata={"encoder": fingerprint},
        )
        # Qdrant commits every point by itself. Waiting for the disk each time made this 25 times slower, and
        # nothing is lost without it: the folder gets its name only when it is whole.
        local: Any = client._client
        local.collections[COLLECTION].storage.storage.execute("PRAGMA synchronous = OFF")
        client.upload_collection(COLLECTION, vectors=vectors, payload=payloads, ids=ids.tolist())
    finally:
        client.close()


def _send(
    path: Path,
    vectors: NDArray[np.float32],
    payloads: list[dict[str, Any]],
    ids: NDArray[np.int64],
    fingerprint: str,
    settings: Search,
) -> None:
    name = server.collection(vectors, payloads, ids, fingerprint, settings)
    client = server.connect(settings)
    try:
        with server.answers(settings.url):
            server.fill(client, name, vectors, payloads, ids, fingerprint, settings, FILTERS)
    finally:
        client.close()
    path.mkdir()
    write_json(path / SERVER, {"collection": name, "cases": len(ids), "search": settings.model_dump()})


def _whereabouts(path: Path) -> tuple[str, int, Search]:
    """Name of the collection on the server, number of its cases, and where the server is."""
    try:
        content = read_json(path)
        return str(content["collection"]), int(content["cases"]), Search.model_validate(content["search"])
    except (ValueError, KeyError, TypeError):  # JSON's and pydantic's errors are ValueErrors
        raise UserError(
            f"got a {path} that does not say where the index is; expected one from an earlier stage; run "
            "`dvc repro --force search`"
        ) from None


class Index:
    """An index opened for questions; use it in a ``with`` block, for an embedded one is locked while open.

    Args:
        path: folder that :func:`build` wrote.
        fingerprint: of the encoder whose embeddings will be asked about.

    Raises:
        UserError: there is no index, another process has it open, another encoder filled it, or the server does not
            answer or has lost it.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._values: dict[str, list[str]] = {}
        self._url, self._collection, cases = "", COLLECTION, 0
        self._params: models.SearchParams | None = None
        if (path / SERVER).exists():
            self._collection, cases, settings = _whereabouts(path / SERVER)
            self._url, self._params = settings.url, server.asking(settings)
            self._client = server.connect(settings)
        elif (path / "meta.json").exists():
            self._client = _connect(path)
        else:
            raise UserError(f"got no index in {path}; expected one from an earlier stage; run `dvc repro search`")
        try:
            with self._answers():
                self._check(path, fingerprint, cases)
        except BaseException:
            self._client.close()
            raise

    def _answers(self) -> AbstractContextManager[None]:
        return server.answers(self._url) if self._url else nullcontext()

    def _check(self, path: Path, fingerprint: str, cases: int) -> None:
        if self._url and (not self._client.collection_exists(self._collection) or len(self) != cases):
            raise UserError(
                f"got no collection {self._collection} of {cases} cases on {self._url}; expected the one that an "
                "earlier stage filled; run `dvc repro --force search`"
            )
        owner = (self._client.get_collection(self._collection).config.metadata or {}).get("encoder")
        if owner is None:
            raise UserError(
                f"got an index in {path} that does not say which encoder filled it; expected its fingerprint, which "
                "Qdrant keeps from version 1.16 on; update the server and run `dvc repro --force search`"
            )
        if owner != fingerprint:
            raise UserError(
                f"got an index of the encoder {str(owner)[:12]} in {path}; expected {fingerprint[:12]}, since "
                "similarities across encoders mean nothing; run `dvc repro search`"
            )

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def __len__(self) -> int:
        with self._answers():
            return self._client.count(self._collection, exact=True).count

    def values(self, key: str) -> list[str]:
        """What a filter can ask for: the values of ``key`` in the index, sorted; an unknown one is ``""``.

        Args:
            key: one of :data:`FILTERS`.

        Raises:
            UserError: there is no such filter.
        """
        if key not in FILTERS:
            raise UserError(f"got the filter {key!r}; expected one of {', '.join(FILTERS)}; correct it")
        if key not in self._values:
            with self._answers():
                hits = self._client.facet(self._collection, key, limit=10_000, exact=True).hits
            self._values[key] = sorted(str(hit.value) for hit in hits)
        return self._values[key]

    def _filter(self, where: Where | None) -> models.Filter | None:
        conditions: list[models.Condition] = []
        for key, wanted in (where or {}).items():
            chosen = [wanted] if isinstance(wanted, str) else list(wanted)
            unknown = sorted(set(chosen) - set(self.values(key)))
            if unknown:
                known = ", ".join(value or "(none)" for value in self.values(key))
                raise UserError(f"got the {key} {unknown[0]!r}; expected one of {known}; correct the filter")
            conditions.append(models.FieldCondition(key=key, match=models.MatchAny(any=chosen)))
        return models.Filter(must=conditions) if conditions else None

    def nearest(
        self, queries: NDArray[np.float32], counts: Sequence[int] | NDArray[np.int64], where: Where | None = None
    ) -> list[list[Hit]]:
        """The most similar cases of each query, best first; equally similar ones by image_id.

        Args:
            queries: embeddings (n, d).
            counts: how many cases are wanted for each query, n numbers; fewer come back where fewer exist.
            where: only cases whose payload has, for each key of :data:`FILTERS` named here, the value or one of the
                values.

        Raises:
            UserError: no case has such a value, or there is no such filter.
        """
        condition = self._filter(where)
        found: list[list[Hit]] = [[] for _ in queries]
        limits = {row: int(count) + SPARE for row, count in enumerate(counts) if count > 0}
        while limits:
            answers = self._ask(queries, limits, condition)
            for row, hits in answers.items():
                found[row] = ranked(hits)[: int(counts[row])]
            limits = {
                row: 2 * limits[row] for row, hits in answers.items() if _undecided(hits, int(counts[row]), limits[row])
            }
        return found

    def _ask(
        self, queries: NDArray[np.float32], limits: Mapping[int, int], condition: models.Filter | None
    ) -> dict[int, list[Hit]]:
        requests = [
            models.QueryRequest(
                query=queries[row].tolist(), filter=condition, limit=limit, with_payload=True, params=self._params
            )
            for row, limit in limits.items()
        ]
        responses: list[models.QueryResponse] = []
        with self._answers():
            for start in range(0, len(requests), BATCH):
                responses += self._client.query_batch_points(self._collection, requests[start : start + BATCH])
        return {
            row: [Hit(int(point.id), float(point.score), point.payload or {}) for point in response.points]
            for row, response in zip(limits, responses, strict=True)
        }


def _undecided(hits: list[Hit], count: int, limit: int) -> bool:
    """Whether a case beyond ``limit`` may be as similar as the last one wanted."""
    similarity = sorted((hit.similarity for hit in hits), reverse=True)
    return len(hits) == limit and similarity[count - 1] - similarity[-1] < TIE


def ranked(hits: Iterable[Hit]) -> list[Hit]:
    """Hits by falling similarity; those that follow each other within :data:`TIE` by image_id."""
    falling = sorted(hits, key=lambda hit: -hit.similarity)
    steps = [above.similarity - below.similarity >= TIE for above, below in pairwise(falling)]
    ranks = accumulate(steps, initial=0)  # one more than there are steps
    return [hit for _, hit in sorted(zip(ranks, falling, strict=False), key=lambda pair: (pair[0], pair[1].image_id))]
