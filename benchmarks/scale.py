"""How catalogue, dedupe, split and embed grow: time and memory on simulated images, from 10,000 to a million.

    python -m benchmarks.scale [--exponents 4 5 6] [--stages catalogue dedupe split embed] [--keep]

Runs the real stages one after the other, each in a process of its own, in a folder that takes 25 GB at a million
images. The images are drawn, grey, of 32 px, ten of each patient; one in twelve has a copy, half of them with other
pixels. What is not simulated is what the stages do with them, but for the table of patients, which is what the source
declares: to look for series compares each image with all others. So does dedupe up to `dedupe.limit` images; here that
is 0, for all sizes to go the way of large ones. Memory is that of all processes of a stage together
(their proportional shares, looked at ten times a second): with the pages of files that are mapped, and without, for
these the system takes back when it needs the room. Time is what all of a stage's processes have computed, and what the
clock says, which is longer on a machine that others use too. The growth exponent is the slope of log computing time
over log images. With `--keep` the figures go to results/scale.json. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.record import keep
from PIL import Image
from scipy.fft import dct

from tumorxai import config
from tumorxai.archives import sources

SIDE = 32  # of an image, pixels
LOW = 12  # frequencies of it per axis
SLICES = 10  # images of a patient
BATCH = 1000  # images drawn at once: whole patients
COPIED = 80  # of them have a copy
CLASSES = ("glioma", "meningioma", "pituitary", "no_tumor")
EVERY = 0.1  # seconds between two looks at the memory
BOUND = 8.0  # GiB that a stage may take
PARTS = ("Pss", "Pss_File")  # of /proc/PID/smaps_rollup: all, and what lies in files

PAGE: dict[str, Any] = {
    "title": "How stages grow",
    "about": [
        "The real stages on simulated grey images of 32 px, ten of each patient, one in twelve with a copy, each in a "
        "process of its own. Memory is that of all its processes together, with the pages of mapped files, and "
        "without: these the system takes back when it needs the room.",
    ],
    "commands": ["python -m benchmarks.scale --keep", "make results"],
    "tables": {
        "stages": {
            "title": "Time and memory",
            "corner": "stage, images",
            "columns": {
                "computing, s": 1, "ms an image": 3, "by the clock, s": 1, "GiB at most": 2,
                "GiB at most without mapped files": 2,
            },
        },
        "growth": {
            "title": "Growth exponents",
            "text": "The slope of log computing time over log images, by least squares; 1 is linear.",
            "corner": "stage",
            "columns": {"over all sizes": 2, "from the last size but one to the last": 2},
        },
    },
}  # fmt: skip


def drawn(start: int) -> list[tuple[str, bytes]]:
    """Paths in an archive and PNG files of BATCH images from number ``start`` on, the first with copies at the end."""
    rng = np.random.default_rng(start)
    waves = rng.normal(size=(BATCH, LOW, LOW)) / (1 + np.arange(LOW) + np.arange(LOW)[:, None])
    basis = dct(np.eye(SIDE), axis=0)[:LOW]
    scenes = basis.T @ waves @ basis
    low, high = (function(scenes, axis=(1, 2), keepdims=True) for function in (np.min, np.max))
    pixels = 255 * (scenes - low) / (high - low)
    # Of the first patients, to others of the same class; half of them with other pixels.
    pixels[-COPIED:] = pixels[:COPIED]
    half = COPIED // 2
    pixels[-half:] = (pixels[-half:] + rng.normal(0, 2, (half, SIDE, SIDE))).clip(0, 255)
    found = []
    for number, image in enumerate(pixels.astype(np.uint8), start):
        patient = number // SLICES
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG", compress_level=1)
        found.append(
            (f"{CLASSES[patient % len(CLASSES)]}/patient_{patient:06d}/{number % SLICES}.png", stream.getvalue())
        )
    return found


def simulate(folder: Path, count: int) -> None:
    """The archive of ``count`` images as the stage ``fetch`` leaves it, and the parameters that name it."""
    source = config.PathSource(path=str(folder / "simulated.zip"))
    data = config.Data(sources=[source], image_size=SIDE, channels=1)
    split = config.Split(protocol="patients")
    dedupe = config.Dedupe(limit=0)  # all sizes go the way of sets beyond it
    (folder / "params.json").write_text(config.Params(data=data, dedupe=dedupe, split=split).model_dump_json())
    archive = folder / "data/archives" / sources.archive_name(sources.identity(source))
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as out, ProcessPoolExecutor(mp_context=get_context("fork")) as pool:
        for first in range(0, count, 100 * BATCH):  # not all that is to be written waits in memory
            for files in pool.map(drawn, range(first, min(count, first + 100 * BATCH), BATCH)):
                for path, content in files:
                    out.writestr(path, content)


def _catalogue(params: config.Params, folder: Path) -> None:
    from tumorxai.catalogue import catalogue

    catalogue.run(params, folder / "data/archives", folder / "data", folder / "catalogue.json", folder / "plots")


def _dedupe(params: config.Params, folder: Path) -> None:
    from tumorxai.dedupe import groups

    groups.run(params.dedupe, folder / "data", folder / "data/archives", folder / "dedupe.json", folder / "plots")


def _declare(_: config.Params, folder: Path) -> None:
    """The table of patients as the stage of that name writes it where it finds no series."""
    from tumorxai.base.dataset import read_table
    from tumorxai.files import write_csv

    table = read_table(folder / "data/catalogue.csv")[["patient"]].assign(series="", known="known", slice=-1)
    write_csv(folder / "data/patients.csv", table.reset_index())


def _split(params: config.Params, folder: Path) -> None:
    from tumorxai.split import split

    split.run(params, folder / "data", folder / "split.json", folder / "plots/sides.csv")


def _encoder(_: config.Params, folder: Path) -> None:
    from tumorxai.networks import encoders

    model = config.Model(backbone="test_resnet")
    card = {"timm": model.backbone, "small_stem": False, "channels": 1, "size": SIDE, "mean": 0.3, "std": 0.2}
    encoders.save(encoders.build(model, 1, SIDE).state_dict(), folder / "encoder.safetensors", card)


def _embed(_: config.Params, folder: Path) -> None:
    from tumorxai.networks import embed

    embed.run(folder / "data/pack.npy", folder / "encoder.safetensors", folder / "embeddings.npy")


# What is measured, each after what it needs besides and what is not.
STAGES: dict[str, tuple[Callable[[config.Params, Path], None], ...]] = {
    "catalogue": (_catalogue,),
    "dedupe": (_dedupe,),
    "split": (_declare, _split),
    "embed": (_encoder, _embed),
}


def tree(process: int) -> Iterator[int]:
    """A process and all that it has started."""
    yield process
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from tree(int(child))


def memory(process: int) -> list[int]:
    """Proportional shares of memory of a process and all that it has started, kB, in the order of PARTS."""
    found = dict.fromkeys(PARTS, 0)
    for one in tree(process):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        for name, _, size in (line.partition(":") for line in lines):
            if name in found:
                found[name] += int(size.split()[0])
    return list(found.values())


def measure(stage: str, folder: Path) -> dict[str, float]:
    """Computing and clock seconds, and GiB at most with and without mapped files, of a stage in its own process."""
    command = [sys.executable, "-m", "benchmarks.scale", "--only", stage, "--folder", str(folder)]
    with open(folder / f"{stage}.log", "w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        peak, own, over = 0, 0, threading.Event()

        def watch() -> None:
            nonlocal peak, own
            while not over.wait(EVERY):
                whole, mapped = memory(process.pid)
                peak, own = max(peak, whole), max(own, whole - mapped)

        watcher = threading.Thread(target=watch)
        watcher.start()
        said = process.communicate()[0]
        over.set()
        watcher.join()
    if process.returncode:
        raise RuntimeError(f"{stage}: ended by {process.returncode}: {(folder / f'{stage}.log').read_text()[-2000:]}")
    computed, clock = map(float, said.splitlines()[-1].split())
    return {"cpu_s": computed, "seconds": clock, "gib": peak / 2**20, "own_gib": own / 2**20}


def run_here(stage: str, folder: Path) -> None:
    """One stage in this process; prints how long it computed and took."""
    params = config.Params.model_validate_json((folder / "params.json").read_text())
    *before, work = STAGES[stage]
    for each in before:
        each(params, folder)
    started, before_it = time.perf_counter(), sum(os.times()[:4])
    work(params, folder)
    print(sum(os.times()[:4]) - before_it, time.perf_counter() - started)


def growth(counts: list[int], seconds: list[float]) -> list[float | None]:
    """Slopes of log time over log images: of all sizes by least squares, and from the last but one to the last."""
    if len(counts) < 2:
        return [None, None]
    x, y = np.log(counts), np.log(seconds)
    return [round(float(np.polyfit(x, y, 1)[0]), 3), round(float((y[-1] - y[-2]) / (x[-1] - x[-2])), 3)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exponents", type=int, nargs="+", default=[4, 5, 6])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--keep", action="store_true", help="write results/scale.json")
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's temporary folder")
    parser.add_argument("--only", choices=STAGES, help=argparse.SUPPRESS)  # what the process of a stage is called with
    asked = parser.parse_args()
    if asked.only:
        run_here(asked.only, asked.folder)
        return
    found: dict[str, dict[int, dict[str, float]]] = {stage: {} for stage in asked.stages}
    for exponent in sorted(asked.exponents):
        count = 10**exponent
        with tempfile.TemporaryDirectory(prefix="tumorxai-scale-", dir=asked.folder) as name:
            simulate(Path(name), count)
            for stage in STAGES:
                if stage in found:
                    found[stage][count] = measure(stage, Path(name))
                    print(json.dumps({"stage": stage, "images": count, **found[stage][count]}), flush=True)
                elif set(found) & set(list(STAGES)[list(STAGES).index(stage) :]) and stage != "embed":
                    subprocess.run(
                        [sys.executable, "-m", "benchmarks.scale", "--only", stage, "--folder", name], check=True
                    )
    grown = {stage: growth(list(rows), [row["cpu_s"] for row in rows.values()]) for stage, rows in found.items()}
    bounded = {stage: max(row["gib"] for row in rows.values()) <= BOUND for stage, rows in found.items()}
    if asked.keep:
        rows = {
            f"{stage}, {count:,}": [
                row["cpu_s"],
                1000 * row["cpu_s"] / count,
                row["seconds"],
                row["gib"],
                row["own_gib"],
            ]
            for stage, sizes in found.items()
            for count, row in sizes.items()
        }
        keep(Path("results/scale.json"), "stages", rows, {}, PAGE)
        keep(Path("results/scale.json"), "growth", dict(grown), {}, PAGE)
    print(json.dumps({"growth": grown, "below_8_gib": bounded, "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
