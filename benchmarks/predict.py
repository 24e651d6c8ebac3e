"""Predictions of many images at once, beside one by one, on a finished run.

    python benchmarks/predict.py [--root .] [--images 1000] [--alone 50]

The images are those of the run's pack as PNG files, over and over, slightly brightened so that no two are equal. Prints
images a second, with and without the search for copies, in one run on one machine; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tumorxai.run import batch
from tumorxai.run.case import Workspace


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--alone", type=int, default=50, help="images that are asked about one by one")
    options = parser.parse_args()
    workspace = Workspace.open(options.root)
    pack = workspace.dataset.images
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(options.images):
            pixels = pack[i % len(pack)].transpose(1, 2, 0).squeeze() + np.uint8(i // len(pack))
            Image.fromarray(pixels).save(folder / f"{i:06}.png")
        asked = batch.files([folder])
        rates = {}
        workspace.predict(workspace.read(asked[0].path.read_bytes()))
        start = time.perf_counter()
        for file in asked[: options.alone]:
            workspace.predict(workspace.read(file.path.read_bytes()))
        rates["one_by_one"] = options.alone / (time.perf_counter() - start)
        for key, copies in (("many", True), ("many_without_copies", False)):
            run = batch.Run(options.root, copies)
            start = time.perf_counter()
            found = batch.predict(asked, run)
            rates[key] = len(found) / (time.perf_counter() - start)
    for key, rate in rates.items():
        print(f"{key}: {rate:.1f} images/s, {rate / rates['one_by_one']:.1f} times one by one")
    print(json.dumps({key: round(rate, 2) for key, rate in rates.items()} | {"cpus": os.cpu_count()}))


if __name__ == "__main__":
    main()
