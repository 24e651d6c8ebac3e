"""Frozen accuracy of several methods against the same encoder with random weights, on one split.

    python benchmarks/methods.py simclr byol dino mocov3 barlow_twins nnclr --preset sartaj --set pretrain.epochs=30

Run it in a clean clone with TUMORXAI_MIRROR set (or a Kaggle key). Each method is a `dvc exp run`; what DVC's cache
holds is not run again. Beside each accuracy stands its difference from the random encoder by the paired bootstrap over
duplicate groups, with Holm's correction over the methods. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tumorxai import config
from tumorxai.base import bootstrap, neighbours, statistics
from tumorxai.base.dataset import Dataset
from tumorxai.base.predictions import Predictions, keep, visible
from tumorxai.errors import run
from tumorxai.files import read_json
from tumorxai.networks import encoders, views
from tumorxai.networks.embed import embed
from tumorxai.tools import papers, presets

SIGNALS = ("c_acc", "val_p_acc", "feature_std", "effective_rank")


def random_knn(params: config.Params, out: Path) -> Path:
    """Predictions of the nearest neighbours by the features of random weights: those of the stage `baselines`."""
    dataset = Dataset.load(Path("data"))
    train, validation = dataset.indices("train"), dataset.indices("validation")
    torch.manual_seed(params.seed)
    encoder = encoders.build(params.model, *dataset.images.shape[1:3])
    features = embed(encoder.eval(), dataset.images, *views.statistics(dataset.images[train]))
    said, choice = neighbours.weighted(
        features, visible(dataset), train, validation, dataset.clusters(np.arange(len(features))), len(dataset.classes),
        params.frozen.neighbours, params.frozen.temperature,
    )  # fmt: skip
    keep(dataset, said, choice.record("neighbours"), len(train), out)
    return out


def accuracies(path: Path, seed: int) -> tuple[bootstrap.Draw, np.ndarray]:
    """A draw of the test side, and the accuracy there and on its resamples, (1 + RESAMPLES,)."""
    test = Predictions.read(path).on("test")
    draw = bootstrap.draw(test.clusters, seed)
    return draw, draw.means(test.predicted == test.truth)


def percent(score: dict[str, Any]) -> str:
    return f"{100 * score['value']:.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--preset", default="sartaj")
    parser.add_argument("--set", nargs="*", default=[], help="more settings for all runs")
    given = parser.parse_args()
    found: dict[str, dict[str, tuple[bootstrap.Draw, np.ndarray]]] = {}
    signals: dict[str, dict[str, float]] = {}
    for method in given.methods:
        presets.apply(given.preset)
        papers.experiment(
            Path(), f"frozen-{method}", [f"method={method}", *given.set], ["linear", "frozen", "baselines"]
        )
        params = config.load()
        if not found:
            found["random weights"] = {
                "linear": accuracies(Path("models/predictions_random_linear.csv"), params.seed),
                "knn": accuracies(random_knn(params, Path("models/predictions_random_knn.csv")), params.seed),
            }
        found[method] = {
            kind: accuracies(Path(f"models/predictions_{kind}.csv"), params.seed) for kind in ("linear", "knn")
        }
        pretrain = read_json("details/pretrain.json")
        signals[method] = {key: pretrain[key] for key in SIGNALS if key in pretrain}
    rows = []
    for kind in ("linear", "knn"):
        _, none = found["random weights"][kind]
        for method in given.methods:
            draw, own = found[method][kind]
            gain = statistics.difference(own, none, draw, len(given.methods))
            rows.append({"method": method, "kind": kind, **draw.entry(own), "gain": gain, "signals": signals[method]})
    print("| | kNN | more than random weights | linear | more than random weights | c_acc | effective rank |")
    print("|---|---|---|---|---|---|---|")
    floor = {kind: percent(draw.entry(own)) for kind, (draw, own) in found["random weights"].items()}
    print(f"| random weights | {floor['knn']} | | {floor['linear']} | | | |")
    for method in given.methods:
        knn, linear = (next(r for r in rows if r["method"] == method and r["kind"] == k) for k in ("knn", "linear"))
        cells = [f"{percent(r)} | {percent(r['gain'])}, p {r['gain']['p']:.3f}" for r in (knn, linear)]
        print(f"| {method} | {' | '.join(cells)} | {100 * signals[method].get('c_acc', 0):.1f} | "
              f"{signals[method].get('effective_rank', 0):.0f} |")  # fmt: skip
    print(json.dumps({"preset": given.preset, "settings": given.set, "rows": rows}))


if __name__ == "__main__":
    run(main)
