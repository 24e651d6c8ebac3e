"""Scores, ranks and paired tests of the classifiers that were tested on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from tumorxai.base import bootstrap, scores
from tumorxai.base.glossary import BOARD, HEAD, SERVER, shown
from tumorxai.base.protocols import TITLES
from tumorxai.base.statistics import difference, holm, mcnemar
from tumorxai.run.compare.entrants import Entrant
from tumorxai.run.compare.names import differing, labels, phrases

SCORES = tuple(shown(BOARD) | shown(SERVER) | shown(HEAD))
SEED = 0  # of the bootstrap: one for all, so that the resamples are paired
DRAWN = ("seed", "data.", "dedupe.", "split.")  # what a test side comes from


@dataclass(frozen=True)
class Side:
    """The entrants of one test side, the most accurate first.

    Attributes:
        name: see :func:`test_side`.
        entrants: at least one.
        scores: of each, name to values of the sample and its resamples (1 + RESAMPLES,), which all share.
        ranks: of each by accuracy, 1 the best, shape (entrants, 1 + RESAMPLES); ties share their mean.
        pairs: tests of each two.
    """

    name: str
    entrants: list[Entrant]
    scores: list[dict[str, bootstrap.Floats]]
    ranks: bootstrap.Floats
    pairs: pd.DataFrame


def judge(name: str, entrants: Sequence[Entrant]) -> Side:
    """Score and compare the entrants of one test side."""
    draw = bootstrap.draw(entrants[0].test.clusters, SEED)
    every = [scores.resampled(entrant.test.truth, entrant.test.probabilities, draw) for entrant in entrants]
    order = sorted(range(len(entrants)), key=lambda i: (-every[i]["accuracy"][0], entrants[i].model))
    placed, table = [entrants[i] for i in order], [{key: every[i][key] for key in SCORES} for i in order]
    ranks = rankdata([-own["accuracy"] for own in table], axis=0)
    rows = []
    for i, j in combinations(range(len(placed)), 2):
        a, b = placed[i].test, placed[j].test
        accuracy = difference(table[i]["accuracy"], table[j]["accuracy"])
        balanced = difference(table[i]["balanced_accuracy"], table[j]["balanced_accuracy"])
        rows.append(
            {
                "test_side": name,
                "better": placed[i].model,
                "worse": placed[j].model,
                "accuracy": accuracy["value"],
                "accuracy_low": accuracy["low"],
                "accuracy_high": accuracy["high"],
                "detectable": accuracy["detectable"],
                "mcnemar": mcnemar(a.predicted == a.truth, b.predicted == b.truth, a.clusters),
                "balanced_accuracy": balanced["value"],
                "balanced_accuracy_low": balanced["low"],
                "balanced_accuracy_high": balanced["high"],
            }
        )
    pairs = pd.DataFrame(rows)
    if len(pairs):
        pairs.insert(8, "holm", holm(pairs["mcnemar"].tolist()))
    return Side(name, placed, table, ranks, pairs)


def rows(sides: Sequence[Side]) -> pd.DataFrame:
    """The leaderboard: a row for each entrant, the sides with most entrants first."""
    found = []
    for side in sides:
        for place, (entrant, own) in enumerate(zip(side.entrants, side.scores, strict=True)):
            rank = bootstrap.entry(side.ranks[place])
            row = {
                "test_side": side.name,
                "test_images": len(entrant.test.truth),
                "clusters": len(np.unique(entrant.test.clusters)),
                "model": entrant.model,
                "protocol": entrant.protocol,
                "experiments": " ".join(entrant.experiments),
                "settings": "; ".join(entrant.settings),
                "rank": rank["value"],
                "rank_low": rank["low"],
                "rank_high": rank["high"],
            }
            for name in SCORES:
                entry = bootstrap.entry(own[name])
                row |= {name: entry["value"], f"{name}_low": entry["low"], f"{name}_high": entry["high"]}
            found.append(row)
    return pd.DataFrame(found).round(6)


def over_seeds(sides: Sequence[Side]) -> pd.DataFrame:
    """Mean and deviation over the seeds of what is otherwise the same; empty where there is one seed of each."""
    every = [
        (entrant, float(own["accuracy"][0]))
        for side in sides
        for entrant, own in zip(side.entrants, side.scores, strict=True)
    ]
    found: list[dict[str, Any]] = []
    for protocol in dict.fromkeys(entrant.protocol for entrant, _ in every):
        of_protocol = [(entrant, accuracy) for entrant, accuracy in every if entrant.protocol == protocol]
        keys = [key for key in differing([entrant.params for entrant, _ in of_protocol]) if key != "seed"]
        alike: dict[tuple[str | None, ...], list[tuple[Entrant, float]]] = {}
        for entrant, accuracy in of_protocol:
            alike.setdefault(tuple(entrant.params.get(key) for key in keys), []).append((entrant, accuracy))
        firsts = [own[0][0] for own in alike.values()]
        called = labels([each.params for each in firsts], [each.experiments for each in firsts], without=("seed",))
        for label, own in zip(called, alike.values(), strict=True):
            seeds = {entrant.params.get("seed") for entrant, _ in own} - {None}
            accuracies = [accuracy for _, accuracy in own]
            if len(seeds) > 1:
                found.append(
                    {
                        "model": ", ".join(filter(None, (TITLES[protocol], label))),
                        "seeds": len(seeds),
                        "accuracy": float(np.mean(accuracies)),
                        "sd": float(np.std(accuracies, ddof=1)),
                    }
                )
    table = pd.DataFrame(found, columns=["model", "seeds", "accuracy", "sd"])
    return table.sort_values("accuracy", ascending=False, ignore_index=True).round(6)


def cliques(side: Side) -> list[tuple[int, int]]:
    """First and last place of each longest run of entrants of which no two differ at a Holm-adjusted 5%."""
    n = len(side.entrants)
    apart = np.zeros((n, n), dtype=bool)
    for (i, j), adjusted in zip(combinations(range(n), 2), side.pairs["holm"] if n > 1 else [], strict=True):
        apart[i, j] = adjusted < 0.05
    runs: list[tuple[int, int]] = []
    for first in range(n):
        last = first
        while last + 1 < n and not apart[first : last + 1, last + 1].any():
            last += 1
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs


def shared(side: Side, sides: Sequence[Side], only: tuple[str, ...] = ("",)) -> list[str]:
    """What all entrants of a test side have in common, where those of other sides have something else, in short.

    Args:
        side: the test side.
        sides: all of them.
        only: beginnings of the parameters that are named.
    """
    rows = [entrant.params for each in sides for entrant in each.entrants]
    keys = [key for key in differing(rows) if key.startswith(only)]
    said = phrases(rows, keys)
    own = {key: {entrant.params.get(key) for entrant in side.entrants} for key in keys}
    alike = [(key, value) for key, seen in own.items() for value in seen if len(seen) == 1 and value is not None]
    return [("on " if key == "data.sources" else "") + said[key, value] for key, value in alike]


def title(side: Side, sides: Sequence[Side]) -> str:
    """Name and size of a test side, and how it came about where others came about otherwise."""
    drawn = shared(side, sides, DRAWN)
    return ", ".join([f"test side {side.name}: {len(side.entrants[0].test.truth)} images", *drawn])
