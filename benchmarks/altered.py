"""What deduplication finds: in archives of real images, against known truth, and how far its threshold generalises.

    python -m benchmarks.altered folds FOLDER SOURCE      thresholds chosen on some folds, judged on the others
    python -m benchmarks.altered altered FOLDER SOURCE    recall by kind of alteration, false pairs, beside other tools

FOLDER holds OWNER--SLUG.zip files, SOURCE has folds (Cheng's). Prints Markdown; the last line is one JSON object. With
--into FILE before the mode, the counts take their place in that file, from which `make results` writes the page.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks import persons
from benchmarks.copies import Loaded, keep, load
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps
from scipy.stats import binomtest

from tumorxai.archives.sources import archive_name
from tumorxai.config import Dedupe
from tumorxai.dedupe import hashing
from tumorxai.dedupe.copies import find
from tumorxai.tools import results_copies

LIMIT = 0.007  # share of the accepted pairs that may be false
STILL, MOVED = 0.5, 0.7  # least thresholds that are tried, of pairs in place and of moved ones

Alter = Callable[[Image.Image, np.random.Generator], Image.Image]


def across_folds(folder: Path, name: str) -> dict[str, Any]:
    """Thresholds chosen on some published folds and judged on the others, in every way to choose so many.

    A pair of two folds is false, unless its slices are of a person who stands in both (:mod:`benchmarks.persons`).
    ``similarity`` is the least for which, of the pairs in place, and ``strict`` the least for which, of all pairs, the
    upper end of the 95% Wilson interval of the false share stays within LIMIT: what is chosen on few pairs must be
    stricter. A pair is counted once, with the fold of its first image, so that no pair is chosen on and judged.
    """
    loaded = load(folder, [name])
    table, pairs = loaded.table, correlations(loaded)
    person = persons.registered(table)
    fold = table["fold"].to_numpy().astype(int)
    first, one, other = (
        values[pairs[end]] for values, end in ((fold, "image_a"), (person, "image_a"), (person, "image_b"))
    )
    crossing = first != fold[pairs["image_b"]]
    false = crossing & ((one != other) | (one < 0))
    still, moved = pairs["still"].to_numpy(), pairs["moved"].to_numpy()

    def counted(similarity: float, strict: float, part: NDArray[np.bool_]) -> dict[str, int]:
        kept = part & ((still >= similarity) | (moved >= strict))
        return {"accepted": int(kept.sum()), "false": int(false[kept].sum()), "crossing": int(crossing[kept].sum())}

    def least(
        part: NDArray[np.bool_], steps: NDArray[np.float64], place: Callable[[float], tuple[float, float]]
    ) -> float:
        for step in steps:
            found = counted(*place(step), part)
            if (
                found["accepted"]
                and binomtest(found["false"], found["accepted"]).proportion_ci(method="wilson").high <= LIMIT
            ):
                return float(step)
        return 1.0

    ways: dict[str, list[dict[str, Any]]] = {}
    for size in (2, 3):
        ways[str(size)] = []
        for chosen in combinations(np.unique(fold).tolist(), size):
            part = np.isin(first, chosen)
            similarity = least(part, np.round(np.arange(STILL, 1, 0.01), 2), lambda step: (step, 1.1))
            strict = least(
                part, np.round(np.arange(MOVED, 1, 0.01), 2), lambda step, similarity=similarity: (similarity, step)
            )
            row = {"chosen_on": list(chosen), "similarity": similarity, "strict": strict}
            if similarity < 1:
                row |= {"there": counted(similarity, strict, part), "others": counted(similarity, strict, ~part)}
            ways[str(size)].append(row)
    every = np.ones(len(pairs), dtype=bool)
    return {
        "source": name,
        "limit": LIMIT,
        "persons": persons.listed(table, person),
        "slices": int((person >= 0).sum()),
        "ways": ways,
        "configured": {
            "similarity": Dedupe().similarity,
            "strict": Dedupe().strict,
            **counted(Dedupe().similarity, Dedupe().strict, every),
        },
    }


def correlations(loaded: Loaded) -> pd.DataFrame:
    """Pairs of images with their correlation as they lie, ``still``, and aligned, ``moved``; 0 below STILL, MOVED."""
    kinds = {}
    for kind, settings in (
        ("still", Dedupe(similarity=STILL, strict=0.99)),
        ("moved", Dedupe(similarity=0.99, strict=MOVED)),
    ):
        pairs = find(loaded.images, loaded.pixels, settings).pairs
        if kind == "still":
            moved = pairs[["shift_x", "shift_y", "rotation", "orientation"]].any(axis=1) | (pairs["scale"] != 1)
            pairs = pairs[~moved]
        kinds[kind] = pairs.set_index(["image_a", "image_b"])["correlation"]
    return pd.concat(kinds, axis=1).fillna(0.0).reset_index()


def altered(folder: Path, name: str, count: int, python: str, weights: Path | None) -> dict[str, Any]:
    """Recall by kind: ``count`` images have one altered copy each, as a JPEG of quality 90, beside all originals.

    Ten kinds are altered at once, each on other images, so that no image has two copies. A copy counts as found when it
    is paired with its original; pairs with originals of other folds are false, unless they are of a person who stands
    in both (:mod:`benchmarks.persons`).
    """
    table = load(folder, [name]).table
    fold, number = table["fold"].to_numpy(), persons.order(table)
    person = persons.registered(table)
    rows: dict[str, Any] = {}
    with zipfile.ZipFile(folder / archive_name(name)) as opened:
        files = [opened.read(path) for path in table["path"]]
    originals = [Image.open(io.BytesIO(data)).convert("L") for data in files]
    names = list(KINDS)
    for start in range(0, len(names), 10):
        kinds = names[start : start + 10]
        share = min(count, len(files) // len(kinds))
        order = np.random.default_rng([7, start]).permutation(len(files))
        sets = {kind: np.sort(order[i * share : (i + 1) * share]) for i, kind in enumerate(kinds)}
        data = []
        for place, (kind, chosen) in enumerate(sets.items(), start):
            rng = np.random.default_rng([8, place])
            data += [jpeg(KINDS[kind](originals[i], rng), 90) for i in chosen]
        origin = np.concatenate([np.arange(len(files)), *sets.values()])
        shrunk = [hashing.thumbnail(each) for each in [*files, *data]]
        images = hashing.Images(*(np.concatenate(each) for each in zip(*shrunk, strict=True)))
        found = {"ours": find(images, np.arange(len(origin)), Dedupe()).pairs[["image_a", "image_b"]].to_numpy()}
        found |= peers(python, weights, [*files, *data], len(data))
        for i, (kind, chosen) in enumerate(sets.items()):
            low = len(files) + i * share
            rows[kind] = {}
            for tool, pairs in found.items():
                own = pairs[(pairs[:, 1] >= low) & (pairs[:, 1] < low + share) & (pairs[:, 0] < len(files))]
                one, other = own[:, 0], origin[own[:, 1]]
                crossing = fold[one] != fold[other]
                false = crossing & ((person[one] != person[other]) | (person[one] < 0))
                row = {"copies": len(chosen), "found": int((one == other).sum())}
                row |= {"crossing": int(crossing.sum()), "false": int(false.sum())}
                if tool == "ours":
                    row["crossing_numbers"] = np.stack([number[one], number[other]], axis=1)[crossing].tolist()
                rows[kind][tool] = row
    return {"source": name, "kinds": rows}


PEER = """
import json, logging, sys
from pathlib import Path
import numpy as np
logging.disable(logging.CRITICAL)
from imagededup.methods import CNN, PHash
from imagededup.utils import CustomModel
folder, weights = Path(sys.argv[1]), sys.argv[2]
found = {}
pairs = lambda near: [[a, b] for a, others in near.items() for b in others if a < b]
hasher = PHash(verbose=False)
codes = hasher.encode_images(folder, num_enc_workers=2)
for most in (4, 10):
    near = hasher.find_duplicates(encoding_map=codes, max_distance_threshold=most)
    found[f"imagededup pHash, {most} bits"] = pairs(near)
