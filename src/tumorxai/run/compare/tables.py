"""The leaderboard as text, for a document and for a terminal."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

import pandas as pd

from tumorxai.base.glossary import HEAD, SCORES, shown
from tumorxai.report.words import cell
from tumorxai.run.compare.judge import Side, shared, size
from tumorxai.run.compare.names import SHOWN

WIDTHS = {"rank": 5, "accuracy": 18, "balanced": 18, "model": 31, "experiments": 20}  # with the gaps 100 characters


def percent(row: pd.Series[Any], name: str) -> str:
    """A score with its interval, in per cent where that is its unit."""
    if pd.isna(row.get(name)):
        return "–"
    text = SCORES[name].text
    return f"{text(row[name])} [{text(row[f'{name}_low'])}, {text(row[f'{name}_high'])}]"


def short(experiments: object) -> str:
    """The first names of experiments, and how many more there are: a commit that changed nothing repeats a score."""
    names = str(experiments).split()
    return " ".join(names[:2]) + (f" +{len(names) - 2} more" if len(names) > 2 else "")


def long(own: pd.DataFrame) -> list[tuple[str, str]]:
    """Name and all settings of the rows whose names do not hold them all."""
    return [
        (str(row["model"]), str(row["settings"]))
        for _, row in own.iterrows()
        if str(row["settings"]).count("; ") >= SHOWN
    ]


def pairs_sentence(side: Side) -> str:
    """How many pairs differ; empty without a pair."""
    if not len(side.pairs):
        return ""
    count = int((side.pairs["p"] < 0.05).sum())
    return (
        f"{count} of {len(side.pairs)} pairs differ in accuracy: paired test over clusters, adjusted after Bonferroni, "
        "5%."
    )


# What the last column of the table over seeds says.
SAME = "Same: the seeds' scores scatter no more than the intervals over patients say (5%, chi-squared)."


def content(board: pd.DataFrame, sides: Sequence[Side], seeds: pd.DataFrame, missing: Sequence[str]) -> dict[str, Any]:
    """The leaderboard for programs: each test side with its classifiers and their paired tests, and all else."""

    def plain(table: pd.DataFrame) -> Any:
        return json.loads(table.round(6).to_json(orient="records"))

    found = [
        {
            "test_side": side.name,
            "common": shared(side, sides),
            "classifiers": plain(board[board["test_side"] == side.name].drop(columns="test_side")),
            "pairs": plain(side.pairs.drop(columns="test_side", errors="ignore")),
        }
        for side in sides
    ]
    return {"sides": found, "seeds": plain(seeds), "left_out": list(missing)}


def markdown(board: pd.DataFrame, sides: Sequence[Side], seeds: pd.DataFrame, missing: Sequence[str]) -> str:
    """The leaderboard for people."""
    lines = ["# Leaderboard", "", "95% intervals by a jackknife over groups of copies and patients; per cent.", ""]
    for side in sides:
        own = board[board["test_side"] == side.name]
        lines += [f"## Test side {side.name}: {size(side)}", ""]
        if common := shared(side, sides):
            lines += [f"Common to all: {cell(', '.join(common))}.", ""]
        heads = shown(HEAD)
        lines += [f"| model | {' | '.join(score.title for score in heads.values())} | rank | experiments |"]
        lines += ["|---" * (len(heads) + 3) + "|"]
        for _, row in own.iterrows():
            cells = [percent(row, name) for name in heads]
            rank = f"{row['rank']:.3g} [{row['rank_low']:.3g}, {row['rank_high']:.3g}]"
            lines.append(f"| {cell(row['model'])} | {' | '.join(cells)} | {rank} | {cell(short(row['experiments']))} |")
        if rows := long(own):
            lines += ["", "In full:", "", *(f"- {cell(model)}: {cell(all_of_it)}" for model, all_of_it in rows)]
        if pairs := pairs_sentence(side):
            lines += ["", pairs]
        lines.append("")
    if len(seeds):
        lines += ["## Over seeds", "", "A seed draws split and training. Splits of one data set share images, so no"]
        lines[-1] += f" models are tested against each other across them. {SAME}"
        lines += ["", "| model | seeds | accuracy, mean | deviation over seeds | interval over patients, mean | same |"]
        lines += ["|---" * 6 + "|"]
        lines += [
            f"| {cell(row['model'])} | {row['seeds']} | {100 * row['accuracy']:.1f} | {100 * row['sd']:.1f} "
            f"| {100 * row['low']:.1f} to {100 * row['high']:.1f} | {'yes' if row['same'] else 'no'} |"
            for _, row in seeds.iterrows()
        ]
        lines.append("")
    if missing:
        lines += ["## Left out", "", *(f"- {cell(reason)}" for reason in missing), ""]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> list[str]:
    """A row of cells, over as many lines as its longest cell needs: nothing is cut."""
    columns = [textwrap.wrap(text, width) or [""] for text, width in zip(cells, WIDTHS.values(), strict=True)]
    height = max(map(len, columns))
    filled = [own + [""] * (height - len(own)) for own in columns]
    return [
        "  ".join(part.ljust(width) for part, width in zip(parts, WIDTHS.values(), strict=True)).rstrip()
        for parts in zip(*filled, strict=True)
    ]


def terminal(board: pd.DataFrame) -> str:
    """The leaderboard in at most 100 columns."""
    lines = []
    for name, own in board.groupby("test_side", sort=False):
        pooled = f" in {own['folds'].min()} folds" if own["folds"].min() else ""
        lines += [f"test side {name}: {own['test_images'].iloc[0]} images{pooled}; per cent, with 95% intervals"]
        lines += _line(["rank", "accuracy", "balanced accuracy", "model", "experiments"])
        for _, row in own.iterrows():
            made = short(row["experiments"])
            scores = percent(row, "accuracy"), percent(row, "balanced_accuracy")
            lines += _line([f"{row['rank']:.3g}", *scores, str(row["model"]), made])
        lines.append("")
    return "\n".join(lines)
