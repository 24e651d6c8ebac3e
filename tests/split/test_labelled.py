"""Labelled sources: the others only pretrain, and nothing of theirs that a held-out image shares."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.split.test_split import tables
from tumorxai.config import Split
from tumorxai.errors import UserError
from tumorxai.split.split import draw, summarise


def two_sources() -> tuple[pd.DataFrame, pd.DataFrame]:
    """200 images whose labels are used and 200 of another source, which has a class more; every fourth is a copy."""
    labels = [*(["a", "b"] * 100), *(["a", "b", "b", "c"] * 50)]
    groups = np.arange(400)
    groups[200::4] = groups[:200:4]
    patient = [*(f"p:{i // 2}" for i in range(200)), *[""] * 200]
    source = np.where(np.arange(400) < 200, "own", "pool")
    return tables(labels, list(groups), source=source, patient=patient)


@pytest.mark.parametrize("settings", [{}, {"folds": 5, "fold": 2}, {"unlabelled": 0.1, "train": 0.6}])
def test_the_others_pretrain_without_what_is_held_out(settings: dict[str, object]) -> None:
    catalogue, groups = two_sources()
    split = Split.model_validate({"labelled": ["own"], **settings})
    drawn = draw(catalogue, groups, split, 0)
    own, alone = catalogue["source"] == "own", draw(*(t[:200] for t in (catalogue, groups)), split.model_copy(), 0)
    pd.testing.assert_frame_equal(drawn[own], alone)  # as if the other source were not there
    assert set(drawn["side"][~own]) == {"unlabelled", "dropped"}
    held = set(groups["group"][own & drawn["side"].isin(["validation", "test"])])
    assert (groups["group"][~own].isin(held) == (drawn["side"][~own] == "dropped")).all()
    found = summarise(drawn, catalogue, groups, split)
    assert found["unlabelled_sources"] == ["pool"]
    assert found["unlabelled_overlaps"] == (drawn["side"][~own] == "dropped").sum() > 0
    assert found["usable"] == 200
    assert found["sides"]["train"]["share"] == pytest.approx((drawn["side"] == "train").sum() / 200)


def test_the_leaky_protocol_keeps_all() -> None:
    catalogue, groups = two_sources()
    drawn = draw(catalogue, groups, Split(protocol="random", labelled=["own"]), 0)
    assert (drawn["side"][200:] == "unlabelled").all()


def test_an_external_source_is_tested_all_the_same() -> None:
    catalogue, groups = two_sources()
    catalogue.loc[100:199, "source"] = "away"
    drawn = draw(catalogue, groups, Split(labelled=["own"], external=["away"]), 0)
    assert set(drawn["side"][100:200]) == {"test"}
    assert set(drawn["side"][:100]) == {"train", "validation"}
    shared = groups["group"][200:].isin(groups["group"][100:200])
    assert (drawn["side"][200:][shared] == "dropped").all()
    assert set(drawn["side"][200:]) == {"dropped", "unlabelled"}


def test_sources_that_are_not_there_are_refused() -> None:
    with pytest.raises(UserError, match=r"split.labelled: got \['nowhere'\].*expected some of \['own', 'pool'\]"):
        draw(*two_sources(), Split(labelled=["nowhere"]), 0)
