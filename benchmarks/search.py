"""How far the embedded index goes: building, opening, memory, questions with and without a filter, beside two peers.

    python benchmarks/search.py [--largest 1000000] [--dimension 512] [--queries 100]

Embeddings are drawn around 50 centres. Each size has processes of its own, so that memory is its own. The peers:
numpy's exact search, one matrix-vector product and a partial sort, the least that any exact search does; and
qdrant-client's stand-in in Python (`QdrantClient(path=…)`), up to 100,000 cases. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models

from tumorxai.search.index import Index, build

SIZES = (10_000, 100_000, 1_000_000)
PEER = 100_000  # cases up to which the stand-in is asked
CENTRES = 50
K = 10
FINGERPRINT = "synthetic"

Floats = NDArray[np.float32]


def embeddings(count: int, dimension: int, seed: int) -> Floats:
    """Points around common centres, as classes and scanners make them."""
    centres = np.random.default_rng(0).normal(size=(CENTRES, dimension)).astype(np.float32)
    generator = np.random.default_rng(seed)
    return centres[generator.integers(0, CENTRES, count)] + generator.standard_normal((count, dimension), np.float32)


def resident() -> float:
    """Memory of this process that is in use, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def timed(question: Any, queries: Floats) -> tuple[dict[str, float], list[Any]]:
    """Median and 95th percentile of one question, milliseconds, after a first that does not count; and the answers."""
    question(queries[0])
    seconds, answers = [], []
    for query in queries:
        start = time.perf_counter()
        answers.append(question(query))
        seconds.append(time.perf_counter() - start)
    return {
        "p50": round(1e3 * float(np.median(seconds)), 2),
        "p95": round(1e3 * float(np.quantile(seconds, 0.95)), 2),
    }, answers


def nearest(unit: Floats, query: Floats) -> list[int]:
    """Rows of the K largest products with the query, best first."""
    similarity = unit @ query
    best = np.argpartition(-similarity, K)[:K]
    return best[np.argsort(-similarity[best])].tolist()


def payload(case: int) -> dict[str, str]:
    """What is known about a case."""
    return {"label": f"class {case % 4}", "source": "synthetic", "sequence": "", "side": "train"}


def fill(count: int, dimension: int, folder: Path) -> dict[str, Any]:
    """Build an index of so many cases."""
    vectors = embeddings(count, dimension, 1)
    start = time.perf_counter()
    build(folder / "index", vectors, map(payload, range(count)), np.arange(count), FINGERPRINT)
    built = time.perf_counter() - start
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"cases": count, "build_s": round(built, 1), "disk_mb": round(disk / 1e6)}


def recall(answers: list[list[int]], truth: list[list[int]]) -> float:
    """Share of the exact nearest K that were found."""
    return round(float(np.mean([len(set(row) & set(best)) / K for row, best in zip(answers, truth, strict=True)])), 4)


def ask(count: int, dimension: int, asked: int, folder: Path) -> dict[str, Any]:
    """Open it in a process that holds nothing else yet, ask, and compare with numpy."""
    queries = embeddings(asked, dimension, 2)
    where = {"label": "class 1"}
    before, start = resident(), time.perf_counter()
    with Index(folder / "index", FINGERPRINT) as index:
        opened = time.perf_counter() - start
        index.values("label")
        embedded_ms, answers = timed(lambda query: [h.image_id for h in index.nearest(query[None], [K])[0]], queries)
        filtered_ms, few = timed(lambda query: [h.image_id for h in index.nearest(query[None], [K], where)[0]], queries)
        memory = resident() - before
    vectors = embeddings(count, dimension, 1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    numpy_ms, truth = timed(lambda query: nearest(unit, query), queries)
    kept = np.arange(1, count, 4)
    of_class = unit[kept]
    within = [kept[nearest(of_class, query)].tolist() for query in queries]
    return {
        "open_s": round(opened, 2),
        "memory_mb": round(memory),
        "numpy_ms": numpy_ms,
        "embedded_ms": embedded_ms,
        "filtered_ms": filtered_ms,
        f"recall_at_{K}": recall(answers, truth),
        f"filtered_recall_at_{K}": recall(few, within),
        "numpy_over_embedded": round(numpy_ms["p50"] / embedded_ms["p50"], 1),
    }


def peer(count: int, dimension: int, asked: int, folder: Path) -> dict[str, Any]:
    """The same questions to the stand-in."""
    vectors, queries = embeddings(count, dimension, 1), embeddings(asked, dimension, 2)[: max(3, asked // 10)]
    client = QdrantClient(path=str(folder / "peer"))
    start = time.perf_counter()
    client.create_collection("a", models.VectorParams(size=dimension, distance=models.Distance.COSINE))
    client.upload_collection("a", vectors, [payload(i) for i in range(count)], ids=range(count))
    built = time.perf_counter() - start
    match = models.FieldCondition(key="label", match=models.MatchAny(any=["class 1"]))
    plain_ms, _ = timed(lambda query: client.query_points("a", query.tolist(), limit=K), queries)
    filtered_ms, _ = timed(
        lambda query: client.query_points("a", query.tolist(), limit=K, query_filter=models.Filter(must=[match])),
        queries,
    )
    client.close()
    return {"peer_build_s": round(built, 1), "peer_ms": plain_ms, "peer_filtered_ms": filtered_ms}


PARTS = {"fill": fill, "ask": ask, "peer": peer}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)  # a name of PARTS, cases, folder
    options = parser.parse_args()
    if options.part:
        name, count, folder = options.part
        rest = [Path(folder)] if name == "fill" else [options.queries, Path(folder)]
        print(json.dumps(PARTS[name](int(count), options.dimension, *rest)))
        return
    rows = []
    for size in (size for size in SIZES if size <= options.largest):
        row: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as folder:
            for name in PARTS if size <= PEER else ("fill", "ask"):
                command = [sys.executable, __file__, f"--dimension={options.dimension}", f"--queries={options.queries}"]
                command += ["--part", name, str(size), folder]
                row |= json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])
        rows.append(row)
        print(json.dumps(row), flush=True)
    print(json.dumps({"dimension": options.dimension, "sizes": rows, "cpus": os.cpu_count()}))


if __name__ == "__main__":
    main()
