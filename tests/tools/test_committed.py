"""A run beside the committed one: exact, within or outside."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tumorxai.errors import UserError
from tumorxai.tools.committed import checks, compare

LINEAR = {"accuracy": 0.6, "accuracy_low": 0.5, "accuracy_high": 0.7, "macro_f1": 0.55}


def write(root: Path, name: str, content: Any) -> None:
    (root / "metrics").mkdir(exist_ok=True)
    (root / "metrics" / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path, "linear", LINEAR)
    write(tmp_path, "leakage", {"copies_across_sides": 0})
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    for command in ("init -q", "config user.email a@b.c", "config user.name a", "add -A", "commit -qm start"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    return tmp_path


def verdicts(project: Path) -> dict[str, str]:
    return {one.name: one.verdict for one in compare(project)}


def test_the_same_numbers_are_exact_and_bounds_count_with_their_score(project: Path) -> None:
    assert verdicts(project) == dict.fromkeys(
        ("linear.accuracy", "linear.macro_f1", "leakage.copies_across_sides"), "exact"
    )
    assert [(one.state, one.found) for one in checks(project)] == [
        ("ok", "3 of 3 numbers are exactly those of the commit")
    ]


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.65, 0.85, "within"), (0.5, 0.7 + 1e-9, "within"), (0.71, 0.9, "outside")]
)
def test_scores_agree_as_far_as_their_intervals_overlap(project: Path, low: float, high: float, verdict: str) -> None:
    write(project, "linear", LINEAR | {"accuracy": 0.8, "accuracy_low": low, "accuracy_high": high, "macro_f1": 0.56})
    assert verdicts(project)["linear.accuracy"] == verdict
    assert verdicts(project)["linear.macro_f1"] == "differs"
    states = {one.name: one.state for one in checks(project)}
    assert states["linear.accuracy"] == {"within": "ok", "outside": "fail"}[verdict]
    assert states["linear.macro_f1"] == "warn"


def test_what_is_counted_and_what_is_missing_must_be_equal(project: Path) -> None:
    write(project, "leakage", {"copies_across_sides": 1})
    write(project, "linear", {"accuracy": 0.6, "accuracy_low": 0.5, "accuracy_high": 0.7})
    assert verdicts(project)["leakage.copies_across_sides"] == "outside"
    assert verdicts(project)["linear.macro_f1"] == "outside"


def test_another_experiment_and_no_commit_are_not_compared(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (project / "params.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match="of another experiment"):
        compare(project)
    with pytest.raises(UserError, match="no committed metrics"):
        compare(tmp_path_factory.mktemp("empty"))
    assert checks(project)[0].found.startswith("not compared: ")
