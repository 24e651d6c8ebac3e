"""Each method's recipe for small data against random weights, on the validation sides of splits with patients apart.

    python -m benchmarks.recipes simclr byol vicreg … --seeds 0 1 2 [--set pretrain.epochs=10 …]

Run it in a clean clone with TUMORXAI_MIRROR set (or a Kaggle key). The images are those of preset `sartaj`, the split
is `patients`; a tenth of the labels train the linear probe, the nearest neighbours and the fine-tuning. Recipes are
chosen by these figures, so that no test side is looked at. Each method and seed is a `dvc exp run`; what DVC's cache
holds is not run again. A row takes its place in results/recipes.json, from which `make results` makes the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarks.record import keep

from tumorxai import config
from tumorxai.base import jackknife, statistics
from tumorxai.base.predictions import Predictions
from tumorxai.errors import run
from tumorxai.files import read_json
from tumorxai.tools import papers, presets

FIXED = ["split.protocol=patients", "split.label_fraction=0.1", "data.image_size=64", "model.backbone=resnet10t"]
STAGES = ["baselines", "linear", "frozen", "finetune", "supervised"]
TRANSFORMER = "vit_tiny_patch16_224"  # for methods that take no other kind of network
PAIRS = {"linear": "random_linear", "knn": "random_linear", "finetune": "supervised"}
INTO = Path("results/recipes.json")
PAGE: dict[str, Any] = {
    "title": "Recipes for small data",
    "about": [
        "What each method's settings in `src/tumorxai/methods/blocks.yaml` are worth on Sartaj's 3,264 images, with "
        "patients apart and a tenth of the labels, on the **validation** sides: recipes are chosen by these figures, "
        "and the probes choose their strength there too, so that they are no test of anything. In brackets the 95 % "
        "interval over patients (or what is known of them), all seeds pooled; each seed has a split of its own.",
        "*Over random weights*: the same network and labels, untrained for the probes (kNN is held against the linear "
        "probe of random weights), and trained end to end for fine-tuning, which pretraining has shown more images to.",
    ],
    "commands": ["python -m benchmarks.recipes METHOD… --seeds 0 1 2 --set pretrain.epochs=10", "make results"],
    "tables": {
        "recipes": {
            "title": "By method",
            "corner": "method, seeds, settings",
            "columns": {
                "linear": "%", "over random weights": "%", "kNN": "%", "over random weights, linear": "%",
                "fine-tuned": "%", "over random weights, end to end": "%", "images": 0, "effective rank": 0,
            },
        },
    },
}  # fmt: skip


def correct(models: Path, seed: int) -> pd.DataFrame:
    """Of each validation image: its cluster, whether each protocol is right, and the seed of the split."""
    columns: dict[str, Any] = {}
    for protocol in {*PAIRS, *PAIRS.values()}:
        own = Predictions.read(models / f"predictions_{protocol}.csv").on("validation")
        columns |= {"cluster": own.clusters, protocol: own.predicted == own.truth}
    return pd.DataFrame(columns).assign(seed=seed)


def cells(pooled: pd.DataFrame) -> list[Any]:
    """Accuracy of each protocol and its difference from random weights, with intervals over clusters of all seeds.

    Args:
        pooled: of :func:`correct`, of all seeds; an image may stand there once a seed.
    """
    drawn = jackknife.draw(pooled["cluster"].to_numpy(), 0)
    found: list[Any] = []
    for protocol, peer in PAIRS.items():
        own, other = (drawn.means(pooled[name].to_numpy()) for name in (protocol, peer))
        gain = statistics.difference(own, other, drawn)
        found += [drawn.entry(own), {key: gain[key] for key in ("value", "low", "high")}]
    return found


def measure(method: str, seeds: Sequence[int], settings: Sequence[str]) -> tuple[pd.DataFrame, float]:
    """Run a method under each seed; the validation images of all of them, and the mean effective rank."""
    right, ranks = [], []
    for seed in seeds:
        presets.apply("sartaj")
        asked = [*FIXED, f"seed={seed}", f"method={method}", *settings]
        if config.about(method).vit:
            asked.append(f"model.backbone={TRANSFORMER}")
        papers.experiment(Path(), f"recipe-{method}-{seed}", asked, STAGES)
        right.append(correct(Path("models"), seed))
        ranks.append(read_json("details/pretrain.json")["effective_rank"])
    return pd.concat(right, ignore_index=True), sum(ranks) / len(ranks)


def main() -> None:
    trained = [name for name in config.method_names() if config.about(name).trains]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+", choices=trained, metavar="METHOD", help=", ".join(trained))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="more settings for all runs")
    asked = parser.parse_args()
    for method in asked.methods:
        pooled, rank = measure(method, asked.seeds, asked.set)
        name = ", ".join(
            [f"`{method}`", f"seeds {' '.join(map(str, asked.seeds))}", *(f"`{one}`" for one in asked.set)]
        )
        keep(INTO, "recipes", {name: [*cells(pooled), len(pooled), rank]}, {}, PAGE)
        print(name, flush=True)


if __name__ == "__main__":
    run(main)
