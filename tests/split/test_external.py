"""External sources: the whole test side is theirs, and nothing of it is trained on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.split.test_split import tables
from tumorxai.config import Split
from tumorxai.errors import UserError
from tumorxai.split.split import draw, summarise


def two_sources(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Images of two sources: every tenth of the first is in a group, or has a patient, of the second."""
    rng = np.random.default_rng(seed)
    labels = list(rng.choice(["a", "b", "c"], 300))
    source = np.where(np.arange(300) < 200, "home", "away")
    groups, patient = np.arange(300), np.full(300, "", dtype=object)
    groups[:200:20] = 200 + np.arange(10)
    patient[10:200:20] = patient[250:260] = [f"p:{i}" for i in range(10)]
    return *tables(labels, list(groups), source=source, patient=patient), np.arange(200) % 10 == 0


def test_an_external_source_is_the_whole_test_side() -> None:
    catalogue, groups, shared = two_sources()
    settings = Split(external=["away"])
    drawn = draw(catalogue, groups, settings, 0)
    side = drawn["side"].to_numpy()
    assert (side[200:] == "test").all()
    assert (side[:200][shared] == "dropped").all()
    assert set(side[:200][~shared]) == {"train", "validation"}
    assert (side == "train").sum() == round(180 * 0.7 / 0.85)
    found = summarise(drawn, catalogue, groups, settings)
    assert found["external_overlaps"] == 20
    assert found["sides"]["test"]["asked"] is None
    assert found["sides"]["test"]["share"] == pytest.approx(100 / 280, abs=1e-6)


def test_the_leaky_protocol_keeps_what_an_external_source_shares() -> None:
    catalogue, groups, shared = two_sources()
    settings = Split(protocol="random", external=["away"])
    drawn = draw(catalogue, groups, settings, 0)
    assert (drawn["side"][200:] == "test").all()
    assert (drawn["side"][:200][shared] != "dropped").all()
    assert summarise(drawn, catalogue, groups, settings)["external_overlaps"] == 0


def test_an_external_source_may_lack_a_class_and_its_folds_bind_nothing() -> None:
    catalogue, groups, _ = two_sources()
    keep = (catalogue["source"] == "home") | (catalogue["label"] != "c")
    catalogue, groups = (table[keep].reset_index(drop=True) for table in (catalogue, groups))
    catalogue["fold"] = np.where(catalogue["source"] == "away", (np.arange(len(catalogue)) % 2).astype(str), "")
    drawn = draw(catalogue, groups, Split(external=["away"]), 0)
    assert set(drawn["label"][drawn["side"] == "test"]) == {"a", "b"}
    assert (drawn["side"][catalogue["source"] == "away"] == "test").all()


def test_external_images_of_a_class_that_training_lacks_are_dropped_and_counted() -> None:
    catalogue, groups, _ = two_sources()
    keep = (catalogue["source"] == "away") | (catalogue["label"] != "c")
    catalogue, groups = (table[keep].reset_index(drop=True) for table in (catalogue, groups))
    drawn = draw(catalogue, groups, Split(external=["away"]), 0)
    unknown = (catalogue["source"] == "away") & (catalogue["label"] == "c")
    assert (drawn["side"][unknown] == "dropped").all()
    assert set(drawn["label"][drawn["side"] == "test"]) == {"a", "b"}
    found = summarise(drawn, catalogue, groups, Split(external=["away"]))
    assert found["external_unknown_class"] == unknown.sum() > 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"external": ["nowhere"]}, r"'nowhere'.*expected some, not all, of \['away', 'home'\]"),
        ({"external": ["home", "away"]}, "some, not all"),
        ({"external": ["away"], "protocol": "official"}, "different test sides"),
    ],
)
def test_external_sources_that_cannot_be_are_refused(settings: dict[str, object], words: str) -> None:
    catalogue, groups, _ = two_sources()
    with pytest.raises(UserError, match=words):
        draw(catalogue, groups, Split.model_validate(settings), 0)


def test_an_external_source_of_one_class_is_refused() -> None:
    catalogue, groups, _ = two_sources()
    keep = (catalogue["source"] == "home") | (catalogue["label"] == "a")
    catalogue, groups = (table[keep].reset_index(drop=True) for table in (catalogue, groups))
    with pytest.raises(UserError, match=r"got only a in \['away'\]; expected at least two"):
        draw(catalogue, groups, Split(external=["away"]), 0)
