"""What the page shows of the run's scores, and of the leaderboard where one was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tumorxai.audit.verdict import LEAKING
from tumorxai.base.glossary import SERVER, shown
from tumorxai.base.protocols import TITLES
from tumorxai.files import read_csv, read_json, reading

SCORES = shown(SERVER)
SCORED = "run `dvc repro scores`"


@dataclass(frozen=True)
class Scored:
    """A score with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Model:
    """A row of the headline table.

    Attributes:
        protocol: key of the metrics file.
        name: for readers.
        images: on the test side.
        scores: by key of ``SCORES``.
    """

    protocol: str
    name: str
    images: int
    scores: dict[str, Scored]


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard.

    Attributes:
        side: name of the test side; only rows of one side compare.
        images: on it.
        model: what sets it apart.
        experiments: names of the experiments and commits.
        rank: by accuracy.
        scores: by key of ``SCORES``.
    """

    side: str
    images: int
    model: str
    experiments: str
    rank: Scored
    scores: dict[str, Scored]


@dataclass(frozen=True)
class Results:
    """What a run has scored, read once: the run may be replaced while the server shows it.

    Attributes:
        models: the test scores of every protocol, the most accurate first.
        verdict: what the audit says of the split, with ``leaking``; None before there was one.
        out_of_fold_accuracy: of the classifier that suspects labels; None before it was asked.
    """

    models: list[Model]
    verdict: dict[str, Any] | None
    out_of_fold_accuracy: float | None

    @classmethod
    def of(cls, root: Path) -> Results:
        """Those of the run under ``root``."""
        errors = root / "details" / "errors.json"
        accuracy = read_json(errors, "out_of_fold_accuracy")["out_of_fold_accuracy"] if errors.exists() else None
        return cls(headline(root), verdict(root), accuracy)


def _scored(entry: Mapping[Any, Any], name: str = "") -> Scored:
    keys = (name, f"{name}_low", f"{name}_high") if name else ("value", "low", "high")
    return Scored(*(float(entry[key]) for key in keys))


def headline(root: Path) -> list[Model]:
    """The test scores of every protocol that the run under ``root`` has scored, the most accurate first."""
    found = []
    for protocol, name in TITLES.items():
        path = root / "details" / f"{protocol}.json"
        if path.exists():
            content = read_json(path, "test", "images", remedy=SCORED)
            with reading(path, "the scores of a protocol", SCORED):
                test = content["test"]
                own = {key: _scored(test[key]) for key in SCORES if test.get(key, {}).get("value") is not None}
                found.append((-own["accuracy"].value, Model(protocol, name, int(content["images"]["test"]), own)))
    return [model for _, model in sorted(found, key=lambda each: each[0])]


def verdict(root: Path) -> dict[str, Any] | None:
    """What the audit of the run under ``root`` says of its split, with ``leaking``; null before there was one."""
    path = root / "details" / "leakage.json"
    content = read_json(path) if path.exists() else {}
    with reading(path, "the verdict of an audit", "run `dvc repro audit`"):
        found: dict[str, Any] | None = content.get("verdict")
        return found and found | {"leaking": found["level"] == LEAKING}


def leaderboard(root: Path) -> dict[str, list[Entry]]:
    """The rows of ``leaderboard/leaderboard.csv`` by test side; empty where `make compare` has not run."""
    path = root / "leaderboard" / "leaderboard.csv"
    if not path.exists():
        return {}
    remedy = "run `make compare`"
    table = read_csv(path, remedy=remedy, dtype={"test_side": str, "experiments": str})
    found: dict[str, list[Entry]] = {}
    with reading(path, "a leaderboard", remedy):
        for row in table.to_dict("records"):
            own = {key: _scored(row, key) for key in SCORES if pd.notna(row.get(key))}  # none in an older file
            entry = Entry(
                row["test_side"], int(row["test_images"]), row["model"], row["experiments"], _scored(row, "rank"), own
            )
            found.setdefault(entry.side, []).append(entry)
    return found
