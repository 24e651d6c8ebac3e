"""What the experiments and commits of this project have reached, and which differences are real.

Every score is computed anew from the predictions that each experiment has kept in DVC's cache, by one and the same
definition. Only classifiers that were tested on the same images are compared: a table, tests and a diagram for each
test side.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import dvc.api
import numpy as np
import pandas as pd
import yaml
from dvc.exceptions import DvcException
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import rankdata
from tqdm import tqdm

from tumorxai import bootstrap, pictures, scores
from tumorxai.errors import UserError
from tumorxai.evaluate.predictions import Predictions
from tumorxai.evaluate.result import PROTOCOLS
from tumorxai.evaluate.statistics import difference, holm, mcnemar
from tumorxai.files import write_csv, write_text

SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "mcc", "macro_auroc", "nll")
SEED = 0  # of the bootstrap: one for all, so that the resamples are paired
UNNAMED = ("preset",)  # parameters that only name others


@dataclass(frozen=True)
class Entrant:
    """A classifier on the leaderboard.

    Attributes:
        protocol: a key of PROTOCOLS.
        experiments: names of the experiments and commits that kept these very predictions.
        params: flat parameters that these experiments have in common.
        test: predictions on the test side, ordered by source and path.
        model: protocol and what sets it apart from the others.
    """

    protocol: str
    experiments: tuple[str, ...]
    params: dict[str, str]
    test: Predictions
    model: str = ""


@dataclass
class Found:
    """What the experiments hold: entrants by the checksum of their predictions, and why others are missing."""

    entrants: dict[str, Entrant] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted names and values, as text, of nested parameters."""
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + str(name)] = str(value)
    return flat


def collect(root: Path, commits: int, protocols: Sequence[str]) -> Found:
    """Read the kept predictions of the workspace, of commits and of their experiments.

    Args:
        root: the project's folder.
        commits: how many of the last commits are looked at; negative: all.
        protocols: keys of PROTOCOLS.

    Raises:
        UserError: the folder is no DVC project in a git repository.
    """
    try:
        shown = dvc.api.exp_show(str(root), num=commits)
    except DvcException as error:
        raise UserError(f"compare: got {error}; expected a DVC project with commits; run it in your clone") from None
    found = Found()
    done = [row for row in shown if row["State"] in (None, "Success")]
    for row in tqdm(done, desc="experiments", unit="experiment"):
        name = str(row["Experiment"] or row["rev"])
        files = dvc.api.DVCFileSystem(str(root), rev=None if row["rev"] == "workspace" else row["rev"])
        try:
            with files.open("params.yaml", "r") as stream:
                params = relevant(flatten(yaml.safe_load(stream) or {}))
        except FileNotFoundError:
            continue
        absent = []
        for protocol in protocols:
            try:
                with files.open(f"models/predictions_{protocol}.csv", "r") as stream:
                    _add(found, protocol, name, params, stream.read())
            except (FileNotFoundError, UserError):  # never kept, not in the cache, or of another version
                absent.append(protocol)
        if absent:
            found.missing.append(f"{name}: no readable predictions of {', '.join(absent)} in the cache")
    return found


def relevant(params: dict[str, str]) -> dict[str, str]:
    """Without the settings of methods that were not run."""
    method = f"methods.{params.get('method')}."
    return {key: value for key, value in params.items() if not key.startswith("methods.") or key.startswith(method)}


def _add(found: Found, protocol: str, name: str, params: dict[str, str], text: str) -> None:
    key = f"{protocol} {hashlib.sha256(text.encode()).hexdigest()}"
    if (known := found.entrants.get(key)) is not None:
        common = {k: v for k, v in known.params.items() if params.get(k) == v}
        names = known.experiments if name in known.experiments else (*known.experiments, name)
        found.entrants[key] = replace(known, experiments=names, params=common)
        return
    test = Predictions.read(io.StringIO(text)).on("test")
    key_columns = test.table[["source", "path"]].agg("\n".join, axis=1).to_numpy(dtype=str)
    places = np.argsort(key_columns, kind="stable")
    found.entrants[key] = Entrant(protocol, (name,), params, test.where(places))


def differing(entrants: Sequence[Entrant]) -> list[str]:
    """Parameters that are not the same in all entrants that have them."""
    values: dict[str, set[str]] = {}
    for entrant in entrants:
        for key, value in entrant.params.items():
            values.setdefault(key, set()).add(value)
    return [key for key, seen in values.items() if len(seen) > 1 and key not in UNNAMED]


