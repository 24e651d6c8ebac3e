"""Cross-validation of one archive, so that every image is a test image once: what learns nothing, little and much.

    python -m benchmarks.folds FOLDER --work EMPTY --into results/folds.json [--preset cheng] [--only simclr …]

FOLDER holds the archive as OWNER--SLUG.zip. What `make folds` runs by DVC is run here in one process, small: images of
64 px, a few epochs. What lies in the folder --work is not run again; it is refused if another preset, other archives,
other code, packages or threads made it. All folds of a classifier are pooled as `tumorxai compare` does, and scored and
compared as the stage `scores` does, with intervals over series and groups of copies.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.record import record

from tumorxai import config
from tumorxai.base import jackknife, scores
from tumorxai.base.dataset import Dataset, is_fold
from tumorxai.base.predictions import Predictions
from tumorxai.base.statistics import difference
from tumorxai.catalogue import catalogue
from tumorxai.dedupe import groups
from tumorxai.errors import UserError, run
from tumorxai.files import read_json, sha256, write_json
from tumorxai.inputs import unfinished
from tumorxai.networks import embed, engine
from tumorxai.patients import patients
from tumorxai.pretrain import pretrain
from tumorxai.probe import baselines, linear
from tumorxai.run.compare.folds import joined
from tumorxai.split import split
from tumorxai.tools import lite0
from tumorxai.train import finetune

FOLDS, SEED = 5, 0
SMALL: dict[str, Any] = {
    "seed": SEED,
    "method": "simclr",
    "data": {"image_size": 64},
    "split": {"folds": FOLDS},
    "model": {"backbone": "resnet10t"},
    "pretrain": {"epochs": 8, "warmup_epochs": 1},
    "frozen": {"fractions": [1.0], "draws": 1},
    "finetune": {"epochs": 3, "warmup_epochs": 1},
    "supervised": {"epochs": 3, "warmup_epochs": 1},
}
ROWS = {
    "majority": "most frequent class",
    "pixel_neighbour": "pixel nearest neighbour, 32 x 32 (the canary)",
    "random_linear": "random weights, linear",
    "linear": "SimCLR, linear",
    "imagenet": "ImageNet weights (EfficientNet-Lite0), linear",
    "supervised": "supervised from scratch",
    "finetune": "SimCLR, fine-tuned",
}
COMPUTE = (catalogue, groups, patients, split, baselines, pretrain, embed, linear, finetune, lite0)
BY = {"baselines": ("majority", "pixel_neighbour", "random_linear"), "simclr": ("linear",)}
PARTS = ("baselines", "simclr", "finetune", "supervised", "imagenet")
PAIRS = (
    ("linear", "random_linear"),
    ("finetune", "supervised"),
    ("imagenet", "random_linear"),
    ("random_linear", "pixel_neighbour"),
)
SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc")


def settings(preset: str, fold: int, **more: Any) -> config.Params:
    """The preset, small, of one fold."""
    values = config.preset(Path("presets") / f"{preset}.yaml")
    for block, own in {**SMALL, **more}.items():
        values[block] = values[block] | own if isinstance(own, Mapping) else own
    values["split"] = values["split"] | {"fold": fold}
    return config.Params.model_validate(values)


def check(data: Path) -> None:
    """End if anything that the protocol keeps together stands on both sides of the test."""
    table = Dataset.load(data).table
    table = table[table["side"] != "dropped"]
    for key in ("group", "subject", "series"):
        own = table[table[key].astype(str) != ""]
        tested = own["side"].eq("test").groupby(own[key])
        if (tested.nunique() > 1).any():
            raise SystemExit(f"{key} stands on both sides")


def images(archives: Path, preset: str, work: Path) -> None:
    """Catalogue, copies and patients, which all folds share."""
    params, details = settings(preset, 0), work / "details"
    catalogue.build(archives, params.data, work, details / "catalogue.json", work / "plots")
    groups.run(params.dedupe, work, archives, details / "dedupe.json", work / "plots")
    patients.run(work, archives, details / "patients.json")


def frozen(params: config.Params, data: Path, out: Path, name: str) -> None:
    """Pretrain or take published weights, embed, and fit the linear classifier."""
    encoder = out / "encoder.safetensors"
    pretrain.run(params, data, encoder, out / "pretrain.json", out / "pretrain_metrics.json", out / "curves")
    embed.run(data / "pack.npy", encoder, out / "embeddings.npy")
    linear.run(params, data, out / "embeddings.npy", encoder, out / "linear.safetensors", out / f"{name}.csv")


def one(preset: str, fold: int, part: str, work: Path) -> None:
    """One part of one fold."""
    params, data, out = settings(preset, fold), work / f"fold{fold}", work / f"fold{fold}" / part
    if part == "baselines":
        made = [out / f"{name}.csv" for name in (*BY[part], "curve")]
        baselines.run(params, data, *made)
    elif part == "simclr":
        frozen(params, data, out, "linear")
    elif part == "finetune":
        start, kept = data / "simclr" / "encoder.safetensors", out / "finetuned.safetensors"
        finetune.run(params, params.finetune, data, start, kept, out / "finetune.csv", out / "curve.csv")
    elif part == "supervised":
        kept = out / "supervised.safetensors"
        finetune.run(params, params.supervised, data, None, kept, out / "supervised.csv", out / "curve.csv")
    else:
        weights = work / "lite0.safetensors"
        if not weights.exists():
            lite0.convert(weights)
        given = settings(preset, fold, method="pretrained", model={"backbone": lite0.BACKBONE})
        given.methods["pretrained"] = {"weights": str(weights.resolve())}
        frozen(given, data, out, "imagenet")


def prepare(archives: Path, preset: str, fold: int, work: Path) -> int:
    """Draw the split of a fold; the images that it can use."""
    data = work / f"fold{fold}"
    data.mkdir(exist_ok=True)
    for name in ("catalogue.csv", "groups.csv", "patients.csv", "pack.npy"):
        if not (data / name).exists():
            (data / name).symlink_to((work / name).resolve())
    split.run(settings(preset, fold), data, data / "split.json", data / "sides.csv")
    check(data)
    return int(read_json(data / "split.json")["usable"])


def entry(value: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value[key], 6) for key in ("value", "low", "high")}


def pooled(work: Path, usable: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, int]]:
    """Rows of scores and of differences, and how much was tested, of what is there in every fold."""
    tests: dict[str, Predictions] = {}
    for part in PARTS:
        for name in BY.get(part, (part,)):
            files = [work / f"fold{fold}" / part / f"{name}.csv" for fold in range(FOLDS)]
            if all(file.exists() for file in files):
                tests[name] = joined([Predictions.read(file).on("test") for file in files], usable)
    first = next(iter(tests.values()))
    draw = jackknife.draw(first.clusters, SEED)
    resampled = {name: scores.resampled(own.truth, own.probabilities, draw, own.parts) for name, own in tests.items()}
    rows: dict[str, list[Any]] = {}
    for name, title in ROWS.items():
        if name in tests:
            own = tests[name]
            found = {key: resampled[name][key] for key in SHOWN}
            said = scores.entries(found, own.truth, own.predicted, own.classes, draw)
            right, parts = own.predicted == own.truth, own.parts
            each = [100 * float(right[parts == fold].mean()) for fold in range(FOLDS)]
            rows[title] = [*(entry(said[key]) for key in SHOWN), f"{min(each):.1f} to {max(each):.1f}"]
    pairs: dict[str, list[Any]] = {}
    for a, b in PAIRS:
        if a in tests and b in tests:
            both = [
                difference(resampled[a][key], resampled[b][key], draw, len(PAIRS))
                for key in ("accuracy", "balanced_accuracy")
            ]
            p = "below 0.001" if both[0]["p"] < 0.001 else f"{both[0]['p']:.3f}"
            pairs[f"{ROWS[a]} - {ROWS[b]}"] = [entry(both[0]), p, entry(both[1])]
    return rows, pairs, {"images": len(first.truth), "clusters": len(np.unique(first.clusters))}


def page(work: Path, preset: str, usable: int, seconds: float) -> dict[str, Any]:
    """The content of the file of results."""
    rows, pairs, count = pooled(work, usable)
    absent = [title for title in ROWS.values() if title not in rows]
    table = Dataset.load(work / "fold0").table
    kept = table[table["side"] != "dropped"]
    standing = int(kept.loc[is_fold(kept["subject"]), "subject"].nunique())
    drawn = read_json(work / "fold0" / "split.json")
    sides = drawn["sides"]
    params = settings(preset, 0)
    epochs = f"at most {params.finetune.epochs} epochs of training with labels"
    if ROWS["linear"] in rows:
        epochs = f"{params.pretrain.epochs} epochs of SimCLR, {epochs}"
    return {
        "title": "Cross-validation on Cheng's slices",
        "about": [
            f"All folds of a cross-validation, so that each of {count['images']:,} images of {len(table):,} is a test "
            f"image once; of the others {drawn['bridging_folds']} have a copy, or images of their patient, in another "
            f"fold, and {drawn['label_conflicts']} a copy under another label. Protocol "
            f"`{params.split.protocol}`, `split.folds: {FOLDS}`, seed {SEED}. The folds are the {standing} that the "
            "authors publish, by patient; 233 patients in all. In each, "
            f"{sides['train']['images']:,} images or so train and {sides['validation']['images']:,} choose.",
            f"Preset `{preset}`, but {params.data.image_size} px, {params.model.backbone}, {epochs}: small, so that a "
            "core suffices. Whose image is whose is not told within a fold, so that intervals, by a bootstrap over "
            f"{count['clusters']} series with their copies, are too narrow: a patient has two or three series. The "
            "last column is the accuracy in the worst and in the best fold.",
        ],
        "commands": [f"python -m benchmarks.folds FOLDER --work EMPTY --into results/folds.json --preset {preset}"],
        "tables": {
            "scores": {
                "title": "All folds pooled",
                "columns": {
                    "accuracy": "%",
                    "balanced accuracy": "%",
                    "macro F1": "%",
                    "macro AUROC": "%",
                    "folds": "",
                },
                "rows": rows,
            },
            "differences": {
                "title": "Differences on the same images",
                "text": f"Paired; intervals and p-values adjusted for {len(PAIRS)} comparisons. In points.",
                "columns": {"accuracy": "%", "p": "", "balanced accuracy": "%"},
                "rows": pairs,
            },
        },
        "remarks": [
            "The intervals cover other patients, as far as series stand for them, and neither other seeds nor other "
            "networks of the same recipe.",
            *([f"Not run here: {'; '.join(absent)}."] if absent else []),
        ],
        "record": record(("torch", "timm", "scikit-learn", "numpy"))
        | {"took": f"{seconds / 60:.1f} minutes of processor time"},
    }


def claim(work: Path, archives: Path, preset: str) -> None:
    """Mark the folder of the parts with what makes them.

    Raises:
        UserError: it holds parts that were made otherwise.
    """
    made = engine.machine(torch.device("cuda" if torch.cuda.is_available() else "cpu"), "auto")
    for module in COMPUTE:
        for method in ("simclr", "pretrained"):
            made |= unfinished.causes(module.__name__, method)
    made |= {f"archives/{path.name}": sha256(path) for path in sorted(archives.glob("*.zip"))}
    made["preset"] = f"{preset} {unfinished.fingerprint(settings(preset, 0).model_dump(mode='json'))}"
    about = work / unfinished.ABOUT
    before = read_json(about) if about.exists() else {}
    if any(work.iterdir()) and before != made:
        raise UserError(
            f"got {work} with parts that were made otherwise ({unfinished.differing(before, made)}); expected an empty "
            "folder, or parts of the same; give another --work"
        )
    write_json(about, made)


def processor() -> float:
    """Seconds of processor time of this process and of those that it has started."""
    return sum(os.times()[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--preset", default="cheng")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    given = parser.parse_args()
    work = given.work
    work.mkdir(parents=True, exist_ok=True)
    claim(work, given.archives, given.preset)
    spent = read_json(work / "seconds.json") if (work / "seconds.json").exists() else {}
    began = processor()

    def done(name: str) -> None:
        nonlocal began
        spent[name], began = processor() - began, processor()
        write_json(work / "seconds.json", spent)
        print(f"{name}: {spent[name]:.0f} s of processor time, {sum(spent.values()) / 60:.1f} min in all", flush=True)

    if "images" not in spent:
        images(given.archives, given.preset, work)
        done("images")
    usable = [prepare(given.archives, given.preset, fold, work) for fold in range(FOLDS)]
    for part in given.only:  # by parts: what is there of all folds is worth more than a whole fold
        for fold in range(FOLDS):
            if f"{part} {fold}" not in spent:
                began = processor()
                one(given.preset, fold, part, work)
                done(f"{part} {fold}")
        write_json(given.into, page(work, given.preset, usable[0], sum(spent.values())))


if __name__ == "__main__":
    run(main)
