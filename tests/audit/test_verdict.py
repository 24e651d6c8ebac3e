"""The verdict's levels and sentences, the estimate of what two searches missed, and whose images cross."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tumorxai.audit import subjects
from tumorxai.audit.capture import chapman
from tumorxai.audit.verdict import APART, LEAKING, LEVELS, PARTLY, UNKNOWN, Evidence, judge


@pytest.mark.parametrize(
    ("evidence", "level", "words"),
    [
        (Evidence(100, known=700), APART, "the patient of every image is known"),
        (Evidence(100, known=700, by_fold=300), APART, "or of 300 of 700 the published fold of patients, of every"),
        (Evidence(100, known=700, folds_apart=False), PARTLY, "700 of 700"),
        (Evidence(100, known=600, likely=80, unknown=20), PARTLY, "600 of 700 images are known, 80 more"),
        (Evidence(100, likely=80, unknown=20, series=3), UNKNOWN, "3 of 100 test images look like"),
        (Evidence(100, likely=80, unknown=20), UNKNOWN, "no patient is known, by looks alone the series of 80 of 100"),
        (Evidence(100, unknown=700), UNKNOWN, "no patient is known"),
        (Evidence(100, unknown=700, missed=1, explained=1), UNKNOWN, "no patient is known"),
        (Evidence(100, unknown=700, missed=2, explained=1), LEAKING, "2 of them found by the second search alone"),
        (Evidence(100, known=700, copies=3), LEAKING, "3 of 100 test images have a copy"),
        (Evidence(100, known=700, copies=1), LEAKING, "1 of 100 test images has a copy"),
        (Evidence(100, known=700, patients=40), LEAKING, "40 of 100 test images are of patients"),
        (Evidence(100, known=700, copies=3, patients=40), LEAKING, "and 40 are of patients"),
    ],
)  # fmt: skip
def test_every_level_has_its_plain_sentence(evidence: Evidence, level: str, words: str) -> None:
    said = judge(evidence)
    assert said["level"] == level
    assert level in LEVELS
    assert words in said["sentence"]
    assert said["sentence"].endswith(".")
    assert "  " not in said["sentence"]
    assert Evidence(**said["evidence"]) == evidence


def test_the_estimate_covers_the_truth_and_is_hardly_biased() -> None:
    rng = np.random.default_rng(0)
    covered, totals, runs, size = 0, [], 300, 120
    for _ in range(runs):
        first, second = rng.random(size) < 0.7, rng.random(size) < 0.6
        found = chapman(int(first.sum()), int(second.sum()), int((first & second).sum()))
        covered += found["total_low"] <= size <= found["total_high"]
        totals.append(found["total"])
        assert found["missed"] == found["total"] - int((first | second).sum())
    assert covered >= 0.95 * runs - 2.6 * np.sqrt(0.95 * 0.05 * runs)
    assert np.mean(totals) == pytest.approx(size, rel=0.02)


def test_an_undefined_estimate_is_null_and_an_open_bound_too() -> None:
    assert set(chapman(0, 5, 0).values()) == {None}
    assert set(chapman(5, 0, 0).values()) == {None}
    assert chapman(5, 3, 0)["total_high"] is None
    assert chapman(10, 10, 10)["missed"] == 0
    assert chapman(2, 2, 2)["missed_high"] > 0  # two found twice prove little
    with pytest.raises(ValueError, match="found by both"):
        chapman(3, 5, 4)


def table(**columns: list[str]) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    return pd.DataFrame({"source": "s", "patient": "", "fold": "", "group": np.arange(count)} | columns)


SIDES = np.array(["train", "validation", "test", "test", "dropped"], dtype=object)


def test_declared_patients_are_known_and_count_where_they_cross() -> None:
    found = subjects.crossing(table(patient=["p", "q", "p", "r", "r"]), SIDES)
    assert found == {
        "images": 2, "patients": 1, "series": None, "folds_apart": True, "by_fold": 0, "known": 4, "likely": 0,
        "unknown": 0,
    }  # fmt: skip


def test_a_fold_that_crosses_is_no_patient_that_crosses() -> None:
    found = subjects.crossing(table(fold=["1", "2", "1", "3", ""]), SIDES)
    assert (found["patients"], found["folds_apart"], found["known"], found["by_fold"]) == (0, False, 4, 4)


def test_series_cross_as_known_or_as_likely() -> None:
    columns = {"subject": ["", "s:fold1", "s:fold1", "", ""], "series": ["a", "b", "b", "a", "b"]}
    table_of_subjects = table(**columns, known=["likely", "known", "known", "likely", "known"])
    found = subjects.crossing(table_of_subjects, SIDES)
    assert (found["patients"], found["series"], found["likely"]) == (1, 2, 2)
    assert subjects.with_series(table_of_subjects, SIDES).tolist() == [False, False, False, True, False]


def test_units_join_copies_patients_and_series_but_no_folds() -> None:
    columns = {"subject": ["p", "p", "s:fold1", "s:fold1", ""], "series": ["", "", "", "t", "t"]}
    table_of_subjects = table(**columns, known=["known"] * 5).assign(group=[0, 1, 1, 3, 4])
    units = subjects.units(table_of_subjects)
    assert len(set(units)) == 2
    assert units[0] == units[1] == units[2] != units[3] == units[4]