def named(entrants: Sequence[Entrant], without: Sequence[str] = ()) -> list[Entrant]:
    """Call each by its protocol and by what, but for ``without``, sets it apart from others of that protocol."""
    apart = {name: differing([other for other in entrants if other.protocol == name]) for name in PROTOCOLS}
    called = []
    for entrant in entrants:
        keys = [key for key in apart[entrant.protocol] if key in entrant.params and key not in without]
        own = [f"{key}={entrant.params[key]}" for key in keys]
        called.append(replace(entrant, model=", ".join([PROTOCOLS[entrant.protocol], *own])))
    return called


def test_side(entrant: Entrant) -> str:
    """Eight hexadecimal digits that change with the images of the test side, their labels or their clusters."""
    table = entrant.test.table
    content = table[["source", "path", "label"]].assign(cluster=pd.factorize(table["cluster"])[0])
    return hashlib.sha256(content.to_csv(index=False).encode()).hexdigest()[:8]


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
    called = named_alike(sides)
    table = pd.DataFrame(
        [
            {"model": entrant.model, "seed": entrant.params.get("seed"), "accuracy": float(own["accuracy"][0])}
            for side in sides
            for entrant, own in zip(called[side.name], side.scores, strict=True)
        ]
    )
    found = table.groupby("model").agg(seeds=("seed", "nunique"), accuracy=("accuracy", "mean"), sd=("accuracy", "std"))
    several = found[found["seeds"] > 1].sort_values("accuracy", ascending=False)
    return several.reset_index().round(6)


def named_alike(sides: Sequence[Side]) -> dict[str, list[Entrant]]:
    """The entrants of each side, called alike whatever their seed."""
    called = iter(named([entrant for side in sides for entrant in side.entrants], without=("seed",)))
    return {side.name: [next(called) for _ in side.entrants] for side in sides}


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


def title(side: Side, sides: Sequence[Side]) -> str:
    """Name and size of a test side, and how it came about where others came about otherwise."""
    drawn = [text for text in shared(side, sides) if text.startswith(("seed=", "data.", "dedupe.", "split."))]
    return ", ".join([f"test side {side.name}: {len(side.entrants[0].test.truth)} images", *drawn])


def _ranks(axes: Axes, side: Side) -> None:
    count = len(side.entrants)
    for y, own in enumerate(side.ranks):
        entry = bootstrap.entry(own)
        axes.plot([entry["low"], entry["high"]], [y, y], color="#0072B2", linewidth=2)
        axes.plot(entry["value"], y, "o", color="#0072B2")
    axes.set_yticks(range(count), [entrant.model for entrant in side.entrants], fontsize=8)
    edge = count + 0.6
    for number, (first, last) in enumerate(cliques(side)):
        x = edge + 0.35 * number
        axes.plot([x, x], [first - 0.2, last + 0.2], color="#333333", linewidth=4, solid_capstyle="butt")
    axes.set(ylim=(count - 0.5, -0.5), xlabel="rank by accuracy, 1 is best", xlim=(0.5, None))
    axes.spines[["top", "right"]].set_visible(False)


def rank_figure(sides: Sequence[Side]) -> Figure:
    """Critical-difference diagrams, one for each test side with several entrants."""
    shown = [side for side in sides if len(side.entrants) > 1] or list(sides[:1])
    heights = [0.9 + 0.3 * len(side.entrants) for side in shown]
    drawn = Figure(figsize=(9, sum(heights) + 0.6), layout="constrained")
    drawn.suptitle(
        "Ranks with 95% intervals over resampled test images.\n"
        "A bar joins classifiers that McNemar's exact test, adjusted after Holm, cannot tell apart.",
        fontsize=9,
    )
    for axes, side in zip(
        drawn.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0], shown, strict=True
    ):
        _ranks(axes, side)
        axes.set_title(title(side, sides), fontsize=9)
    return drawn


def score_figure(sides: Sequence[Side]) -> Figure:
    """Accuracy and balanced accuracy with their intervals."""
    heights = [0.9 + 0.3 * len(side.entrants) for side in sides]
    drawn = Figure(figsize=(9.5, sum(heights) + 0.3), layout="constrained")
    grid = drawn.subplots(len(sides), 2, squeeze=False, sharey="row", sharex=True, height_ratios=heights)
    for line, side in zip(grid, sides, strict=True):
        for axes, name in zip(line, ("accuracy", "balanced_accuracy"), strict=True):
            for y, own in enumerate(side.scores):
                entry = bootstrap.entry(own[name])
                axes.plot([entry["low"], entry["high"]], [y, y], color="#0072B2", linewidth=2)
                axes.plot(entry["value"], y, "o", color="#0072B2")
            axes.set_xlabel(name.replace("_", " "))
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
        line[0].set_yticks(range(len(side.entrants)), [entrant.model for entrant in side.entrants], fontsize=8)
        line[0].set_ylim(len(side.entrants) - 0.5, -0.5)
        line[0].set_title(title(side, sides), fontsize=9)
    return drawn


