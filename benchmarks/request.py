"""How long one image takes: read, class probabilities with distance and copies, Grad-CAM, and ten similar cases.

    python benchmarks/request.py [--root .] [--requests 200]

In one process, one request after another, on all cores that torch takes. Images are those of the test side, in turn,
given as PNG files. The last line is one JSON object: the 50th and 95th percentile of each part and of the whole, ms.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from tumorxai.errors import run
from tumorxai.run.case import Workspace

WARM = 10  # requests that are not counted
PARTS = ("read", "predict", "grad_cam", "search")


def request(workspace: Workspace, content: bytes) -> list[float]:
    """Milliseconds of each part."""
    marks = [time.perf_counter()]
    case = workspace.read(content)
    marks.append(time.perf_counter())
    predicted = workspace.predict(case).predicted
    marks.append(time.perf_counter())
    workspace.explain(case, ["grad_cam"], predicted)
    marks.append(time.perf_counter())
    workspace.search(case, 10)
    marks.append(time.perf_counter())
    return [1000 * float(step) for step in np.diff(marks)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(), help="folder of a finished run")
    parser.add_argument("--requests", type=int, default=200)
    given = parser.parse_args()

    start = time.perf_counter()
    workspace = Workspace.open(given.root)
    opened = time.perf_counter() - start
    test = workspace.dataset.indices("test")
    files = [workspace.thumbnail(int(image)) for image in test[: given.requests]]
    for i in range(WARM):
        request(workspace, files[i % len(files)])
    times = np.array([request(workspace, files[i % len(files)]) for i in tqdm(range(given.requests), unit="request")])
    workspace.close()

    columns = {**dict(zip(PARTS, times.T, strict=True)), "whole": times.sum(axis=1)}
    found = {
        name: {"p50_ms": round(float(np.median(own)), 1), "p95_ms": round(float(np.quantile(own, 0.95)), 1)}
        for name, own in columns.items()
    }
    for name, own in found.items():
        print(f"{name:10}p50 {own['p50_ms']:7.1f} ms   p95 {own['p95_ms']:7.1f} ms")
    described = {
        "requests": given.requests,
        "images": len(workspace.dataset.images),
        "backbone": workspace.card["timm"],
        "size": workspace.card["size"],
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "open_s": round(opened, 2),
    }
    print(json.dumps(described | found))


if __name__ == "__main__":
    run(main)