if weights:
    import timm
    network = timm.create_model("tf_efficientnet_lite0", checkpoint_path=weights).eval()
    network.reset_classifier(0)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    cnn = CNN(verbose=False, model_config=CustomModel("EfficientNet-Lite0", network, transform))
    codes = cnn.encode_images(folder)
    near = cnn.find_duplicates(encoding_map=codes, min_similarity_threshold=0.9)
    found["imagededup CNN, cosine 0.9"] = pairs(near)
    try:
        from selfclean.cleaner.selfclean_cleaner import IssueTypes, SelfCleanCleaner
    except ImportError as error:
        print("SelfClean: left out,", str(error)[:120], file=sys.stderr)
    else:
        names = sorted(codes)
        cleaner = SelfCleanCleaner(auto_cleaning=True, log_level="ERROR")
        cleaner.fit(np.stack([codes[name] for name in names]))
        near = cleaner.predict([IssueTypes.NEAR_DUPLICATES])["near_duplicates"]
        ranked = np.sort(near["indices"], axis=1)
        cuts = {"its own cut": ranked[near["auto_issues"]], "as many pairs as copies": ranked[: int(sys.argv[3])]}
        found |= {f"SelfClean, {cut}": [[names[a], names[b]] for a, b in chosen] for cut, chosen in cuts.items()}
