"""Splits: whole units, asked sizes, nested labels, and refusal of what cannot be drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tumorxai.base.dataset import COLUMNS, Dataset
from tumorxai.config import Params, Split
from tumorxai.errors import UserError
from tumorxai.files import read_json, write_array, write_csv
from tumorxai.split.split import LABELLED, draw, run, summarise
from tumorxai.split.units import find


def tables(labels: list[str], groups: list[int] | None = None, **columns: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A catalogue and its groups, one row per label."""
    n = len(labels)
    given = {"source": "s", "patient": "", "fold": "", "official_split": "", "status": "keep"} | columns
    table = pd.DataFrame({"label": labels, "group": groups or list(range(n)), **given}, index=range(n))
    return table.drop(columns=["group", "status"]), table[["group", "label", "status"]]


def random_tables(seed: int, n: int = 400) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images with duplicate groups of mixed labels and patients that chain groups together."""
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, n // 4, n)
    named = [f"s:{p}" if rng.random() < 0.6 else "" for p in patient]
    group = np.minimum(np.arange(n), rng.integers(0, n, n))
    return tables(list(rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1])), list(group), patient=named)


@pytest.mark.parametrize("protocol", ["patients", "grouped"])
@pytest.mark.parametrize("seed", range(12))
def test_honest_protocols_share_no_group_and_no_patient(protocol: str, seed: int) -> None:
    catalogue, groups = random_tables(seed)
    settings = Split.model_validate({"protocol": protocol, "unlabelled": 0.2, "train": 0.5})
    drawn = draw(catalogue, groups, settings, seed)
    for key in (groups["group"], catalogue["patient"]):
        sides = drawn["side"].groupby(key.to_numpy()).nunique().drop("", errors="ignore")
        assert sides.max() == 1


@pytest.mark.parametrize("seed", range(6))
def test_shares_come_close(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = list(np.repeat(np.arange(300), rng.integers(1, 9, 300)))
    labels = [["a", "b", "c"][group % 3] for group in groups]
    drawn = draw(*tables(labels, groups), Split(), seed)
    shares = pd.crosstab(drawn["label"], drawn["side"], normalize="index")
    largest = 8 / 400  # one unit of the largest in a class of some 450 images
    assert np.abs(shares[["train", "validation", "test"]] - [0.7, 0.15, 0.15]).to_numpy().max() < largest


def test_large_units_are_found_on_every_side() -> None:
    sizes = np.r_[np.full(60, 8), np.full(480, 1)]
    groups = list(np.repeat(np.arange(len(sizes)), sizes))
    drawn = draw(*tables(["a"] * len(groups), groups), Split(), 0)
    large = drawn["group"] < 60
    share = (large & (drawn["side"] == "test")).sum() / (drawn["side"] == "test").sum()
    assert share == pytest.approx(0.5, abs=0.1)


def test_folds_stand_in_for_unknown_patients_and_bridges_are_dropped() -> None:
    fold = [str(i // 20) for i in range(100)]
    groups = list(range(100))
    groups[21] = 20  # copies within a fold stay
    groups[40], groups[41] = 39, 39  # one image of fold 1 and two of fold 2: the one is dropped
    catalogue, table = tables(["a", "b"] * 50, groups, fold=fold)
    unit, independent, bridges, _ = find(catalogue, table, Split())
    assert np.flatnonzero(bridges).tolist() == [39]
    assert len(np.unique(unit[~bridges])) == 5
    assert len(np.unique(independent)) == 97
    drawn = draw(catalogue, table, Split(), 0)
    assert drawn["side"][39] == "dropped"
    assert drawn["side"][~bridges].groupby(np.array(fold)[~bridges]).nunique().max() == 1
    assert drawn["side"].value_counts().to_dict() == {"train": 59, "validation": 20, "test": 20, "dropped": 1}
    assert summarise(drawn, catalogue, table, Split())["bridging_folds"] == 1
    pd.testing.assert_frame_equal(drawn, draw(catalogue, table, Split(), 0, find(catalogue, table, Split())))


def test_a_known_patient_outranks_the_fold() -> None:
    catalogue, groups = tables(["a"] * 40, fold=["1"] * 40, patient=[f"s:{i // 2}" for i in range(40)])
    assert draw(catalogue, groups, Split(), 0)["side"].nunique() == 3


def test_patients_keeps_together_what_the_catalogue_does_not_tell() -> None:
    """Ten images each of 40 slices: a registry's folds for half of them, likely series for a quarter, else nothing."""
    number = np.arange(400) // 10
    known = np.select([number < 20, number < 30], ["known", "likely"], "unknown")
    subject = np.where(number < 20, [f"far/away:fold{n % 4}" for n in number], "")
    series = np.where(number < 30, [f"series{n}" for n in number], "")
    catalogue, groups = tables([["a", "b"][n % 2] for n in number // 2])
    catalogue = catalogue.assign(subject=subject, series=series, known=known)
    drawn = draw(catalogue, groups, Split(), 0)
    for key in (drawn["subject"], drawn["series"]):
        assert drawn["side"].groupby(key).nunique().drop("").max() == 1
    alone = draw(catalogue, groups, Split(protocol="grouped"), 0)
    assert alone["side"].groupby(alone["series"]).nunique().max() > 1
    found = summarise(drawn, catalogue, groups, Split())
    assert found["patients"] == {"known": 200, "likely": 100, "unknown": 100}
    assert {name: sum(side["patients"].values()) for name, side in found["sides"].items()} == {
        name: side["images"] for name, side in found["sides"].items()
    }
    assert found["units"] == 4 + 10 + 100
    assert sum(sum(side["independent"].values()) for side in found["sides"].values()) == 30 + 100


@pytest.mark.parametrize("seed", range(4))
def test_a_side_far_smaller_than_a_fold_takes_a_part_of_one_and_the_rest_is_left_out(seed: int) -> None:
    """As for 308 test images of 7,671, of which most lie in five folds."""
    number = np.arange(1000)
    subject = np.where(number < 800, [f"far/away:fold{n % 4}" for n in number // 8], "")
    series = np.where(number < 800, [f"series{n}" for n in number // 8], "")
    catalogue, groups = tables([["a", "b"][n % 2] for n in number // 8])
    catalogue = catalogue.assign(subject=subject, series=series, known=np.where(number < 800, "known", "unknown"))
    settings = Split(train=200, unlabelled="rest", validation=0, test=50)
    drawn = draw(catalogue, groups, settings, seed)
    tested = drawn[drawn["side"] == "test"]
    folded = tested[tested["subject"] != ""]
    assert len(set(folded["subject"])) == 1
    assert abs(len(folded) - 40) <= 16  # as many of them as of all images, to a series of each class
    assert abs(len(tested) - 50) <= 8  # one series
    assert abs((drawn["side"] == "train").sum() - 200) <= 8
    rest = drawn["subject"] == folded["subject"].iloc[0]
    assert set(drawn["side"][rest]) == {"test", "dropped"}
    assert drawn["subject"][drawn["side"] == "train"].nunique() == 4  # three folds, and those of none
    assert drawn["side"].groupby(drawn["series"]).nunique().drop("").max() == 1
    found = summarise(drawn, catalogue, groups, settings)
    assert found["rest_of_folds"] == (drawn["side"] == "dropped").sum() == 200 - len(folded)


def test_a_fold_that_a_side_can_hold_is_not_thinned() -> None:
    catalogue, groups = tables(["a", "b"] * 100, fold=[str(i // 40) for i in range(200)])
    drawn = draw(catalogue, groups, Split(train=0.6, validation=0.15, test=0.15), 0)
    assert drawn["side"].value_counts().to_dict() == {"train": 120, "validation": 40, "test": 40}


def test_copies_that_bridge_told_folds_are_dropped() -> None:
    subject = [f"far/away:fold{i // 50}" for i in range(200)]
    groups = list(range(200))
    groups[50] = 49
    catalogue, table = tables(["a", "b"] * 100, groups)
    catalogue = catalogue.assign(subject=subject, series="", known="known")
    drawn = draw(catalogue, table, Split(), 0)
    assert (drawn["side"] == "dropped").to_numpy().nonzero()[0].tolist() == [50]
    assert drawn["side"][drawn["side"] != "dropped"].groupby(drawn["subject"]).nunique().max() == 1
    assert (draw(catalogue, table, Split(protocol="grouped"), 0)["side"] != "dropped").all()


@pytest.mark.parametrize("seed", range(6))
def test_sides_get_their_share_of_independent_units_too(seed: int) -> None:
    """Of images alone, one large patient would make up for many small ones."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([1, 2, 12], 200)
    groups = list(np.repeat(np.arange(200), sizes))
    labels = [["a", "b"][g % 2] for g in groups]
    catalogue, table = tables(labels, groups)
    drawn = draw(catalogue, table, Split(), seed)
    found = summarise(drawn, catalogue, table, Split())["sides"]
    for label in ("a", "b"):
        images, units = ([found[side][key][label] for side in ("train", "validation", "test")]
                         for key in ("classes", "independent"))  # fmt: skip
        assert np.abs(np.array(images) / sum(images) - [0.7, 0.15, 0.15]).max() < 0.03
        assert np.abs(np.array(units) / sum(units) - [0.7, 0.15, 0.15]).max() < 0.05


def test_a_class_that_one_unit_would_test_is_refused() -> None:
    """Class b has units enough, but they hang on two patients' worth of other images: one of them must test alone."""
    groups = [*range(60), *np.repeat([100, 101, 102, 103, 104], 4)]
    patient = [""] * 60 + ["s:1"] * 12 + ["s:2"] * 4 + ["s:3"] * 4
    labels = ["a"] * 60 + ["b"] * 20
    with pytest.raises(UserError, match=r"got 3 independent unit\(s\) .* of class 'b'; expected at least 5"):
        draw(*tables(labels, groups, patient=patient), Split(), 0)
    subject = ["" for _ in range(60)] + ["x:fold1"] * 16 + ["x:fold2"] * 4
    catalogue, table = tables(labels, groups)
    catalogue = catalogue.assign(subject=subject, series="", known="known")
    with pytest.raises(UserError, match=r"of class 'b' on the \w+ side; expected at least"):
        draw(catalogue, table, Split(), 0)


@pytest.mark.parametrize("seed", range(3))
def test_counts_of_firildak(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = list(rng.choice(["glioma", "meningioma", "no_tumor", "pituitary"], 7671, p=[0.28, 0.28, 0.17, 0.27]))
    settings = Split(protocol="random", train=1235, unlabelled=6128, validation=0, test=308)
    catalogue, groups = tables(labels, list(np.minimum(np.arange(7671), rng.integers(0, 30000, 7671))))
    drawn = draw(catalogue, groups, settings, seed)
    assert drawn["side"].value_counts().to_dict() == {"train": 1235, "unlabelled": 6128, "test": 308}
    asked = pd.Series(labels).value_counts() * 308 / 7671
    assert (drawn["label"][drawn["side"] == "test"].value_counts() - asked).abs().max() < 1
    near = draw(catalogue, groups, settings.model_copy(update={"protocol": "grouped"}), seed)
    assert (near["side"].value_counts() - [6128, 1235, 308]).abs().max() <= 4


def test_what_is_not_asked_for_is_dropped() -> None:
    drawn = draw(*tables(["a", "b"] * 50), Split(train=20, validation=10, test=10), 0)
    assert drawn["side"].value_counts().to_dict() == {"dropped": 60, "train": 20, "validation": 10, "test": 10}


def test_official_keeps_the_publishers_test_side() -> None:
    official = ["test" if i % 4 == 0 else "train" for i in range(200)]
    groups = [i // 2 for i in range(200)]  # every test image has its copy in the training part
    labels = ["a" if i % 8 < 4 else "b" for i in range(200)]
    drawn = draw(*tables(labels, groups, official_split=official), Split(protocol="official"), 0)
    assert ((drawn["side"] == "test") == (np.array(official) == "test")).all()
    assert (drawn["side"] == "validation").sum() == pytest.approx(150 * 0.15 / 0.85, abs=2)
    inside = drawn[drawn["side"] != "test"]
    assert inside.groupby("group")["side"].nunique().max() == 1


def test_official_keeps_the_publishers_validation_side() -> None:
    official = [("train", "train", "validation", "test")[i // 2 % 4] for i in range(200)]
    settings = Split(protocol="official")
    catalogue, groups = tables(["a", "b"] * 100, official_split=official)
    drawn = draw(catalogue, groups, settings, 0)
    assert list(drawn["side"]) == official
    assert summarise(drawn, catalogue, groups, settings)["pooled"] == {}
    drawn = draw(catalogue, groups, Split(), 0)
    assert list(drawn["side"]) != official
    pooled = summarise(drawn, catalogue, groups, Split())["pooled"]
    assert pooled == {"train": 100, "validation": 50, "test": 50}


def test_official_needs_an_official_split() -> None:
    with pytest.raises(UserError, match="no official split for 8 of 8 images of s; expected train, validation or test"):
        draw(*tables(["a", "b"] * 4), Split(protocol="official"), 0)


@pytest.mark.parametrize("protocol", ["grouped", "random"])
def test_labelled_subsets_are_exact_nested_and_stratified(protocol: str) -> None:
    for seed in range(8):
        catalogue, groups = random_tables(seed)
        drawn = draw(catalogue, groups, Split.model_validate({"protocol": protocol}), seed)
        train, before = drawn[drawn["side"] == "train"], set[int]()
        assert drawn["label_rank"][drawn["side"] != "train"].isna().all()
        for fraction in (*LABELLED, 0.333, 0.5):
            chosen = train[train["label_rank"] < fraction]
            for label, count in train["label"].value_counts().items():
                assert (chosen["label"] == label).sum() == max(1, np.floor(fraction * count + 0.5))
        for fraction in sorted((*LABELLED, 0.333, 0.5)):
            subset = set(train["image_id"][train["label_rank"] < fraction])
            assert before <= subset
            before = subset


def test_first_labels_go_to_different_units() -> None:
    groups = [i // 5 for i in range(1000)]
    drawn = draw(*tables(["a"] * 1000, groups), Split(), 0)
    few = drawn[drawn["label_rank"] < 0.1]
    assert few["group"].is_unique


def test_dropped_images_stay_out() -> None:
    status = ["drop" if i % 5 == 0 else "keep" for i in range(100)]
    for protocol in ("grouped", "random"):
        drawn = draw(*tables(["a", "b"] * 50, status=status), Split.model_validate({"protocol": protocol}), 0)
        assert ((drawn["side"] == "dropped") == (np.array(status) == "drop")).all()


def test_same_seed_same_split_other_seed_another() -> None:
    catalogue, groups = random_tables(0)
    first = draw(catalogue, groups, Split(), 3)
    pd.testing.assert_frame_equal(first, draw(catalogue, groups, Split(), 3))
    assert (first["side"] != draw(catalogue, groups, Split(), 4)["side"]).any()


def test_every_class_on_every_side_even_if_tiny() -> None:
    for seed in range(10):
        drawn = draw(*tables(["a"] * 200 + ["b"] * 5), Split(), seed)
        assert pd.crosstab(drawn["label"], drawn["side"]).loc["b"].to_dict() == {"test": 2, "train": 2, "validation": 1}
        sizes = [5, 5, 3, 2, 1]
        groups = [*range(200), *np.repeat([200, 205, 210, 213, 215], sizes)]
        drawn = draw(*tables(["a"] * 200 + ["b"] * 16, groups), Split(), seed)
        assert drawn[drawn["label"] == "b"].groupby("side")["group"].nunique().to_dict() == {
            "test": 2,
            "train": 2,
            "validation": 1,
        }


def test_too_little_is_refused_with_numbers() -> None:
    with pytest.raises(UserError, match=r"got 2 independent unit.* of class 'b'; expected at least 5: 2 for train"):
        draw(*tables(["a"] * 50 + ["b"] * 4, [*range(50), 50, 50, 51, 51]), Split(), 0)
    with pytest.raises(UserError, match=r"got 10 usable images; expected at least 12"):
        draw(*tables(["a", "b"] * 5), Split(train=6, validation=3, test=3), 0)
    with pytest.raises(UserError, match="no usable image"):
        draw(*tables(["a", "b"], status="drop"), Split(), 0)


def written(data: Path, catalogue: pd.DataFrame, groups: pd.DataFrame) -> Path:
    """The tables that the stage reads; nothing is known beyond the catalogue."""
    patients = catalogue[["patient"]].assign(series="", known="unknown")
    catalogue = catalogue.assign(**{name: "" for name in COLUMNS["catalogue.csv"] if name not in catalogue})
    for name, table in (("catalogue", catalogue), ("groups", groups), ("patients", patients)):
        write_csv(data / f"{name}.csv", table.rename_axis("image_id").reset_index())
    return data


def test_written_files_fit_and_repeat(tmp_path: Path, params: Params) -> None:
    catalogue, groups = random_tables(1)
    data = written(tmp_path / "data", catalogue.assign(pixels_sha256="x"), groups)
    write_array(data / "pack.npy", np.zeros((400, 1, 8, 8), dtype=np.uint8))
    outputs = data / "split.csv", tmp_path / "split.json", tmp_path / "sides.csv"
    contents = []
    for _ in range(2):
        run(params, data, outputs[1], outputs[2])
        contents.append([path.read_bytes() for path in outputs])
    assert contents[0] == contents[1]
    dataset, metrics, plot = Dataset.load(data), read_json(outputs[1]), pd.read_csv(outputs[2])
    for side in ("train", "validation", "test"):
        assert (
            len(dataset.indices(side)) == metrics["sides"][side]["images"] == plot["count"][plot["side"] == side].sum()
        )
    assert len(dataset.labelled(0.1)) == metrics["labelled"]["0.1"]


def test_files_that_do_not_fit_are_refused(tmp_path: Path, params: Params) -> None:
    catalogue, groups = random_tables(1)
    written(tmp_path, catalogue, groups.head(300))
    with pytest.raises(UserError, match=r"got 400 images in catalogue.csv, 300 in groups.csv and 400 in patients.csv"):
        run(params, tmp_path, tmp_path / "split.json", tmp_path / "sides.csv")
    assert not (tmp_path / "split.csv").exists()


def test_one_class_alone_is_refused(tmp_path: Path, params: Params) -> None:
    written(tmp_path, *tables(["a"] * 40))
    with pytest.raises(UserError, match=r"got the classes \['a'\]; expected at least two"):
        run(params, tmp_path, tmp_path / "split.json", tmp_path / "sides.csv")
    assert not (tmp_path / "split.csv").exists()


@pytest.mark.parametrize("protocol", ["grouped", "random", "official"])
@pytest.mark.parametrize("sizes", [{"train": 30, "validation": 10, "test": 10}, {"train": 0.3, "validation": 0.1}])
def test_the_rest_is_unlabelled(protocol: str, sizes: dict[str, float]) -> None:
    official = ["test"] * 10 + ["train"] * 90
    catalogue, groups = tables(["a", "b"] * 50, official_split=official, status=["keep"] * 93 + ["drop"] * 7)
    settings = Split.model_validate({"protocol": protocol, "unlabelled": "rest", "test": 0.1, **sizes})
    sides = draw(catalogue, groups, settings, 0)["side"].value_counts()
    assert sides.sum() - sides["dropped"] == 93
    assert sides["dropped"] == 7
    assert sides["unlabelled"] == 93 - sides["train"] - sides["validation"] - sides["test"]
    assert sides["train"] == (30 if sizes["train"] == 30 else round(0.3 * (93 if protocol != "official" else 83)))


@pytest.mark.parametrize("protocol", ["patients", "grouped", "random"])
@pytest.mark.parametrize("seed", range(4))
def test_every_image_is_tested_in_one_fold_and_the_others_learn(protocol: str, seed: int) -> None:
    catalogue, groups = random_tables(seed)
    groups.loc[:4, "status"] = "drop"
    settings = [Split.model_validate({"protocol": protocol, "folds": 5, "fold": fold}) for fold in range(5)]
    drawn = [draw(catalogue, groups, own, seed) for own in settings]
    tested = np.stack([own["side"] == "test" for own in drawn])
    assert tested.sum(axis=0).tolist() == [0] * 5 + [1] * 395
    for own in drawn:
        assert set(own["side"][5:]) == {"train", "validation", "test"}
        shares = own["side"].value_counts()
        assert shares["validation"] / (shares["train"] + shares["validation"]) == pytest.approx(0.15 / 0.85, abs=0.03)
        if protocol == "random":  # else one patient chains a third of these images together
            counts = pd.crosstab(own["label"][5:], own["side"][5:])["test"]
            assert (counts - own["label"][5:].value_counts() / 5).abs().max() <= 1
        else:
            for key in (groups["group"], catalogue["patient"]):
                assert own["side"][5:].groupby(key.to_numpy()[5:]).nunique().drop("", errors="ignore").max() == 1
    if protocol == "random":
        other = draw(catalogue, groups, settings[0], seed + 100)
        assert (other["side"] == "test").tolist() != tested[0].tolist()
    found = summarise(drawn[2], catalogue, groups, settings[2])
    assert (found["folds"], found["fold"], found["usable"]) == (5, 2, 395)
    assert found["sides"]["test"]["asked"] is None


def test_published_folds_are_the_folds_and_there_are_no_more_of_them() -> None:
    catalogue, groups = tables(["a", "b"] * 50, fold=[str(i // 20) for i in range(100)])
    tested = [
        set(catalogue["fold"][(draw(catalogue, groups, Split(folds=5, fold=k), 3)["side"] == "test").to_numpy()])
        for k in range(5)
    ]
    assert sorted(map(sorted, tested)) == [["0"], ["1"], ["2"], ["3"], ["4"]]
    with pytest.raises(UserError, match=r"split.folds: got 0 .* of class 'a' in fold \d of 6.*lower split.folds"):
        draw(catalogue, groups, Split(folds=6), 3)


def test_folds_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="got folds 1; expected at least 2"):
        Split(folds=1)
    for wrong in ({"fold": 1}, {"folds": 3, "fold": 3}):
        with pytest.raises(ValueError, match=r"expected 0 to \d; correct split.fold"):
            Split.model_validate(wrong)
    for wrong in ({"protocol": "official"}, {"external": ["phantom"]}):
        with pytest.raises(ValueError, match="says itself what is tested"):
            Split.model_validate({"folds": 2, **wrong})
