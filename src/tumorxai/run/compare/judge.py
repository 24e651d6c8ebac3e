"""Scores, ranks and paired tests of the classifiers that were tested on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2, norm, rankdata

from tumorxai.base import jackknife, scores
from tumorxai.base.glossary import BOARD, HEAD, SERVER, shown
from tumorxai.base.protocols import TITLES
from tumorxai.base.statistics import ALPHA, difference
from tumorxai.run.compare.entrants import Entrant
from tumorxai.run.compare.names import differing, labels, phrases

SCORES = tuple(shown(BOARD) | shown(SERVER) | shown(HEAD))
SEED = 0  # of the jackknife: one for all, so that the same clusters are left out
DRAWN = ("seed", "data.", "dedupe.", "split.")  # what a test side comes from


@dataclass(frozen=True)
class Side:
    """The entrants of one test side, the most accurate first.

    Attributes:
        name: see :func:`test_side`.
        entrants: at least one.
        scores: of each, name to ``{"value", "low", "high"}``.
        ranks: of each by accuracy, 1 the best, likewise; ties share their mean.
        pairs: tests of each two.
    """

    name: str
    entrants: list[Entrant]
    scores: list[dict[str, dict[str, Any]]]
    ranks: list[dict[str, float]]
    pairs: pd.DataFrame


def judge(name: str, entrants: Sequence[Entrant]) -> Side:
    """Score and compare the entrants of one test side."""
    draw = jackknife.draw(entrants[0].test.clusters, SEED)
    tests = [entrant.test for entrant in entrants]
    every = [scores.resampled(own.truth, own.probabilities, draw, own.parts) for own in tests]
    order = sorted(range(len(entrants)), key=lambda i: (-every[i]["accuracy"][0], entrants[i].model))
    placed, drawn = [entrants[i] for i in order], [every[i] for i in order]
    listed = [
        scores.entries({key: own[key] for key in SCORES}, one.test.truth, one.test.predicted, one.test.classes, draw)
        for one, own in zip(placed, drawn, strict=True)
    ]
    rows, count = [], len(placed) * (len(placed) - 1) // 2
    for i, j in combinations(range(len(placed)), 2):
        accuracy, balanced = (
            difference(drawn[i][key], drawn[j][key], draw, count) for key in ("accuracy", "balanced_accuracy")
        )
        rows.append(
            {
                "test_side": name,
                "better": placed[i].model,
                "worse": placed[j].model,
                "accuracy": accuracy["value"],
                "accuracy_low": accuracy["low"],
                "accuracy_high": accuracy["high"],
                "detectable": accuracy["detectable"],
                "p": accuracy["p"],
                "balanced_accuracy": balanced["value"],
                "balanced_accuracy_low": balanced["low"],
                "balanced_accuracy_high": balanced["high"],
            }
        )
    pairs = pd.DataFrame(rows)
    ranks = rank_intervals([own["accuracy"]["value"] for own in listed], pairs)
    return Side(name, placed, listed, ranks, pairs)


def apart(count: int, pairs: pd.DataFrame) -> NDArray[np.bool_]:
    """Which of so many entrants, the first the best, is told from which by an adjusted p-value below 5%, (n, n)."""
    found = np.zeros((count, count), dtype=bool)
    for (i, j), p in zip(combinations(range(count), 2), pairs["p"] if count > 1 else [], strict=True):
        found[i, j] = p < ALPHA
    return found


def rank_intervals(accuracies: Sequence[float], pairs: pd.DataFrame) -> list[dict[str, float]]:
    """Rank of each entrant and the ranks that it may have: all but those of the entrants that are told from it.

    The tests hold together at 95%, and so do these (Mogstad, Romano, Shaikh and Wilhelm 2024, Rev. Econ. Stud. 91,
    section 3.1). Resampled ranks would not: near ties they are too narrow, and they need not hold the rank itself.

    Args:
        accuracies: the best first.
        pairs: with ``p`` of each two, adjusted for their number.

    Returns:
        ``{"value", "low", "high"}``; ties share their mean rank.
    """
    told, own = apart(len(accuracies), pairs), rankdata([-value for value in accuracies])
    better, worse = told.sum(axis=0), told.sum(axis=1)
    return [
        {"value": float(rank), "low": float(1 + above), "high": float(len(accuracies) - below)}
        for rank, above, below in zip(own, better, worse, strict=True)
    ]


def rows(sides: Sequence[Side]) -> pd.DataFrame:
    """The leaderboard: a row for each entrant, the sides with most entrants first."""
    found = []
    for side in sides:
        for place, (entrant, own) in enumerate(zip(side.entrants, side.scores, strict=True)):
            rank = side.ranks[place]
            row = {
                "test_side": side.name,
                "test_images": len(entrant.test.truth),
                "clusters": len(np.unique(entrant.test.clusters)),
                "folds": entrant.folds,
                "model": entrant.model,
                "protocol": entrant.protocol,
                "experiments": " ".join(entrant.experiments),
                "settings": "; ".join(entrant.settings),
                "rank": rank["value"],
                "rank_low": rank["low"],
                "rank_high": rank["high"],
            }
            for name in SCORES:
                entry = own[name]
                row |= {name: entry["value"], f"{name}_low": entry["low"], f"{name}_high": entry["high"]}
            found.append(row)
    return pd.DataFrame(found).round(6)


def over_seeds(sides: Sequence[Side]) -> pd.DataFrame:
    """Mean and deviation over the seeds of what is otherwise the same; empty where there is one seed of each.

    ``low`` and ``high`` are the means of the ends of the intervals over patients, to be seen beside the deviation.
    ``same`` says whether the scores scatter no more than these intervals say, by the chi-squared test of a variance at
    5%; few seeds show no more than a much larger scatter.
    """
    every = [
        (entrant, own["accuracy"]) for side in sides for entrant, own in zip(side.entrants, side.scores, strict=True)
    ]
    found: list[dict[str, Any]] = []
    for protocol in dict.fromkeys(entrant.protocol for entrant, _ in every):
        of_protocol = [(entrant, accuracy) for entrant, accuracy in every if entrant.protocol == protocol]
        keys = [key for key in differing([entrant.params for entrant, _ in of_protocol]) if key != "seed"]
        alike: dict[tuple[str | None, ...], list[tuple[Entrant, dict[str, Any]]]] = {}
        for entrant, entry in of_protocol:
            alike.setdefault(tuple(entrant.params.get(key) for key in keys), []).append((entrant, entry))
        firsts = [own[0][0] for own in alike.values()]
        called = labels([each.params for each in firsts], [each.experiments for each in firsts], without=("seed",))
        for label, own in zip(called, alike.values(), strict=True):
            seeds = {entrant.params.get("seed") for entrant, _ in own} - {None}
            values, lows, highs = ([float(entry[key]) for _, entry in own] for key in ("value", "low", "high"))
            if len(seeds) > 1:
                error = np.mean(np.subtract(highs, lows)) / (2 * norm.ppf((1 + jackknife.LEVEL) / 2))
                scatter = np.var(values, ddof=1) * (len(values) - 1)
                found.append(
                    {
                        "model": ", ".join(filter(None, (TITLES[protocol], label))),
                        "seeds": len(seeds),
                        "accuracy": float(np.mean(values)),
                        "sd": float(np.std(values, ddof=1)),
                        "low": float(np.mean(lows)),
                        "high": float(np.mean(highs)),
                        "same": bool(scatter <= error**2 * chi2.ppf(1 - ALPHA, len(values) - 1)),
                    }
                )
    table = pd.DataFrame(found, columns=["model", "seeds", "accuracy", "sd", "low", "high", "same"])
    return table.sort_values("accuracy", ascending=False, ignore_index=True).round(6)


def cliques(side: Side) -> list[tuple[int, int]]:
    """First and last place of each longest run of entrants of which no two differ at an adjusted 5%."""
    n = len(side.entrants)
    told = apart(n, side.pairs)
    runs: list[tuple[int, int]] = []
    for first in range(n):
        last = first
        while last + 1 < n and not told[first : last + 1, last + 1].any():
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


def size(side: Side) -> str:
    """How many images and clusters a test side has, and in how many folds they were tested."""
    test, folds = side.entrants[0].test, min(entrant.folds for entrant in side.entrants)  # 0: not all have them
    said = f"{len(test.truth)} images, {len(np.unique(test.clusters))} clusters"
    return said + (f", each image tested once in {folds} folds" if folds else "")


def title(side: Side, sides: Sequence[Side]) -> str:
    """Name and size of a test side, and how it came about where others came about otherwise."""
    return ", ".join([f"test side {side.name}: {size(side)}", *shared(side, sides, DRAWN)])
