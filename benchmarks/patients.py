"""What keeping patients apart is worth, on archives of real images.

    python -m benchmarks.patients sides FOLDER [--seeds 8]    # series on both sides, and the pixel neighbour
    python -m benchmarks.patients registry FOLDER             # who inherits a fold, and how surely

FOLDER holds OWNER--SLUG.zip files. `sides` draws splits of Sartaj's archive, of the three archives of Firildak et al.
(as shares, and in their sizes), of the archive of 44 classes and of Cheng's with its folds hidden, under each
protocol. It prints how many of the test images whose place in a series is known have a slice of it in training, at
most three numbers away; how many have any slice of their fold there, as near, which may be the next patient's (an upper
bound, should the order be cut wrongly into series); and the accuracy of a nearest neighbour on raw pixels. `registry`
prints how far images of other archives are from Cheng's slices, whether the labels agree, and which altered copies of
Cheng's slices are still recognised, in the right fold. Prints Markdown; the last line is one JSON object. With
`--into results/patients.json` the tables take their place there.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from benchmarks.record import keep
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from tumorxai import config
from tumorxai.archives import sources
from tumorxai.archives.sources import archive_name
from tumorxai.base.dataset import Dataset, read_table
from tumorxai.base.pixels import nearest, pixels
from tumorxai.catalogue.listing import list_archive
from tumorxai.config import Split
from tumorxai.files import read_array
from tumorxai.patients import frames, make_registry, patients, registry
from tumorxai.patients.crossing import crossing
from tumorxai.split.split import draw
from tumorxai.tools import results, splits
from tumorxai.tools.splits import CHENG, CLASSES_44, DUBAIL, SARTAJ, SHREYAG, Images

SIZES: dict[str, Any] = {"train": 1235, "unlabelled": "rest", "validation": 0, "test": 308}
FIFTHS: dict[str, Any] = {"train": 0.6, "validation": 0.2, "test": 0.2}


class Drawn(NamedTuple):
    """Images that are split.

    Attributes:
        images: of which archives.
        sizes: of the sides.
        told: what the split may know: ``all``, the ``series`` of the source's order without its folds, or ``nothing``
            but how images look.
    """

    images: Images
    sizes: dict[str, Any]
    told: str = "all"


MIXED = Images([SARTAJ, SHREYAG, DUBAIL], conflicts="keep")
SETS = {
    "Sartaj": Drawn(Images([SARTAJ]), {}),
    "Firildak's three": Drawn(MIXED, {}),
    "the same, their sizes": Drawn(MIXED, SIZES),
    "44 classes as 17": Drawn(Images([CLASSES_44], taxonomy="seventeen"), {}),
    "Cheng, nothing told": Drawn(Images([CHENG]), {}, "nothing"),
    "Cheng, series told": Drawn(Images([CHENG]), {}, "series"),
    "Cheng, folds told": Drawn(Images([CHENG]), FIFTHS),
}
PROTOCOLS = ("random", "grouped", "patients")
COLUMNS = {
    "test images": "test",
    "of known series": "known",
    "with a slice of it in training, %": "share",
    "or unlabelled, %": "learnt",
    "or of the next in its fold in training, %": "close",
    "pixel neighbour, %": "canary",
    "left out": "dropped",
}
UNITS = [0, 0, "%", "%", "%", "%", 0]


class Loaded(NamedTuple):
    """Images, what the split goes by, what the duplicate groups are, and the truth about series."""

    dataset: Dataset
    table: pd.DataFrame
    groups: pd.DataFrame
    truth: pd.DataFrame


def load(folder: Path, drawn: Drawn) -> Loaded:
    """Catalogue, deduplicate and tell patients."""
    with tempfile.TemporaryDirectory() as place:
        data = Path(place)
        splits.prepare(folder, drawn.images, data)
        table, grouped, truth = (read_table(data / f"{name}.csv") for name in ("catalogue", "groups", "patients"))
        truth = truth.assign(slice=truth["slice"].astype(np.int64))
        images = np.array(read_array(data / "pack.npy"))
        told = truth
        if drawn.told != "all":
            table, told = table.assign(fold="", patient=""), truth.assign(patient="")
        if drawn.told == "nothing":
            number, first = pd.factorize(table["pixels_sha256"])[0], ~table["pixels_sha256"].duplicated()
            files = [
                (folder / archive_name(name), path) for name, path in table.loc[first, ["source", "path"]].to_numpy()
            ]
            none = registry.Match(np.full(len(files), -1), np.full(len(files), frames.BITS))
            told = patients.tell(
                table, grouped["group"], frames.load(files), number, registry.load(), none, np.full(len(table), -1)
            )
    table = table.assign(subject=told["patient"], series=told["series"], known=told["known"])
    joined = table.assign(**grouped[["group", "label", "status"]])
    return Loaded(Dataset(images, joined, tuple(sorted(set(joined["label"])))), table, grouped, truth)


def sides(folder: Path, names: list[str], seeds: int, into: Path | None) -> dict[str, Any]:
    """Draw sets under every protocol and seed."""
    result: dict[str, Any] = {}
    print(f"| images | {' | '.join(COLUMNS)} |\n" + "|---" * (1 + len(COLUMNS)) + "|")
    for name in names:
        own, drawn = load(folder, SETS[name]), SETS[name]
        small, labels = pixels(own.dataset, config.Audit().canary_size), pd.factorize(own.groups["label"])[0]
        for protocol in PROTOCOLS:
            rows = []
            for seed in range(seeds):
                settings = Split.model_validate({"protocol": protocol, **drawn.sizes})
                side = draw(own.table, own.groups, settings, seed)["side"].to_numpy()
                train, test = np.flatnonzero(side == "train"), np.flatnonzero(side == "test")
                found = crossing(own.truth, side)
                both = crossing(own.truth, side, ("train", "unlabelled"))
                next_to = crossing(own.truth.assign(series="any"), side)
                right = labels[nearest(small, train, test)] == labels[test]
                rows.append(
                    {
                        "test": len(test), "known": found["known"], "share": found["share"], "learnt": both["share"],
                        "close": next_to["share"], "likely": found["likely"], "likely_share": found["likely_share"],
                        "canary": right.mean(), "dropped": int((side == "dropped").sum()),
                    }
                )  # fmt: skip
            table = pd.DataFrame(rows).astype(float)
            key = f"{name}, {protocol}"
            result[key] = {
                column: {"mean": values.mean(), "sd": values.std(ddof=1)}
                for column, values in table.items()
                if values.notna().any()  # where there is any such image
            }
            cells = [spread(table[column], unit) for column, unit in zip(COLUMNS.values(), UNITS, strict=True)]
            print(f"| {key} | {' | '.join(map(results.cell, cells, UNITS))} |", flush=True)
            if into:
                keep(into, "sides", {key: cells}, {key: result[key]})
    return result


def spread(values: pd.Series[float], unit: str | int) -> Any:
    """Mean over seeds, of shares with the least and the most; nothing where there was no image."""
    if values.isna().all():
        return None
    if unit != "%":
        return round(values.mean())
    return {"value": values.mean(), "low": values.min(), "high": values.max()}


def inherited(folder: Path, into: Path | None) -> dict[str, Any]:
    """Distances of other archives' images, agreement of labels, and recall of altered copies."""
    slices, blocks = registry.load(), sources.load()
    own = make_registry.read(folder / archive_name(CHENG))
    cheng = np.array([text.split("/")[0] for text in own.apart])
    result: dict[str, Any] = {}
    print(f"{slices.source}: {len(slices.table)} slices; a copy is at most {registry.RADIUS} bits away\n")
    print("| images of | images | copies | of so many slices | farthest copy | next image beyond | labels agree |")
    print("|---|---|---|---|---|---|---|")
    for name in (SARTAJ, SHREYAG, DUBAIL):
        listed = list_archive(folder / archive_name(name), name, blocks[name]).candidates
        match = slices.match(frames.load([(folder / archive_name(name), each.path) for each in listed]))
        copies = match.row >= 0
        group = np.array([blocks[name].classes[each.native_label].group for each in listed])
        agree = int((group[copies] == cheng[match.row[copies]]).sum())
        result[name] = {
            "images": len(listed), "copies": int(copies.sum()), "slices": len(np.unique(match.row[copies])),
            "farthest": int(match.distance[copies].max()), "next": int(match.distance[~copies].min()), "agree": agree,
        }  # fmt: skip
        print("|", " | ".join(map(str, (name, *result[name].values()))), "|", flush=True)
    print("\n| altered copies of Cheng's | recognised in the right fold | in another |\n|---|---|---|")
    chosen = np.sort(np.random.default_rng(0).choice(len(cheng), 300, replace=False))
    pictures = originals(folder / archive_name(CHENG), own.number[chosen])
    for name, alter in ALTERED.items():
        drawn = [frames.frame(alter(image)) for image in pictures]
        match = slices.match(frames.Frames(*(np.stack(each) for each in zip(*drawn, strict=True))))
        found, right = match.row >= 0, own.fold[match.row] == own.fold[chosen]
        result[name] = [int((found & right).sum()), int((found & ~right).sum())]
        print(f"| {name} | {result[name][0]} of {len(chosen)} | {result[name][1]} |", flush=True)
    if into:
        archives = (SARTAJ, SHREYAG, DUBAIL)
        rows = {name.split("/")[0]: list(result[name].values()) for name in archives}
        keep(into, "registry", rows, {name: result[name] for name in archives})
        altered = {name: result[name] for name in ALTERED}
        keep(into, "altered", altered, altered)
    return result