print(json.dumps(found))
"""


def peers(python: str, weights: Path | None, data: list[bytes], copies: int) -> dict[str, NDArray[np.int64]]:
    """Pairs that other tools find among files, by tool; none if the interpreter does not have imagededup.

    The network of imagededup's CNN comes from a hub; here it is EfficientNet-Lite0 with ``weights``, as its
    ``CustomModel`` allows. SelfClean ranks all pairs by the same features: of its ranking the pairs that its automatic
    cleaning would take, and as many as there are ``copies``, which a user could not know.
    """
    with tempfile.TemporaryDirectory() as name:
        for number, each in enumerate(data):
            (Path(name) / f"{number:06d}.jpg").write_bytes(each)
        asked = [python, "-c", PEER, name, str(weights or ""), str(copies)]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
    for line in done.stderr.splitlines()[-1:] if done.returncode else done.stderr.splitlines():
        if "left out" in line or done.returncode:
            print(f"peers: {line}")
    if done.returncode:
        return {}
    return {
        tool: np.array([[int(a[:6]), int(b[:6])] for a, b in pairs], dtype=np.int64).reshape(-1, 2)
        for tool, pairs in json.loads(done.stdout.splitlines()[-1]).items()
    }


def jpeg(image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def cropped(share: float) -> Alter:
    """To a share of the sides, anywhere."""

    def alter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        width, height = round(image.width * share), round(image.height * share)
        left = int(rng.integers(0, image.width - width + 1))
        top = int(rng.integers(0, image.height - height + 1))
        return image.crop((left, top, left + width, top + height))

    return alter


def rotated(degrees: float) -> Alter:
    return lambda image, rng: image.rotate(degrees * rng.choice([-1, 1]), Image.Resampling.BICUBIC)


def toned(exponent: float) -> Alter:
    return lambda image, _: image.point([round(255 * (value / 255) ** exponent) for value in range(256)])


def to_head(image: Image.Image, _: np.random.Generator) -> Image.Image:
    bright = np.asarray(image) > 16
    rows, columns = (np.flatnonzero(bright.mean(axis=axis) > 0.01) for axis in (1, 0))
    return image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))


def shifted(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    out = Image.new("L", image.size)
    out.paste(image, [(5, 0), (-5, 0), (0, 5), (0, -5), (5, 5), (-5, 5), (5, -5), (-5, -5)][rng.integers(8)])
    return out


def marked(image: Image.Image, _: np.random.Generator) -> Image.Image:
    image = image.copy()
    font = ImageFont.load_default(size=image.width * 0.2)
    ImageDraw.Draw(image).text((image.width * 0.08, image.height * 0.42), "SAMPLE", fill=200, font=font)
    return image


def noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image) + rng.normal(0, 10, (image.height, image.width))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


KINDS: dict[str, Alter] = {
    "padded by 10%": lambda image, _: ImageOps.expand(image, (round(image.width * 0.1), round(image.height * 0.1))),
    "cropped to the head": to_head,
    "cropped to 95%": cropped(0.95),
    "cropped to 90%": cropped(0.9),
    "cropped to 80%": cropped(0.8),
    "shifted by 5 px": shifted,
    "rotated by 2": rotated(2),
    "rotated by 5": rotated(5),
    "rotated by 10": rotated(10),
    "rotated by 25": rotated(25),
    "inverted": lambda image, _: ImageOps.invert(image),
    "equalised": lambda image, _: ImageOps.equalize(image),
    "gamma 2": toned(2),
    "gamma 0.5": toned(0.5),
    "watermark": marked,
    "mirrored": lambda image, _: ImageOps.mirror(image),
    "JPEG 30": lambda image, _: Image.open(io.BytesIO(jpeg(image, 30))),
    "stretched": lambda image, _: image.resize((round(image.width * 1.2), image.height)),
    "contrast 1.5": lambda image, _: ImageEnhance.Contrast(image).enhance(1.5),
    "noise": noisy,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, metavar="FILE", help="JSON file that receives the counts as well")
    modes = parser.add_subparsers(dest="mode", required=True)
    for name in ("folds", "altered"):
        mode = modes.add_parser(name)
        mode.add_argument("folder", type=Path)
        mode.add_argument("source")
        if name == "altered":
            mode.add_argument("--count", type=int, default=300, help="images that are altered, of each kind")
            mode.add_argument("--peer-python", default=sys.executable, help="with imagededup, perhaps with SelfClean")
            mode.add_argument("--peer-weights", type=Path, help="written by python -m tumorxai.tools.lite0, for both")
    asked = parser.parse_args()
    if asked.mode == "altered":
        result = altered(asked.folder, asked.source, asked.count, asked.peer_python, asked.peer_weights)
    else:
        result = across_folds(asked.folder, asked.source)
    if asked.into:
        keep(asked.into, asked.mode, result)
    print("\n".join(getattr(results_copies, asked.mode)(result)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
