"""Laws that hold for whatever is given: hashes, groups, splits, text, parameters, statistics and maps of evidence."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.tolerance import rounding
from tumorxai.archives import text
from tumorxai.base import draws, jackknife
from tumorxai.base.dataset import linked
from tumorxai.base.statistics import holm
from tumorxai.config import reading
from tumorxai.dedupe import hashing
from tumorxai.errors import UserError
from tumorxai.explain import cams
from tumorxai.split import assign

LAW = settings(derandomize=True, deadline=None, max_examples=40, database=None)

SHARES = st.floats(0, 1)
PIXELS = arrays.arrays(np.uint8, (2, hashing.SIDE, hashing.SIDE))
MAPS = arrays.arrays(np.float32, (2, 3, 4, 4), elements=st.floats(-1e3, 1e3, width=32))


@LAW
@given(PIXELS, st.integers(0, 7))
def test_frequencies_turn_as_images_do(images: np.ndarray, orientation: int) -> None:
    turned = hashing.frequencies(hashing.turn(images, orientation))
    close = 255 * hashing.SIDE**2 * rounding(torch.float64, hashing.SIDE, stages=2) + 2e-6  # to which both are rounded
    np.testing.assert_allclose(hashing.turn_frequencies(hashing.frequencies(images), orientation), turned, atol=close)
    back = hashing.turn(hashing.turn(images, orientation), int(hashing.INVERSE[orientation]))
    assert np.array_equal(back, images)


@LAW
@given(PIXELS)
def test_a_hash_says_which_half_of_the_frequencies_is_high(images: np.ndarray) -> None:
    for one in hashing.hashes(hashing.frequencies(images)):
        assert int(one).bit_count() <= 32


@LAW
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["", "a", "b", "c"])), min_size=1, max_size=12))
def test_what_shares_a_value_is_in_one_component(rows: list[tuple[int, str]]) -> None:
    table = pd.DataFrame(rows, columns=["group", "patient"])
    component = linked(table, ("group", "patient"))
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            if one[0] == other[0] or one[1] == other[1] != "":
                assert component[i] == component[j]
    assert list(dict.fromkeys(component.tolist())) == list(range(component.max() + 1))
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    again = linked(table.iloc[order].reset_index(drop=True), ("group", "patient"))
    assert np.array_equal(again[:, None] == again, (component[:, None] == component)[np.ix_(order, order)])


@LAW
@given(st.lists(SHARES, min_size=1, max_size=6), st.integers(0, 500))
def test_whole_numbers_near_the_shares_sum_to_the_total(shares: list[float], total: int) -> None:
    whole = sum(shares)
    quota = np.array(shares) / whole * total if whole > 1e-9 else np.full(len(shares), total / len(shares))
    found = assign.apportion(quota, total)
    assert found.sum() == total
    assert (np.abs(found - quota) < 1 + 1e-6).all()


@LAW
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6)), min_size=1, max_size=40), SHARES, SHARES)
def test_subsets_of_the_labels_are_stratified_and_nested(rows: list[tuple[str, int]], one: float, other: float) -> None:
    labels, unit = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    ranks = draws.label_ranks(labels, unit, np.random.default_rng(0))
    assert ((ranks >= 0) & (ranks < 1)).all()
    few, many = sorted((max(one, 1e-3), max(other, 1e-3)))
    assert not ((ranks < few) & ~(ranks < many)).any()
    for label in set(labels):
        n = int((labels == label).sum())
        if abs(few * n % 1 - 0.5) > 1e-6:  # half an image is rounded up but for the last digit
            assert int(((ranks < few) & (labels == label)).sum()) == max(1, math.floor(few * n + 0.5))


@LAW
@given(st.lists(SHARES, min_size=1, max_size=10))
def test_adjusted_p_values_are_in_the_same_order_and_no_smaller(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(own <= new <= 1 for own, new in zip(p, adjusted, strict=True))
    assert max(adjusted) <= min(1.0, len(p) * max(p))
    by_p = sorted(zip(p, adjusted, strict=True))
    assert [new for _, new in by_p] == sorted(adjusted)


@LAW
@given(st.lists(st.integers(0, 7), min_size=2, max_size=40), st.data())
def test_an_interval_lies_within_what_is_possible_and_holds_the_value(clusters: list[int], data: st.DataObject) -> None:
    right = np.array(data.draw(st.lists(st.booleans(), min_size=len(clusters), max_size=len(clusters))))
    drawn = jackknife.draw(np.array(clusters), 0)
    entry = drawn.entry(drawn.means(right))
    assert entry["value"] == pytest.approx(right.mean())
    if entry["low"] is not None:
        assert 0 <= entry["low"] <= entry["value"] + 1e-12
        assert entry["value"] - 1e-12 <= entry["high"] <= 1


@LAW
@given(st.lists(st.text(max_size=300), max_size=8))
def test_paths_are_safe_different_and_stay_as_they_are(names: list[str]) -> None:
    found = text.paths(names)
    assert len(set(found)) == len(found) == len(names)
    for name in found:
        assert not text.UNSAFE.search(name)
        assert not text.FORMULA.match(name)
        name.encode("utf-8")
    assert text.paths(found) == found


@LAW
@given(st.text(max_size=400))
def test_values_are_safe_and_what_was_cut_stays_two(value: str) -> None:
    found = text.value(value)
    assert len(found) <= text.MAX_TEXT + 1
    assert not text.UNSAFE.search(found)
    assert not text.FORMULA.match(found)
    long = "x" * text.MAX_TEXT + value
    assert (text.clean(long + "a") == text.clean(long + "b")) is False


YAML = st.text(alphabet="ab01:-[]{}&*!|>'\"#%@`,? \n\t.é\0", max_size=60)


@LAW
@given(YAML | st.text(max_size=60))
def test_any_text_is_parameters_or_refused_in_words(document: str) -> None:
    try:
        found = reading.parse(document, "params.yaml")
    except UserError:
        return
    json.dumps(found, default=str)


PLAIN = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | st.text("abc xyz", max_size=9)


@LAW
@given(st.dictionaries(st.text("abc", min_size=1, max_size=5), PLAIN | st.lists(PLAIN, max_size=4), max_size=5))
def test_parameters_read_back_as_they_were_written(content: dict[str, object]) -> None:
    assert reading.parse(json.dumps(content), "params.yaml") == content


@LAW
@given(MAPS, MAPS)
def test_maps_of_evidence_are_finite_and_follow_a_mirrored_image(a: np.ndarray, g: np.ndarray) -> None:
    A, G = torch.from_numpy(a), torch.from_numpy(g)
    for method in (cams.grad_cam, cams.layer_cam):
        found = method(A, G)
        assert found.shape == (2, 4, 4)
        assert torch.isfinite(found).all()
        unit = cams.stretch(found, (8, 8))
        assert ((unit >= 0) & (unit <= 1)).all()
        mirrored = method(A.flip(-1), G.flip(-1)).flip(-1)
        scale = float(A.abs().max() * G.abs().max()) * A.shape[1]
        assert (mirrored - found).abs().max() <= max(scale, 1e-30) * rounding(torch.float32, 16, stages=3)
