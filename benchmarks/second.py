"""The second auditor on slices whose patients are known by fold: its thresholds, and what they are worth.

    python benchmarks/second.py ARCHIVE [--size 96] [--rounds 2]

ARCHIVE is cheng--figshare-1512427.zip. The correlation is chosen on folds 1 and 2, the strictest that keeps 99% of
their altered copies, and judged on folds 3 to 5: altered copies found among all slices, and candidates of two folds
accepted. Neighbours in a fold are no copies and mostly one patient's. Prints Markdown; the last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.stats import binomtest

from tumorxai.archives.images import Fit, fit_image
from tumorxai.audit import second
from tumorxai.base.dataset import read_table
from tumorxai.catalogue import catalogue
from tumorxai.config import Data

NAME = "cheng/figshare-1512427"
KEPT = 0.99
Picture = Image.Image


def padded(image: Picture) -> Picture:
    wide, high = (round(1.1 * side) for side in image.size)
    out = Image.new("L", (wide, high))
    out.paste(image, ((wide - image.width) // 2, (high - image.height) // 2))
    return out


def cropped(share: float) -> Callable[[Picture], Picture]:
    def crop(image: Picture) -> Picture:
        left, top = (round(side * (1 - share) / 2) for side in image.size)
        return image.crop((left, top, image.width - left, image.height - top))

    return crop


def head(image: Picture) -> Picture:
    box = image.point(lambda value: 255 * (value > 20)).getbbox()
    return image.crop(box)


def jpeg(image: Picture) -> Picture:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=60)
    return Image.open(stream).convert("L")


def turned(degrees: float) -> Callable[[Picture], Picture]:
    return lambda image: image.rotate(degrees, Image.Resampling.BICUBIC)


ALTERED: dict[str, Callable[[Picture], Picture]] = {
    "padded by 10%": padded,
    "cropped to the head": head,
    "cropped to 95%": cropped(0.95),
    "cropped to 90%": cropped(0.9),
    "turned by 2 degrees": turned(2),
    "turned by 5 degrees": turned(5),
    "turned by 10 degrees": turned(10),
    "turned by 90 degrees": turned(90),
    "shifted by 5 px": lambda image: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 5, 0, 1, 5)),
    "mirrored": ImageOps.mirror,
    "inverted": ImageOps.invert,
    "JPEG of quality 60": jpeg,
}
HARD: dict[str, Callable[[Picture], Picture]] = {  # told, but not chosen on
    "cropped to 80%": cropped(0.8),
    "gamma 0.6": lambda image: image.point([round(255 * (value / 255) ** 0.6) for value in range(256)]),
    "equalised": ImageOps.equalize,
    "stretched by 15%": lambda image: image.resize((round(1.15 * image.width), image.height)),
}


def load(archive: Path, size: int) -> tuple[pd.DataFrame, NDArray[np.uint8], list[Picture]]:
    """The slices: their table, packed, and as they are."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        settings = Data.model_validate({"sources": [NAME], "taxonomy": "native", "image_size": size})
        for line in catalogue.build(archive.parent, settings, root, root / "catalogue.json", root):
            print(line)
        table, packed = read_table(root / "catalogue.csv"), np.load(root / "pack.npy", allow_pickle=False)
    with zipfile.ZipFile(archive) as opened:
        pictures = [Image.open(io.BytesIO(opened.read(path))).convert("L") for path in table["path"]]
    return table, packed, pictures


def interval(hits: int, count: int) -> str:
    """A share with its 95% Wilson interval, in percent."""
    if not count:
        return "–"
    low, high = binomtest(hits, count).proportion_ci(method="wilson")
    return f"{hits} of {count}: {100 * hits / count:.2f} [{100 * low:.2f}, {100 * high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=2, help="altered copies of each slice, one in each round")
    asked = parser.parse_args()
    table, packed, pictures = load(asked.archive, asked.size)
    fold, number = table["fold"].astype(int).to_numpy(), len(table)
    rng = np.random.default_rng(0)
    kinds = ALTERED | HARD
    found: dict[str, Any] = {name: [] for name in kinds}
    for _ in range(asked.rounds):  # a slice has one altered copy in a round: two would be each other's nearest
        drawn = [rng.permutation(np.flatnonzero(fold == k)) for k in range(1, 6)]
        share = min(map(len, drawn)) // len(kinds)
        picked = [np.concatenate([own[i * share : (i + 1) * share] for own in drawn]) for i in range(len(kinds))]
        fit = Fit(asked.size, 1, "pad")
        copies = [
            fit_image(alter(pictures[place]), fit)
            for alter, own in zip(kinds.values(), picked, strict=True)
            for place in own
        ]
        pairs = second.find(np.concatenate([packed, copies]), np.arange(number + len(copies)), 10**6, 0).pairs
        pairs = pairs[pairs["inliers"] >= second.INLIERS].set_index(["image_a", "image_b"])["correlation"]
        for i, name in enumerate(kinds):
            own = number + 5 * share * i + np.arange(5 * share)
            found[name].append(pairs.reindex(zip(picked[i], own, strict=True)).fillna(-1).to_numpy())
        held = np.tile(np.repeat(np.arange(1, 6) > 2, share), asked.rounds)
    found = {name: np.concatenate(values) for name, values in found.items()}
    chosen = np.floor(100 * np.quantile(np.concatenate([found[name][~held] for name in ALTERED]), 1 - KEPT)) / 100
    print(f"\ncorrelation chosen on folds 1 and 2: {chosen:.2f}; in use {second.CORRELATION}\n")
    print("| altered copies of folds 3 to 5 | found among all slices, % |\n|---|---|")
    for name, values in found.items():
        print(f"| {name} | {interval(int((values[held] >= second.CORRELATION).sum()), int(held.sum()))} |")
    pairs = second.find(packed, np.arange(number), 10**6, 0).pairs
    a, b = fold[pairs["image_a"]], fold[pairs["image_b"]]
    order = table["path"].str.extract(r"(\d+)\.", expand=False).astype(int).to_numpy()
    apart = np.abs(order[pairs["image_a"]] - order[pairs["image_b"]])
    result: dict[str, Any] = {"chosen": float(chosen)}
    print("\n| candidates | looked at | copies, % | of one series, % |\n|---|---|---|---|")
    for name, rows in {
        "of two folds, 1 and 2": (a != b) & (a < 3) & (b < 3),
        "of two folds, 3 to 5": (a != b) & (a > 2) & (b > 2),
        "of one fold 3 to 5, over 20 numbers apart": (a == b) & (a > 2) & (apart > 20),
        "of one fold 3 to 5, at most 3 numbers apart": (a == b) & (a > 2) & (apart <= 3),
    }.items():
        of, copy, alike = int(rows.sum()), *(int((rows & (pairs["kind"] == kind)).sum()) for kind in ("copy", "alike"))
        result[name] = [of, copy, alike]
        print(f"| {name} | {of} | {interval(copy, of)} | {interval(alike, of)} |")
    follow = pd.Series(False, index=range(number))
    near = pairs[(pairs["kind"] != "") & (a == b) & (apart <= 3)]
    follow[pd.unique(near[["image_a", "image_b"]].to_numpy().ravel())] = True
    result["slices with a neighbour found"] = share = float(follow[fold > 2].mean())
    print(f"\nslices of folds 3 to 5 with a neighbour at most 3 numbers away that is found: {100 * share:.1f}%")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
