"""Qdrant's engine in this process (Qdrant Edge): a folder of files, which several processes may read at once.

Up to some thousand cases every case is compared; above, the engine builds its graph of neighbours, and a question looks
at as many candidates as it takes to find what plain arithmetic does. Filters have a payload index in both cases; the
graph is walked for them as ACORN does (arXiv 2403.04871). The engine names and orders its files at random: two indexes
of the same embeddings give the same answers, from files that differ.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import portalocker
import qdrant_edge as edge
from numpy.typing import NDArray
from tqdm import tqdm

from tumorxai.config import Search
from tumorxai.errors import UserError
from tumorxai.files import read_json, write_json
from tumorxai.search.hits import FILTERS, TIE, Cases, Hit, Wanted

ABOUT = "index.json"  # which encoder filled it, how many cases, and how they are asked about
LOCK = "lock"
SHARD = "shard"
BATCH = 1000  # cases of one update
GRAPH = 10_000  # kB of embeddings from which on a graph is built, as Qdrant's server does: 5,000 of 512 values
# Share of the nearest that must be found, so many of each of a sample of cases, and candidates beyond which all cases
# are compared instead.
FOUND, NEAREST, SAMPLE, MOST = 0.998, 10, 100, 4096


def locked(path: Path, flags: portalocker.LockFlags) -> portalocker.Lock[IO[bytes]]:
    """The lock of the index in ``path``: shared by its readers, exclusive for who replaces it.

    Raises:
        UserError: others have it open and it was to be replaced, or it is being replaced.
    """
    lock = portalocker.Lock[IO[bytes]](
        path / LOCK, "rb", timeout=0, fail_when_locked=True, flags=flags | portalocker.LOCK_NB
    )
    try:
        lock.acquire()
    except portalocker.LockException:
        raise UserError(
            f"got the index {path} while another process has it open; expected to be alone, since it is replaced; stop "
            "the other process (a killed one holds no lock) and run again"
        ) from None
    return lock


def fill(path: Path, cases: Cases, settings: Search) -> None:
    """Write an index into the folder ``path``, which does not exist yet."""
    path.mkdir()
    quantised = settings.quantisation.kind != "none"
    scalar = edge.ScalarQuantizationConfig(type=edge.ScalarType.Int8, quantile=settings.quantisation.quantile)
    shard = edge.EdgeShard.create(
        str(path / SHARD),
        edge.EdgeConfig(
            vectors=edge.EdgeVectorParams(size=cases.vectors.shape[1], distance=edge.Distance.Cosine),
            hnsw_config=edge.HnswIndexConfig(
                m=settings.hnsw.m, ef_construct=settings.hnsw.ef_construct, full_scan_threshold=GRAPH
            ),
            quantization_config=scalar if quantised else None,
            optimizers=edge.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=GRAPH),
            wal_enabled=False,  # the folder gets its name only when it is whole
        ),
    )
    try:
        for key in FILTERS:  # before the cases, so that the graph is built with them in mind
            shard.update(edge.UpdateOperation.create_field_index(key, edge.PayloadSchemaType.Keyword))
        for start in tqdm(range(0, len(cases.ids), BATCH), "cases to the index", disable=None, leave=False):
            part = slice(start, start + BATCH)
            points = map(edge.Point, cases.ids[part].tolist(), cases.vectors[part].tolist(), cases.payloads[part])
            shard.update(edge.UpdateOperation.upsert_points(list(points)))
        shard.optimize()
        shard.flush()
    finally:
        shard.close()
    shard = edge.EdgeShard.load(str(path / SHARD))  # the first opening tidies up; later ones leave the files alone
    try:
        candidates = _candidates(shard, cases, settings)
    finally:
        shard.close()
    (path / LOCK).touch()
    about = {"encoder": cases.fingerprint, "cases": len(cases.ids), "search": settings.model_dump()}
    write_json(path / ABOUT, about | {"candidates": candidates})


def _candidates(shard: edge.EdgeShard, cases: Cases, settings: Search) -> int | None:
    """Candidates of a question: twice what it takes the graph to find the nearest of a sample of cases.

    That is ``search.hnsw.ef``, or this doubled once or more. The nearest are asked for among all cases and, for each
    key of the payload, among those that share the value.

    Returns:
        Their number; None where all cases must be compared.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(cases.ids))[:SAMPLE])
    queries = cases.vectors[rows]
    similarity = queries @ cases.vectors.T / np.linalg.norm(cases.vectors, axis=1)
    similarity /= np.linalg.norm(queries, axis=1, keepdims=True)
    place = {int(case): row for row, case in enumerate(cases.ids)}
    asked: list[tuple[int, Wanted, float, int]] = []  # row of the sample, filter, least similarity, number of cases

    def ask(number: int, where: Wanted, kept: NDArray[np.float32]) -> None:
        count = min(NEAREST, len(kept) - 1)  # beside itself, which any graph finds
        if count:
            asked.append((number, where, float(np.partition(kept, -count - 1)[-count - 1]) - TIE, count))

    for number in range(len(rows)):
        ask(number, {}, similarity[number])
    for key in FILTERS:
        values, codes = np.unique([str(payload.get(key, "")) for payload in cases.payloads], return_inverse=True)
        if len(values) > 1:
            for number, code in enumerate(codes[rows]):
                ask(number, {key: [str(values[code])]}, similarity[number, codes == code])
    candidates = settings.hnsw.ef
    while candidates <= MOST:
        found = 0
        for number, where, least, count in asked:
            (hits,) = _ask(shard, queries[number : number + 1], [count + 1], where, settings, candidates)
            others = (place[hit.image_id] for hit in hits if place[hit.image_id] != rows[number])
            found += min(count, sum(float(similarity[number, other]) >= least for other in others))
        if found >= FOUND * sum(count for *_, count in asked):
            return 2 * candidates  # for images that are asked about are no cases, and lie further from all of them
        candidates *= 2
    return None


