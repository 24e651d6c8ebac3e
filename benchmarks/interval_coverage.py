"""How often do 95% intervals hold the truth, when images of one group are alike?

Simulates test sets of groups (copies, slices of one patient) whose images share most of their difficulty, takes
intervals by the cluster bootstrap and by one over single images, and counts. The last line is one JSON object.

Usage: python benchmarks/interval_coverage.py [--runs 1000] [--groups 350] [--correlation 0.6]
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from tqdm import tqdm

from tumorxai.base import bootstrap, scores

K = 3
SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "mcc", "macro_auroc", "nll", "difference")
SIZES, CHANCES = (1, 2, 3, 4, 6, 8), (0.35, 0.25, 0.15, 0.1, 0.1, 0.05)  # images of a group


def sample(
    groups: int, correlation: float, generator: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Truth (n,), probabilities (n, K) of two classifiers that err partly alike, and group (n,) of a test set.

    Args:
        groups: number of groups.
        correlation: of the noise of two images of one group, in [0, 1].
        generator: of all randomness.
    """
    group = np.repeat(np.arange(groups), generator.choice(SIZES, groups, p=CHANCES))
    truth = generator.choice(K, groups, p=[0.5, 0.3, 0.2])[group]

    def noise() -> np.ndarray:
        shared, own = generator.normal(size=(groups, K))[group], generator.normal(size=(len(group), K))
        return np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own

    common, both = noise(), []
    for signal in (1.6, 1.4):
        logits = signal * np.eye(K)[truth] + np.sqrt(0.7) * common + np.sqrt(0.3) * noise()
        both.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    return truth, both, group


def measure(truth: np.ndarray, both: list[np.ndarray], draw: bootstrap.Draw) -> dict[str, np.ndarray]:
    """Every score of SCORES: of the first classifier, and its accuracy less the second's."""
    first, second = (scores.resampled(truth, probabilities, draw) for probabilities in both)
    return {name: first[name] for name in SCORES[:-1]} | {"difference": first["accuracy"] - second["accuracy"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--groups", type=int, default=350)
    parser.add_argument("--correlation", type=float, default=0.6)
    given = parser.parse_args()
    generator = np.random.default_rng(0)
    truth, both, group = sample(200_000, given.correlation, generator)
    whole = bootstrap.Draw(group, np.ones((1, group.max() + 1)))
    real = {name: float(values[0]) for name, values in measure(truth, both, whole).items()}

    covered = {kind: dict.fromkeys(SCORES, 0) for kind in ("groups", "images")}
    for _ in tqdm(range(given.runs), unit="test set", mininterval=5):
        truth, both, group = sample(given.groups, given.correlation, generator)
        for kind, clusters in (("groups", group), ("images", np.arange(len(group)))):
            draw = bootstrap.draw(clusters, int(generator.integers(2**31)))
            for name, values in measure(truth, both, draw).items():
                entry = bootstrap.entry(values)
                covered[kind][name] += entry["low"] <= real[name] <= entry["high"]
    shares = {kind: {name: count / given.runs for name, count in of.items()} for kind, of in covered.items()}
    print(f"{'score':<20}{'truth':>8}{'by group':>10}{'by image':>10}")
    for name in SCORES:
        print(f"{name:<20}{real[name]:>8.3f}{shares['groups'][name]:>10.1%}{shares['images'][name]:>10.1%}")
    print(json.dumps({"runs": given.runs, "groups": given.groups, "correlation": given.correlation, **shares}))


if __name__ == "__main__":
    main()
