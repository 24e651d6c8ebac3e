"""Who stands in several folds, by slices that agree in step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks import persons

ROOT = Path(__file__).resolve().parents[2]

# Folds 1 and 2 of one class: 30 slices each, in the order of their numbers.
NUMBER = np.concatenate([np.arange(100, 130), np.arange(200, 230)])
EXAM = np.array(["glioma/1"] * 30 + ["glioma/2"] * 30, dtype=object)


def pairs(*numbers: tuple[int, int]) -> np.ndarray:
    place = {int(number): at for at, number in enumerate(NUMBER)}
    return np.array([(place[a], place[b]) for a, b in numbers], dtype=np.int64).reshape(-1, 2)


def test_slices_that_agree_in_step_are_of_one_person_and_a_single_pair_is_not() -> None:
    whose = persons.agreeing(pairs((105, 205), (106, 207), (120, 220)), NUMBER, EXAM)
    own = whose >= 0
    assert set(NUMBER[own]) == {105, 106, 205, 207}
    assert len(np.unique(whose[own])) == 1


def test_pairs_that_agree_on_one_side_alone_do_not_confirm_each_other() -> None:
    assert not len(persons.in_step(pairs((105, 205), (106, 225)), NUMBER))
    assert (persons.agreeing(pairs((105, 205), (106, 225)), NUMBER, EXAM) == -1).all()
    assert (persons.agreeing(pairs(), NUMBER, EXAM) == -1).all()


def test_two_persons_stay_two_and_a_chain_of_folds_is_one() -> None:
    apart = persons.agreeing(pairs((102, 202), (103, 203), (125, 225), (126, 226)), NUMBER, EXAM)
    assert len(np.unique(apart[apart >= 0])) == 2
    number = np.concatenate([NUMBER, np.arange(300, 330)])
    exam = np.append(EXAM, np.array(["glioma/3"] * 30, dtype=object))
    chain = np.concatenate([pairs((102, 202), (103, 203)), np.array([[33, 63], [34, 64]])])  # fold 2 and fold 3
    whose = persons.agreeing(chain, number, exam)
    assert set(exam[whose == whose[2]]) == {"glioma/1", "glioma/2", "glioma/3"}


def test_other_classes_beside_a_person_are_not_of_it() -> None:
    exam = EXAM.copy()
    exam[7:30] = "meningioma/1"
    whose = persons.agreeing(pairs((105, 205), (106, 206)), NUMBER, exam)
    assert (whose[7:30] == -1).all()


def test_a_person_of_the_registry_stands_on_one_side_of_the_published_split() -> None:
    listed = pd.read_csv(ROOT / "splits/cheng.csv", dtype=str, keep_default_na=False)
    whose = persons.registered(listed.rename(columns={"file": "path"}))
    sides = listed[(whose >= 0) & (listed["side"] != "dropped")].groupby(
        whose[(whose >= 0) & (listed["side"] != "dropped")]
    )
    assert sides["side"].nunique().eq(1).all()
    assert len(sides) == 11
    folds = listed["patient"][whose >= 0].groupby(whose[whose >= 0]).nunique()
    assert folds.ge(2).all()