def _ask(
    shard: edge.EdgeShard, queries: NDArray[np.float32], limits: Sequence[int], where: Wanted, settings: Search,
    candidates: int | None,
) -> list[list[Hit]]:  # fmt: skip
    """See :meth:`Embedded.ask`; ``candidates`` is what :func:`_candidates` found."""
    conditions: list[Any] = [
        edge.FieldCondition(key=key, match=edge.MatchAny(any=wanted)) for key, wanted in where.items()
    ]
    quantised = settings.quantisation.kind != "none"
    params = edge.SearchParams(
        hnsw_ef=candidates,
        exact=candidates is None,
        quantization=edge.QuantizationSearchParams(
            ignore=candidates is None, rescore=True, oversampling=settings.quantisation.oversampling
        )
        if quantised
        else None,
        acorn=edge.AcornSearchParams(enable=True) if conditions else None,
    )
    requests = [
        edge.QueryRequest(
            query=edge.Query.Nearest(query.tolist()),
            filter=edge.Filter(must=conditions) if conditions else None,
            limit=limit,
            with_payload=True,
            params=params,
        )
        for query, limit in zip(queries, limits, strict=True)
    ]
    answers = shard.query_batch(edge.QueryBatchRequest(requests))
    return [[Hit(int(point.id), float(point.score), point.payload or {}) for point in points] for points in answers]


class Embedded:
    """An index in a folder, opened for questions.

    Args:
        path: folder that :func:`fill` wrote.

    Raises:
        UserError: it is being replaced, is damaged, or does not hold what it says.
    """

    def __init__(self, path: Path) -> None:
        self._held = ExitStack()
        with ExitStack() as held:
            lock = locked(path, portalocker.LOCK_SH)
            held.callback(lock.release)
            try:
                about = read_json(path / ABOUT)
                self.encoder, cases = str(about["encoder"]), int(about["cases"])
                self._settings, self._candidates = Search.model_validate(about["search"]), about["candidates"]
            except (ValueError, KeyError, TypeError):  # JSON's and pydantic's errors are ValueErrors
                raise _damaged(path) from None
            shard = path / SHARD
            if not _writable(shard):  # Qdrant opens its files for writing even where it only reads
                shard = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="tumorxai-index-"))) / SHARD
                shutil.copytree(path / SHARD, shard, copy_function=shutil.copyfile)
            self._path = path
            with _intact(path):
                self._shard = edge.EdgeShard.load(str(shard))
            held.callback(self._shard.close)
            if len(self) != cases:
                raise _damaged(path)
            self._held = held.pop_all()

    def close(self) -> None:
        """Let others replace it."""
        self._held.close()

    def __len__(self) -> int:
        with _intact(self._path):
            return int(self._shard.count(edge.CountRequest(exact=True)))

    def values(self, key: str) -> list[str]:
        """All values of a key of the payload."""
        with _intact(self._path):
            return [str(hit.value) for hit in self._shard.facet(edge.FacetRequest(key, limit=10_000, exact=True)).hits]

    def ask(self, queries: NDArray[np.float32], limits: Sequence[int], where: Wanted) -> list[list[Hit]]:
        """The most similar cases of each query (n, d), at most ``limits`` (n) of them, in any order among equals."""
        with _intact(self._path):
            return _ask(self._shard, queries, limits, where, self._settings, self._candidates)


def _writable(folder: Path) -> bool:
    return all(os.access(path, os.W_OK) for path in (folder, *folder.rglob("*")))


@contextmanager
def _intact(path: Path) -> Iterator[None]:
    """Say that the index is damaged, whatever Qdrant says: plain exceptions, and panics, which are not even those."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> UserError:
    return UserError(
        f"got an index in {path} that cannot be read or has lost cases; expected it as an earlier stage wrote it; run "
        "`dvc repro --force search`"
    )
