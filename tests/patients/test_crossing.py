"""What crosses between the sides of a split, by series."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tumorxai.patients.crossing import crossing, near


def test_near_slices_are_those_of_one_fold_at_most_three_numbers_apart() -> None:
    rng = np.random.default_rng(0)
    whose = rng.choice(["", "a", "b"], 80).astype(object)
    numbers = rng.integers(-1, 30, 80)
    one, other = near(whose, numbers)
    wanted = {
        (i, j)
        for i in range(80)
        for j in range(80)
        if i != j
        and whose[i] == whose[j] != ""
        and min(numbers[i], numbers[j]) >= 0
        and abs(numbers[i] - numbers[j]) <= 3
    }
    assert set(zip(one.tolist(), other.tolist(), strict=True)) == wanted


def test_crossing_counts_test_images_with_a_slice_of_their_series_in_training() -> None:
    rows = pd.DataFrame(
        {
            "patient": ["f:fold1"] * 4 + ["f:fold2"] + [""] * 4,
            "slice": [1, 2, 9, 5, 3, -1, -1, -1, -1],
            "series": ["f:series0"] * 4 + ["f:series1", "series5", "series5", "series7", ""],
        }
    )
    side = np.array(["train", "test", "test", "unlabelled", "test", "train", "test", "test", "test"])
    found = crossing(rows, side)
    assert (found["known"], found["crossing"], found["share"]) == (3, 1, round(1 / 3, 6))
    assert (found["likely"], found["likely_crossing"], found["likely_share"]) == (2, 1, 0.5)
    assert crossing(rows, side, ("train", "unlabelled"))["crossing"] == 1
    assert crossing(rows.assign(slice=[1, 2, 8, 5, 3, -1, -1, -1, -1]), side, ("train", "unlabelled"))["crossing"] == 2
    assert crossing(rows[:1], side[:1])["share"] is None


def test_the_next_patient_of_a_fold_is_no_slice_of_the_series() -> None:
    """Cheng's order puts series of other patients of one fold right behind: at most three numbers, another head."""
    rows = pd.DataFrame({"patient": ["f:fold1"] * 4, "slice": [1, 2, 3, 4], "series": ["a", "a", "b", "b"]})
    side = np.array(["test", "test", "train", "train"])
    assert crossing(rows, side)["crossing"] == 0
    assert crossing(rows.assign(series="a"), side)["crossing"] == 2


# Real images
