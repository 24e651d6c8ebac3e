"""The page's server under load, through HTTP, as a process of its own.

    python benchmarks/serve.py RUN [IMAGE…]    RUN: folder of a finished run; IMAGE: what to upload

Without IMAGE the run's own test images are uploaded. One at a time: p50 and p95 of predict + Grad-CAM + search. Then 16
clients with 500 requests: is an answer lost, is there a 5xx? Then 2,000 requests: does the server's memory grow? Prints
Markdown; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from tqdm import tqdm

from tumorxai.base.dataset import Dataset

ASKED = "/api/case?methods=grad_cam&count=10"
LIMITS = {"p50_ms": 150.0, "p95_ms": 400.0}
SERVER = """
import sys
from pathlib import Path
import uvicorn
from tumorxai.run.case import Workspace
from tumorxai.serve.app import create
uvicorn.run(create(Workspace.open(Path(sys.argv[1]))), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
"""


@contextmanager
def server(run: Path) -> Iterator[tuple[str, int]]:
    """Address and process id of a server on a finished run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(run), str(port)])
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit("the server ended")
            try:
                httpx.get(f"{address}/health").raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.2)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait()


def resident_mb(process: int) -> float:
    """Memory of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def own_images(run: Path, count: int) -> list[bytes]:
    """Test images of the run, a little darker, as PNG files."""
    dataset = Dataset.load(run / "data")
    found = []
    for image in dataset.indices("test")[:count]:
        pixels = (np.asarray(dataset.images[image]).transpose(1, 2, 0).squeeze() * 0.9).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        found.append(stream.getvalue())
    return found


def ask(client: httpx.Client, image: bytes) -> tuple[int, float]:
    """Status of one request and the milliseconds that it took; status 0 where no answer came."""
    started = time.perf_counter()
    try:
        status = client.post(ASKED, files={"image": ("image", image)}).status_code
    except httpx.TransportError:
        status = 0
    return status, 1e3 * (time.perf_counter() - started)


def alone(address: str, images: Sequence[bytes], count: int) -> dict[str, Any]:
    """One client."""
    with httpx.Client(base_url=address, timeout=120) as client:
        for image in images[:5]:
            ask(client, image)
        answers = [ask(client, images[i % len(images)]) for i in tqdm(range(count), desc="alone")]
    times = [took for _, took in answers]
    p50, p95 = np.quantile(times, [0.5, 0.95])
    return {"requests": count, "failed": sum(status != 200 for status, _ in answers), "p50_ms": p50, "p95_ms": p95}


def together(address: str, images: Sequence[bytes], count: int, clients: int) -> dict[str, Any]:
    """Several clients at once."""

    def one(number: int) -> list[tuple[int, float]]:
        with httpx.Client(base_url=address, timeout=120) as client:
            return [ask(client, images[i % len(images)]) for i in range(number, count, clients)]

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answers = [answer for each in pool.map(one, range(clients)) for answer in each]
    took = time.perf_counter() - started
    statuses = Counter(status for status, _ in answers)
    p50, p95 = np.quantile([each for _, each in answers], [0.5, 0.95])
    return {
        "clients": clients,
        "requests": count,
        "answered": statuses[200],
        "lost": statuses[0],
        "server_errors": sum(n for status, n in statuses.items() if status >= 500),
        "per_second": count / took,
        "p50_ms": p50,
        "p95_ms": p95,
    }


def memory(address: str, process: int, images: Sequence[bytes], count: int) -> dict[str, Any]:
    """Resident memory while many different images are asked about, read ten times."""
    read = [resident_mb(process)]
    with httpx.Client(base_url=address, timeout=120) as client:
        for i in tqdm(range(count), desc="memory"):
            ask(client, images[i % len(images)])
            if (i + 1) % max(1, count // 10) == 0:
                read.append(resident_mb(process))
    return {"requests": count, "resident_mb": [round(each, 1) for each in read], "growth_mb": read[-1] - read[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path, nargs="*")
    parser.add_argument("--alone", type=int, default=200)
    parser.add_argument("--together", type=int, default=500)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--memory", type=int, default=2000)
    given = parser.parse_args()
    images = [path.read_bytes() for path in given.images] or own_images(given.run, 100)
    with server(given.run) as (address, process):
        result = {
            "cores": len(os.sched_getaffinity(0)),
            "limits": LIMITS,
            "alone": alone(address, images, given.alone),
            "together": together(address, images, given.together, given.clients),
            "memory": memory(address, process, images, given.memory),
        }
    one, many, held = result["alone"], result["together"], result["memory"]
    print("| load | answered | p50 ms | p95 ms |\n|---|---|---|---|")
    print(f"| 1 client | {one['requests'] - one['failed']} of {one['requests']} ", end="")
    print(f"| {one['p50_ms']:.0f} | {one['p95_ms']:.0f} |")
    print(f"| {many['clients']} clients | {many['answered']} of {many['requests']} ", end="")
    print(f"| {many['p50_ms']:.0f} | {many['p95_ms']:.0f} |")
    print(f"\nresident memory over {held['requests']} requests, MB: {held['resident_mb']}\n")
    print(json.dumps(result, default=float))


if __name__ == "__main__":
    main()