def originals(archive: Path, numbers: np.ndarray) -> list[Image.Image]:
    """Pictures of the slices of some numbers, in grey."""
    block, drawn = sources.load()[CHENG], {}
    with zipfile.ZipFile(archive) as opened:
        for path in opened.namelist():
            if (number := sources.order(block, path)) in numbers:
                drawn[number] = Image.open(io.BytesIO(opened.read(path))).convert("L")
    return [drawn[number] for number in numbers]


def cropped(image: Image.Image, share: float) -> Image.Image:
    """The middle of an image, a share of each side."""
    margins = [round(side * (1 - share) / 2) for side in image.size]
    return image.crop((*margins, image.width - margins[0], image.height - margins[1]))


def recoded(image: Image.Image) -> Image.Image:
    """As a JPEG of low quality."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=30)
    return Image.open(stream).convert("L")


def noisy(image: Image.Image) -> Image.Image:
    """With grey noise."""
    noise = np.random.default_rng(0).normal(0, 10, (image.height, image.width))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def marked(image: Image.Image) -> Image.Image:
    """With words across it."""
    image = image.copy()
    ImageDraw.Draw(image).text((image.width // 5, image.height // 2), "SAMPLE COPY", fill=255, font_size=24)
    return image


def rotated(degrees: int) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.rotate(degrees, Image.Resampling.BICUBIC)


ALTERED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as they are": lambda image: image,
    "JPEG of quality 30": recoded,
    "contrast 1.5": lambda image: ImageEnhance.Contrast(image).enhance(1.5),
    "gamma 0.6": lambda image: image.point([round(255 * (value / 255) ** 0.6) for value in range(256)]),
    "blurred by 1.5 pixels": lambda image: image.filter(ImageFilter.GaussianBlur(1.5)),
    "noise of 10 grey levels": noisy,
    "squeezed to 4/5": lambda image: image.resize((image.width, image.height * 4 // 5)),
    "mirrored": ImageOps.mirror,
    "turned by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "padded by 10 %": lambda image: ImageOps.expand(image, image.width // 10),
    "cropped to the head": lambda image: image.crop(frames.head_box(np.asarray(image))),
    "cropped to 95 %": lambda image: cropped(image, 0.95),
    "cropped to 90 %": lambda image: cropped(image, 0.90),
    "rotated by 2 degrees": rotated(2),
    "rotated by 5 degrees": rotated(5),
    "rotated by 10 degrees": rotated(10),
    "equalised": ImageOps.equalize,
    "shifted by 5 pixels": lambda image: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 5, 0, 1, 5)),
    "with a watermark": marked,
    "inverted": ImageOps.invert,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    for name in ("sides", "registry"):
        mode = modes.add_parser(name)
        mode.add_argument("folder", type=Path)
        mode.add_argument("--into", type=Path, metavar="FILE", help="JSON file that receives the tables as well")
        if name == "sides":
            mode.add_argument("--seeds", type=int, default=8)
            mode.add_argument("--only", nargs="+", default=list(SETS), choices=SETS, metavar="SET", help="default: all")
    asked = parser.parse_args()
    if asked.mode == "sides":
        result = sides(asked.folder, asked.only, asked.seeds, asked.into)
    else:
        result = inherited(asked.folder, asked.into)
    print(f"\n{json.dumps(result)}")


if __name__ == "__main__":
    main()
