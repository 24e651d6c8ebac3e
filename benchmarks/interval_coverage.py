"""How often do 95% intervals hold the truth, on test sides with the cluster sizes of real data?

    python -m benchmarks.interval_coverage FOLDER [SOURCE@PROTOCOL …] [--into results/coverage.json]

FOLDER holds OWNER--SLUG.zip files. Each source is split as the pipeline would, and the images of each class in each
cluster of its test side are counted; with SOURCE@PROTOCOL@all of all its images, as folds pool them. Then classifiers
are made up that err there, the more alike within a cluster the higher the correlation, many times over; the truth is
what they reach on endlessly many such sides. With --percentiles 100 those of a bootstrap over clusters are counted as
well, on 100 sides. Each side is printed when it is done, and takes its place in the file of --into; the last line is
JSON.

All is done for middling and for strong classifiers. The clusters are the real ones each time; for middling classifiers
also as many, drawn from the real ones with replacement: other patients with other numbers of images of other classes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.record import keep
from tqdm import tqdm

from tumorxai.base import jackknife, scores
from tumorxai.base.dataset import Dataset
from tumorxai.base.statistics import difference
from tumorxai.catalogue import catalogue
from tumorxai.config import Data, Dedupe, Split, load
from tumorxai.dedupe import groups
from tumorxai.patients import patients
from tumorxai.split import split

SIDES = {
    "hamdallak/the-iqothnccd-lung-cancer-dataset@patients": "lung, patients apart",
    "hamdallak/the-iqothnccd-lung-cancer-dataset@grouped": "lung, copies apart",
    "hamdallak/the-iqothnccd-lung-cancer-dataset@patients@all": "lung, all folds pooled",
    "cheng/figshare-1512427@patients": "Cheng, patients apart",
    "mehradaria/leukemia@patients": "leukaemia, patients apart",
    "gunavenkatdoddi/eye-diseases-classification@patients": "retina, patients apart",
    "sartajbhuvaji/brain-tumor-classification-mri@patients": "Sartaj, patients apart",
    "fernando2rad/brain-tumor-mri-images-44c@grouped": "44 classes as 17, copies apart",
}
TAXONOMIES = {"fernando2rad/brain-tumor-mri-images-44c": "seventeen"}  # of all others the classes that they have
SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "mcc": "MCC",
    "macro_auroc": "macro AUROC",
    "nll": "log loss",
    "brier": "Brier score",
    "recall": "sensitivity of a class",
    "ppv": "PPV of a class",
    "auroc": "AUROC of a class",
    "difference": "difference in accuracy",
    "error": "calibration error",
}
STRENGTHS = {"middling": 1.6, "strong": 3.5}  # how far the true class stands out
BINS = 10
LARGE = 500_000  # images that stand for endlessly many
RESAMPLES = 2000  # of the bootstrap
RUNS = 500
KINDS = {
    "here": "The intervals here",
    "drawn": "The intervals here, with other clusters each time",
    "percentiles": "Percentiles of a bootstrap over clusters",
}


def sizes(folder: Path, source: str, protocol: str, every: bool) -> np.ndarray:
    """Images of each class in each cluster of a source's test side, or of all of it, shape (clusters, classes)."""
    params = load().model_copy(update={"split": Split(protocol=protocol)})
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        data = Data(sources=[source], taxonomy=TAXONOMIES.get(source, "native"), image_size=32)
        catalogue.build(folder, data, root, root / "catalogue.json", root)
        groups.run(Dedupe(), root, folder, root / "dedupe.json", root / "plots")
        patients.run(root, folder, root / "patients.json")
        split.run(params, root, root / "split.json", root / "sides.csv")
        dataset = Dataset.load(root)
        sides = ("train", "validation", "test") if every else ("test",)
        test = np.concatenate([dataset.indices(side) for side in sides])
        found: np.ndarray = pd.crosstab(dataset.clusters(test), dataset.labels[test]).to_numpy()
        return found