def shared(side: Side, sides: Sequence[Side]) -> list[str]:
    """What all entrants of a test side have in common, where those of other sides have something else."""
    keys = differing([entrant for each in sides for entrant in each.entrants])
    own = {key: {entrant.params.get(key) for entrant in side.entrants} for key in keys}
    return [f"{key}={seen.pop()}" for key, seen in own.items() if len(seen) == 1 and None not in seen]


def _percent(row: pd.Series[Any], name: str) -> str:
    if pd.isna(row[name]):
        return "–"
    return f"{100 * row[name]:.1f} [{100 * row[f'{name}_low']:.1f}, {100 * row[f'{name}_high']:.1f}]"


def markdown(board: pd.DataFrame, sides: Sequence[Side], seeds: pd.DataFrame, missing: Sequence[str]) -> str:
    """The leaderboard for people."""
    lines = ["# Leaderboard", "", "95% intervals by a bootstrap over groups of copies and patients; per cent.", ""]
    for side in sides:
        own = board[board["test_side"] == side.name]
        first = own.iloc[0]
        lines += [f"## Test side {side.name}: {first['test_images']} images, {first['clusters']} clusters", ""]
        if common := shared(side, sides):
            lines += [f"All with {', '.join(common)}.", ""]
        lines += ["| model | accuracy | balanced accuracy | macro F1 | macro AUROC | rank | experiments |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for _, row in own.iterrows():
            cells = [_percent(row, name) for name in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc")]
            rank = f"{row['rank']:.3g} [{row['rank_low']:.3g}, {row['rank_high']:.3g}]"
            lines.append(f"| {row['model']} | {' | '.join(cells)} | {rank} | {row['experiments']} |")
        if len(side.pairs):
            found = side.pairs[side.pairs["holm"] < 0.05]
            lines += ["", f"{len(found)} of {len(side.pairs)} pairs differ in accuracy: McNemar's exact test over"]
            lines[-1] += " clusters, adjusted after Holm, 5%."
        lines.append("")
    if len(seeds):
        lines += ["## Over seeds", "", "A seed draws split and training. Splits of one data set share images, so no"]
        lines[-1] += " test is made across them."
        lines += ["", "| model | seeds | accuracy, mean | deviation |", "|---|---|---|---|"]
        lines += [
            f"| {row['model']} | {row['seeds']} | {100 * row['accuracy']:.1f} | {100 * row['sd']:.1f} |"
            for _, row in seeds.iterrows()
        ]
        lines.append("")
    if missing:
        lines += ["## Left out", "", *(f"- {reason}" for reason in missing), ""]
    return "\n".join(lines)


def write(root: Path, commits: int, protocols: Sequence[str]) -> pd.DataFrame:
    """Write the leaderboard under ``metrics`` and ``plots/leaderboard``.

    Args:
        root: the project's folder.
        commits: how many of the last commits are looked at; negative: all.
        protocols: keys of PROTOCOLS that take part.

    Returns:
        The leaderboard.

    Raises:
        UserError: no experiment has kept predictions.
    """
    found = collect(root, commits, protocols)
    if not found.entrants:
        raise UserError(
            f"compare: got no kept predictions ({'; '.join(found.missing[:3]) or 'no experiment'}); expected some; run "
            "`dvc repro` or `dvc exp run` first, or `dvc pull` to fill the cache"
        )
    by_side: dict[str, list[Entrant]] = {}
    for entrant in found.entrants.values():
        by_side.setdefault(test_side(entrant), []).append(entrant)
    largest = sorted(by_side, key=lambda name: (-len(by_side[name]), name))
    sides = [judge(name, named(by_side[name])) for name in tqdm(largest, desc="test sides", unit="side")]
    board, seeds = rows(sides), over_seeds(sides)
    write_csv(root / "metrics" / "leaderboard.csv", board)
    write_csv(root / "metrics" / "leaderboard_pairs.csv", pd.concat([side.pairs for side in sides]).round(6))
    write_text(root / "metrics" / "leaderboard.md", markdown(board, sides, seeds, found.missing))
    pictures.save(score_figure(sides), root / "plots" / "leaderboard" / "scores.png")
    pictures.save(rank_figure(sides), root / "plots" / "leaderboard" / "ranks.png")
    return board
