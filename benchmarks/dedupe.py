"""How fast copies are found: hashing against imagededup and against decoding alone, and the search as it grows.

    python benchmarks/dedupe.py [--peer-python PATH] [--largest 7]

imagededup is no dependency of this project. If it is not installed beside it, give the interpreter of an environment
that has it with --peer-python. All hash or decode the same JPEGs with the same number of processes, whose start counts
for all. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tumorxai.archives.images import Fit, fit_image
from tumorxai.archives.workers import BATCH
from tumorxai.config import Dedupe
from tumorxai.dedupe import candidates, frames, hamming, hashing

DRAWN = 400  # different JPEGs; more are copies of these
ROUNDS = 3

PEER = """
import logging, sys, time
from imagededup.methods import PHash
logging.disable(logging.CRITICAL)
start = time.perf_counter()
PHash(verbose=False).encode_images(sys.argv[1], num_enc_workers=int(sys.argv[2]))
print(time.perf_counter() - start)
"""


def draw(seed: int, side: int, colour: bool) -> bytes:
    """A JPEG of quality 90 with structure at every size, strong where it is coarse, and a dark margin, as in a scan."""
    rng = np.random.default_rng(seed)
    channels = []
    for _ in range(3 if colour else 1):
        scene = np.zeros((side, side))
        for cells in (4, 8, 16, 32, 64, 128):
            coarse = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32) / cells)
            scene += np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
        channels.append(np.interp(scene, (scene.min(), scene.max()), (30, 255)))
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    pixels = (np.stack(channels, axis=-1) * (x**2 + y**2 < 0.8)[..., None]).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels if colour else pixels[..., 0]).save(stream, "JPEG", quality=90)
    return stream.getvalue()


open_once = lru_cache(maxsize=1)(zipfile.ZipFile)  # as the hashing workers do


def decode_only(archive: Path, scaled: bool, paths: list[str]) -> int:
    """Read and decode, nothing else; scaled as the hash does it, or in full."""
    opened = open_once(archive)
    for path in paths:
        image = Image.open(io.BytesIO(opened.read(path)))
        if scaled:
            image.draft("L", (hashing.VIEW, hashing.VIEW))
        image.load()
    return len(paths)


def decode_all(archive: Path, paths: list[str], workers: int, scaled: bool) -> None:
    batches = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        list(pool.map(partial(decode_only, archive, scaled), batches))


def hash_all(archive: Path, paths: list[str], workers: int) -> NDArray[np.uint64]:
    """Everything that deduplication does before the search: the hashes of both frames, turned and inverted."""
    images = hashing.read_images([(archive, path) for path in paths], workers)
    framed = frames.framed(images.views, frames.boxes(images.views))
    found = []
    for thumbnails in (images.thumbnails, framed):
        low = hashing.frequencies(thumbnails)
        for each in (low, hashing.invert_frequencies(low)):
            found += [hashing.hashes(hashing.turn_frequencies(each, orientation)) for orientation in range(8)]
    return found[0]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock and processor seconds, of this process and of those that it started."""

    def spent() -> float:
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(each.ru_utime + each.ru_stime for each in usage)

    start, before = time.perf_counter(), spent()
    work()
    return time.perf_counter() - start, spent() - before


def peer_all(python: str, folder: Path, workers: int) -> float | None:
    """Seconds that imagededup takes, its import not counted."""
    command = [python, "-c", PEER, str(folder), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"imagededup: not measured ({done.stderr.strip().splitlines()[-1]}); give --peer-python")
        return None
    return float(done.stdout.splitlines()[-1])


def full_hash(data: bytes) -> NDArray[np.uint64]:
    pixels = fit_image(Image.open(io.BytesIO(data)), Fit(hashing.SIDE, 1, "stretch"))
    return hashing.hashes(hashing.frequencies(pixels))