def sample(
    counts: np.ndarray, correlation: float, signal: float, generator: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Truth (n,), probabilities (n, K) of two classifiers that err partly alike, and cluster (n,) of a test side.

    Args:
        counts: images of each class in each cluster (G, K).
        correlation: of the noise of two images of one cluster, in [0, 1].
        signal: how far the true class stands out.
        generator: of all randomness.
    """
    member, kind = np.nonzero(counts)
    number, k = counts[member, kind], counts.shape[1]
    cluster, truth = np.repeat(member, number), np.repeat(kind, number)

    def noise() -> np.ndarray:
        shared, own = generator.normal(size=(len(counts), k))[cluster], generator.normal(size=(len(cluster), k))
        mixed: np.ndarray = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
        return mixed

    common, both = noise(), []
    for strength in (signal, signal - 0.3):
        logits = 1.3 * (strength * np.eye(k)[truth] + np.sqrt(0.7) * common + np.sqrt(0.3) * noise())  # overconfident
        both.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    return truth, both, cluster


def right(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    found: np.ndarray = probabilities.argmax(axis=1) == truth
    return found


def real(counts: np.ndarray, correlation: float, signal: float, generator: np.random.Generator) -> dict[str, Any]:
    """Every score of SCORES on endlessly many such sides; those of a class as (K,)."""
    many = np.tile(counts, (max(2, LARGE // counts.sum()), 1))
    truth, (first, second), _ = sample(many, correlation, signal, generator)
    whole = jackknife.Draw(np.zeros(len(truth), dtype=np.int64), np.ones((1, 1)))
    found: dict[str, Any] = {name: np.asarray(own[0]) for name, own in scores.resampled(truth, first, whole).items()}
    confidence, hit = first.max(axis=1), right(truth, first)
    gaps = [(hit[part] - confidence[part]).mean() for part in scores.calibration_bins(confidence, BINS)]
    return found | {
        "difference": np.asarray(hit.mean() - right(truth, second).mean()),
        "error": np.asarray(np.sqrt(np.mean(np.square(gaps)))),
    }


def resamples(cluster: np.ndarray, generator: np.random.Generator) -> jackknife.Draw:
    """The sample and RESAMPLES times as many of its clusters, drawn with replacement."""
    members, index = np.unique(cluster, return_inverse=True)
    count = len(members)
    drawn = generator.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return jackknife.Draw(index, np.vstack([np.ones(count), drawn]))


def run(
    counts: np.ndarray, correlation: float, signal: float, runs: int, seed: int = 0, drawn: bool = False,
    compared: bool = True,
) -> dict[str, dict[str, list[bool]]]:  # fmt: skip
    """For the project's intervals and, if compared, for percentiles, and each score, whether each held the truth."""
    generator = np.random.default_rng(seed)
    wanted = real(counts, correlation, signal, generator)
    names = tuple(str(k) for k in range(counts.shape[1]))
    held: dict[str, dict[str, list[bool]]] = {kind: {name: [] for name in SCORES} for kind in ("here", "percentiles")}
    for _ in tqdm(range(runs), unit="test side", mininterval=10):
        own = counts[generator.integers(len(counts), size=len(counts))] if drawn else counts
        truth, (first, second), cluster = sample(own, correlation, signal, generator)
        draw = jackknife.draw(cluster, 0)
        every = scores.resampled(truth, first, draw)
        table = scores.entries(every, truth, first.argmax(axis=1), names, draw)
        hit, confidence = right(truth, first), first.max(axis=1)
        other = draw.means(right(truth, second))
        every["difference"] = every["accuracy"] - other
        table["difference"] = difference(every["accuracy"], other, draw)
        table["error"] = scores.calibration_error(confidence, hit, BINS, draw)
        for name in SCORES:
            of_class = name in scores.PER_CLASS
            for key, entry in table[name].items() if of_class else [("", table[name])]:
                if entry["low"] is not None:
                    true = wanted[name][int(key)] if of_class else wanted[name]
                    held["here"][name].append(entry["low"] <= true <= entry["high"])
        if compared:
            percentiles(held["percentiles"], wanted, truth, first, second, resamples(cluster, generator))
    return held


def percentiles(
    held: dict[str, list[bool]], wanted: dict[str, Any], truth: np.ndarray, first: np.ndarray, second: np.ndarray,
    draw: jackknife.Draw,
) -> None:  # fmt: skip
    """Add whether the middle 95% of resamples hold the truth, for each score; of the plain calibration error."""
    every = scores.resampled(truth, first, draw)
    hit, confidence, images = right(truth, first), first.max(axis=1), draw.totals(np.ones(len(truth)))
    every["difference"] = every["accuracy"] - draw.means(right(truth, second))
    member = np.zeros((len(truth), BINS))
    for number, part in enumerate(scores.calibration_bins(confidence, BINS)):
        member[part, number] = 1
    every["error"] = np.abs(draw.totals(member * (hit - confidence)[:, None])).sum(axis=1) / images
    for name in SCORES:
        places = [(k,) for k in np.unique(truth)] if name in scores.PER_CLASS else [()]
        for place in places:
            low, high = np.nanquantile(every[name][(slice(1, None), *place)], [0.025, 0.975])
            held[name].append(bool(low <= wanted[name][place] <= high))


def page() -> dict[str, Any]:
    """What results/coverage.json starts from, see :mod:`tumorxai.tools.results`."""
    columns = {"clusters": 0, "as many as of equal size": 1, **dict.fromkeys(SCORES.values(), "%")}
    says = {
        "middling": "classifiers that are right on some four in five",
        "strong": "classifiers that are nearly always right",
    }
    return {
        "title": "Do the intervals hold?",
        "about": [
            "How often 95 % intervals hold the truth, on made-up classifiers that are tested on sides with the cluster "
            f"sizes of real data: {RUNS} test sides in each cell, so that a true 95 % shows as 93.1 to 96.9. Images of "
            f"one cluster err alike (correlation 0.6). The truth is that of {LARGE:,} images."
        ],
        "commands": ["python -m benchmarks.interval_coverage FOLDER --into results/coverage.json", "make results"],
        "tables": {
            f"{kind}_{strength}": {
                "title": f"{title}, {says[strength]}", "corner": "test side", "columns": columns
            }
            for kind, title in KINDS.items()
            for strength in (STRENGTHS if kind != "drawn" else ["middling"])
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sources", nargs="*", default=SIDES)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--percentiles", type=int, default=0, metavar="RUNS")
    parser.add_argument("--correlation", type=float, default=0.6)
    parser.add_argument("--kept", type=Path, metavar="FOLDER", help="keeps the counts, which take most of the time")
    parser.add_argument("--into", type=Path, metavar="FILE", help="JSON file that receives the shares as well")
    given = parser.parse_args()
    print(f"| side | clusters | | {' | '.join(SCORES.values())} |\n{'|---' * (len(SCORES) + 3)}|")
    found: dict[str, Any] = {}
    for wanted in given.sources:
        source, protocol, every = (*wanted.split("@"), "", "")[:3]
        kept = given.kept and given.kept / f"{wanted.replace('/', '--')}.npy"
        if kept and kept.exists():
            counts = np.load(kept, allow_pickle=False)
        else:
            counts = sizes(given.folder, source, protocol or "patients", every == "all")
        if kept:
            np.save(kept, counts, allow_pickle=False)
        effective = jackknife.draw(np.repeat(np.arange(len(counts)), counts.sum(axis=1)), 0).effective()
        held = {}
        for strength, signal in STRENGTHS.items():
            settings = counts, given.correlation, signal
            held[f"here_{strength}"] = run(*settings, given.runs, compared=False)["here"]
            if given.percentiles:
                held[f"percentiles_{strength}"] = run(*settings, given.percentiles)["percentiles"]
            if strength == "middling":
                held["drawn_middling"] = run(*settings, given.runs, drawn=True, compared=False)["here"]
        name = SIDES.get(wanted, wanted)
        for table, of in held.items():
            shares = [float(np.mean(own)) for own in of.values()]
            found[f"{table}, {name}"] = dict(zip(of, shares, strict=True))
            cells = " | ".join(f"{100 * share:.1f}" for share in shares)
            print(f"| {name} | {len(counts)} | {table} | {cells} |", flush=True)
            if given.into:
                row = [len(counts), round(effective, 1), *(round(share, 4) for share in shares)]
                keep(given.into, table, {name: row}, {}, page())
    print(json.dumps({"runs": given.runs, "correlation": given.correlation, "found": found}))


if __name__ == "__main__":
    main()
