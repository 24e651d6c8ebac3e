"""How far the embedded index goes: building, opening, memory, questions with and without a filter, against plain numpy.

    python benchmarks/search.py [--largest 100000] [--dimension 512] [--queries 100]

Embeddings are drawn around 50 centres. Each size has processes of its own, so that memory is its own. Numpy's exact
search is one matrix-vector product and a partial sort: the least that any exact search does. A server is advised from
the size at which a question takes 50 ms, read off a line through the logarithms. The last line is one JSON object.
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

from tumorxai.search.index import Index, build

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
CENTRES = 50
K = 10
LIMIT = 0.05  # seconds of one question that still feel immediate
FINGERPRINT = "synthetic"
CANNOT = (
    "The embedded index is open in one process at a time and read into its memory as a whole;",
    "it compares every question with every case (exact, no graph, no quantisation: search.hnsw and search.quantisation",
    "have no effect), and looks at every payload in Python when there is a filter.",
)

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


def nearest(unit: Floats, query: Floats) -> set[int]:
    """Rows of the K largest products with the query, best first."""
    similarity = unit @ query
    best = np.argpartition(-similarity, K)[:K]
    return set(best[np.argsort(-similarity[best])].tolist())


def fill(count: int, dimension: int, folder: Path) -> dict[str, Any]:
    """Build an index of so many cases."""
    vectors = embeddings(count, dimension, 1)
    payloads = [
        {"label": f"class {i % 4}", "source": "synthetic", "sequence": "", "side": "train"} for i in range(count)
    ]
    start = time.perf_counter()
    build(folder / "index", vectors, payloads, np.arange(count), FINGERPRINT)
    built = time.perf_counter() - start
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"cases": count, "build_s": round(built, 1), "disk_mb": round(disk / 1e6)}


def ask(count: int, dimension: int, asked: int, folder: Path) -> dict[str, Any]:
    """Open it in a process that holds nothing else yet, ask, and compare with numpy."""
    queries = embeddings(asked, dimension, 2)
    before, start = resident(), time.perf_counter()
    with Index(folder / "index", FINGERPRINT) as index:
        opened, memory = time.perf_counter() - start, resident() - before
        embedded_ms, answers = timed(lambda query: index.nearest(query[None], [K])[0], queries)
        index.values("label")
        few = queries[: max(3, asked // 10)]
        filtered_ms, _ = timed(lambda query: index.nearest(query[None], [K], {"label": "class 1"})[0], few)
    vectors = embeddings(count, dimension, 1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    numpy_ms, truth = timed(lambda query: nearest(unit, query), queries)
    found = [len({hit.image_id for hit in row} & best) / K for row, best in zip(answers, truth, strict=True)]
    return {
        "open_s": round(opened, 2),
        "memory_mb": round(memory),
        "numpy_ms": numpy_ms,
        "embedded_ms": embedded_ms,
        "filtered_ms": filtered_ms,
        f"recall_at_{K}": round(float(np.mean(found)), 4),
    }


def crossover(rows: list[dict[str, Any]], column: str) -> int | None:
    """Cases at which a question takes LIMIT: between two sizes, or beyond the largest; null if it cannot be said."""
    slow = [i for i, row in enumerate(rows) if row[column]["p50"] / 1e3 >= LIMIT]
    last = max(1, slow[0] if slow else len(rows) - 1)
    if last >= len(rows):
        return None
    (x0, y0), (x1, y1) = ((np.log(row["cases"]), np.log(row[column]["p50"] / 1e3)) for row in rows[last - 1 : last + 1])
    if y1 <= y0:
        return None
    return int(100 * round(float(np.exp(x0 + (np.log(LIMIT) - y0) * (x1 - x0) / (y1 - y0))) / 100))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--largest", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)  # fill or ask, cases, folder
    options = parser.parse_args()
    if options.part:
        name, count, folder = options.part
        if name == "fill":
            print(json.dumps(fill(int(count), options.dimension, Path(folder))))
        else:
            print(json.dumps(ask(int(count), options.dimension, options.queries, Path(folder))))
        return
    rows = []
    for size in (size for size in SIZES if size <= options.largest):
        row: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as folder:
            for name in ("fill", "ask"):
                command = [sys.executable, __file__, f"--dimension={options.dimension}", f"--queries={options.queries}"]
                command += ["--part", name, str(size), folder]
                row |= json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])
        rows.append(row)
        print(json.dumps(row), flush=True)
    print(*CANNOT, sep="\n")
    advised = {name: crossover(rows, f"{name}_ms") for name in ("embedded", "filtered")}
    words = {"embedded": "question", "filtered": "question with a filter"}
    for name, cases in advised.items():
        if cases:
            print(f"A {words[name]} takes 50 ms at about {cases:,} cases: use a server for more.")
    result = {"dimension": options.dimension, "sizes": rows, "server_advised_from": advised, "cpus": os.cpu_count()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