def measure_hashing(count: int, side: int, colour: bool, workers: int, peer: str) -> dict[str, Any]:
    """Rates in images/s and their ratios: medians of rounds in which all take turns, for a machine is never quiet."""
    with tempfile.TemporaryDirectory() as name:
        folder, archive = Path(name) / "images", Path(name) / "images.zip"
        folder.mkdir()
        with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
            drawn = list(pool.map(partial(draw, side=side, colour=colour), range(min(count, DRAWN)), chunksize=16))
        paths = [f"{i:05d}.jpg" for i in range(count)]
        with zipfile.ZipFile(archive, "w") as out:
            for i, path in enumerate(paths):
                out.writestr(path, drawn[i % DRAWN])
                (folder / path).write_bytes(drawn[i % DRAWN])
        rounds = []
        for _ in range(ROUNDS):
            ours, ours_cpu = timed(lambda: hash_all(archive, paths, workers))
            alone, alone_cpu = timed(lambda: decode_all(archive, paths, workers, scaled=True))
            full, _ = timed(lambda: decode_all(archive, paths, workers, scaled=False))
            row = {"ours": count / ours, "decode_alone": count / alone, "full_decode_alone": count / full}
            row |= {"ratio_to_decode_alone": alone / ours, "ratio_to_decode_alone_in_cpu_time": alone_cpu / ours_cpu}
            theirs = peer_all(peer, folder, workers)
            if theirs is not None:
                row |= {"imagededup": count / theirs, "ratio_to_imagededup": theirs / ours}
            rounds.append(row)
        found = hash_all(archive, paths[: len(drawn)], workers)
        distance = np.bitwise_count(found ^ np.concatenate([full_hash(data) for data in drawn]))
    result: dict[str, Any] = {key: round(statistics.median(row[key] for row in rounds), 2) for key in rounds[0]}
    result["agreement_with_full_decode"] = {f"{n} bits": round(float((distance <= n).mean()), 4) for n in (0, 2, 4)}
    print(
        f"hashing {count} JPEGs of {side} px, {'colour' if colour else 'grey'}, {workers} processes:",
        json.dumps(result),
    )
    return result


def measure_search(exponent: int) -> dict[str, Any]:
    """All pairs at most 4 bits apart among 10^exponent random hashes, a tenth of them planted neighbours."""
    rng = np.random.default_rng(exponent)
    count = 10**exponent
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    planted = count // 10
    hashes[-planted:] = hashes[:planted]
    for _ in range(4):
        hashes[-planted:] ^= np.uint64(1) << rng.integers(0, 64, planted, dtype=np.uint64)
    start = time.perf_counter()
    values, value = np.unique(hashes, return_inverse=True)
    found = hamming.neighbours(values, None, 4)
    seconds = time.perf_counter() - start
    a, b = value[:planted], value[-planted:]
    wanted = np.minimum(a, b) * len(values) + np.maximum(a, b)
    recall = float((np.isin(wanted, found.left * len(values) + found.right) | (a == b)).mean())
    pairs = len(found.left)
    del found
    tracemalloc.start()
    hamming.neighbours(values, None, 4)
    peak = tracemalloc.get_traced_memory()[1] + values.nbytes
    tracemalloc.stop()
    result = {
        "hashes": count,
        "seconds": round(seconds, 3),
        "peak_mib": round(peak / 2**20),
        "pairs": pairs,
        "recall": recall,
    }
    print("search:", json.dumps(result))
    return result


def measure_grouping(count: int) -> dict[str, Any]:
    """Groups of ``count`` images by the hashes of both frames, turned and inverted, beyond ``Dedupe.limit``.

    The hashes are simulated: every image has random ones for each frame, orientation and tone, a tenth are copies at
    most 4 bits apart. What is timed is all that follows hashing but the pixels' confirmation.
    """
    rng = np.random.default_rng(count)
    planted = count // 10
    resource_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parts, seconds = [], 0.0
    for _ in range(2):  # frames
        whole = rng.integers(0, 2**64, count, dtype=np.uint64)
        whole[-planted:] = whole[:planted]
        for _ in range(4):
            whole[-planted:] ^= np.uint64(1) << rng.integers(0, 64, planted, dtype=np.uint64)
        for way in range(16):
            turned = whole if way == 0 else rng.integers(0, 2**64, count, dtype=np.uint64)
            start = time.perf_counter()
            parts.append(candidates.near_members(whole, turned if way else None, Dedupe().distance)[:2])
            seconds += time.perf_counter() - start
    start = time.perf_counter()
    a, b = (np.concatenate(side) for side in zip(*parts, strict=True))
    group = candidates.components(count, a, b)
    seconds += time.perf_counter() - start
    result = {
        "images": count,
        "seconds": round(seconds, 1),
        "peak_mib": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resource_before) / 1024),
        "planted_found": float((group[-planted:] == group[:planted]).mean()),
    }
    print("grouping by hashes of two frames in 16 ways each:", json.dumps(result))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=4000, help="JPEGs to hash")
    parser.add_argument("--side", type=int, default=512, help="their side, pixels")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--largest", type=int, default=6, help="search up to 10 to this power")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has imagededup")
    options = parser.parse_args()
    hashed = {
        name: measure_hashing(options.count, options.side, name == "colour", options.workers, options.peer_python)
        for name in ("grey", "colour")
    }
    grouped = measure_grouping(10**options.largest)
    searched = [measure_search(exponent) for exponent in range(4, options.largest + 1)]
    sizes, times = ([math.log(row[key]) for row in searched] for key in ("hashes", "seconds"))
    growth = round(float(np.polyfit(sizes, times, 1)[0]), 2)
    result = {"hashing": hashed, "search": searched, "grouping": grouped, "growth_exponent": growth}
    print(json.dumps({**result, "workers": options.workers}))


if __name__ == "__main__":
    main()
