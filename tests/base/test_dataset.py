"""The data set that every stage reads: joined, in step, and refused where its files do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tumorxai.base.dataset import Dataset, linked, read_pairs, read_table
from tumorxai.errors import UserError
from tumorxai.files import write_array, write_csv


@pytest.fixture
def data(toy: Path, tmp_path: Path) -> Path:
    """The toy data, free to be spoilt."""
    return Path(shutil.copytree(toy, tmp_path / "data"))


def change(path: Path, column: str, row: int, value: object) -> None:
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    table.loc[row, column] = str(value)
    table.to_csv(path, index=False)


def test_sides_labels_and_subsets(toy: Path) -> None:
    dataset = Dataset.load(toy)
    assert dataset.classes == ("bar", "disc", "ring")
    assert dataset.labels[:3].tolist() == [1, 2, 0]
    assert dataset.indices("train").tolist() == list(range(72))
    assert dataset.indices(("validation", "test")).tolist() == list(range(72, 120))
    assert dataset.labelled(0.25).tolist() == list(range(18))
    assert dataset.labelled(1.0).tolist() == list(range(72))
    assert dataset.images.shape == (120, 1, 32, 32)
    assert (dataset.table["patient"] != "").all()
    assert (dataset.table["fold"] == "").all()


def test_pretraining_sees_no_held_out_image_unless_transductive(toy: Path) -> None:
    dataset = Dataset.load(toy)
    assert not set(dataset.pretraining()) & set(dataset.indices(("validation", "test")))
    assert set(dataset.pretraining(transductive=True)) == set(range(120))


def test_a_wrong_side_is_no_empty_side(toy: Path) -> None:
    with pytest.raises(ValueError, match="valid"):
        Dataset.load(toy).indices("valid")


def test_dropped_images_have_no_class(data: Path) -> None:
    change(data / "groups.csv", "status", 5, "drop")
    change(data / "split.csv", "side", 5, "dropped")
    change(data / "split.csv", "label_rank", 5, "")
    dataset = Dataset.load(data)
    assert dataset.labels[5] == -1
    assert 5 not in dataset.pretraining(transductive=True)


def test_clusters_chain_groups_and_patients(data: Path) -> None:
    for name in ("groups.csv", "split.csv"):
        change(data / name, "group", 6, 5)  # a copy of patient 0's image under patient 1
    clusters = Dataset.load(data).clusters(np.arange(18))
    assert (clusters[:12] == clusters[0]).all()
    assert (clusters[12:] == clusters[12]).all()
    assert clusters[12] != clusters[0]


def test_clusters_chain_series_where_the_split_tells_them(data: Path) -> None:
    split = pd.read_csv(data / "split.csv")
    ids = np.arange(len(split))
    series = np.where(ids < 12, "series0", "")  # of the patients 0 and 1
    write_csv(data / "split.csv", split.assign(subject="", series=series, known="unknown"))
    dataset = Dataset.load(data)
    assert (dataset.table["series"] == series).all()
    clusters = dataset.clusters(ids)
    assert (clusters[:12] == clusters[0]).all()
    assert len(set(clusters[12:])) == (len(ids) - 12) // 6


def test_linked_is_the_transitive_closure() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        table = pd.DataFrame({"a": rng.integers(0, 25, 30), "b": rng.choice(["", "", "x", "y", "z", "w"], 30)})
        joined = (table["a"].to_numpy()[:, None] == table["a"].to_numpy()) | (
            (table["b"].to_numpy()[:, None] == table["b"].to_numpy()) & (table["b"].to_numpy() != "")
        )
        closure = np.linalg.matrix_power(joined.astype(float), 30) > 0
        component = linked(table, ("a", "b"))
        assert np.array_equal(component[:, None] == component, closure)


def test_empty_text_is_not_a_missing_value(data: Path) -> None:
    change(data / "catalogue.csv", "patient", 0, "NA")
    assert read_table(data / "catalogue.csv")["patient"][0] == "NA"


@pytest.mark.parametrize(
    ("file", "column", "value"),
    [
        ("groups.csv", "group", 1),
        ("groups.csv", "label", "other"),
        ("groups.csv", "status", "drop"),
        ("split.csv", "side", "holdout"),
    ],
)
def test_a_split_of_other_groups_is_refused(data: Path, file: str, column: str, value: object) -> None:
    change(data / file, column, 0, value)
    with pytest.raises(UserError, match=r"does not fit groups.csv"):
        Dataset.load(data)


@pytest.mark.parametrize("name", ["catalogue.csv", "groups.csv", "split.csv", "pack.npy"])
def test_a_missing_file_is_named(data: Path, name: str) -> None:
    (data / name).unlink()
    with pytest.raises(UserError, match=f"got no .*{name}"):
        Dataset.load(data)


def test_lengths_ids_and_pixels_are_checked(data: Path) -> None:
    write_array(data / "pack.npy", np.zeros((119, 1, 8, 8), dtype=np.uint8))
    with pytest.raises(UserError, match=r"\[120, 120, 120, 119\]"):
        Dataset.load(data)
    write_array(data / "pack.npy", np.zeros((120, 1, 8, 8), dtype=np.float32))
    with pytest.raises(UserError, match="expected an array uint8"):
        Dataset.load(data)
    change(data / "catalogue.csv", "image_id", 3, 7)
    with pytest.raises(UserError, match="expected image_id 0 to 119 in order"):
        Dataset.load(data)


@pytest.mark.parametrize(
    ("file", "column", "value", "words"),
    [
        ("split.csv", "label_rank", "", "does not fit"),
        ("split.csv", "label_rank", "1.5", "does not fit"),
        ("split.csv", "label_rank", "x", "split.csv: got"),
        ("groups.csv", "group", "-1", "no stage writes"),
        ("groups.csv", "group", "1.5", "groups.csv: got"),
        ("groups.csv", "group", "9" * 30, "groups.csv: got"),
        ("groups.csv", "status", "kept", "no stage writes"),
        ("catalogue.csv", "label", "", "without a label"),
        ("catalogue.csv", "mask", "many", "catalogue.csv: got"),
    ],
)
def test_values_that_no_stage_writes_are_refused(data: Path, file: str, column: str, value: str, words: str) -> None:
    change(data / file, column, 0, value)
    with pytest.raises(UserError, match=words):
        Dataset.load(data)


@pytest.mark.parametrize("shape", [(120, 2, 8, 8), (120, 1, 8, 9)])
def test_images_are_grey_or_coloured_squares(data: Path, shape: tuple[int, ...]) -> None:
    write_array(data / "pack.npy", np.zeros(shape, dtype=np.uint8))
    with pytest.raises(UserError, match="expected squares"):
        Dataset.load(data)


@pytest.mark.parametrize("name", ["catalogue.csv", "groups.csv", "split.csv"])
def test_a_table_that_is_cut_off_anywhere_is_refused(data: Path, name: str) -> None:
    whole = (data / name).read_bytes()
    for end in (0, 1, len(whole) // 2, len(whole) - 1, whole.rindex(b"\n", 0, -1) + 1):
        (data / name).write_bytes(whole[:end])
        with pytest.raises(UserError, match="expected"):
            Dataset.load(data)


def test_pairs_name_images_that_there_are(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    write_csv(path, pd.DataFrame({"image_a": [0, 1], "image_b": [2, 3], "kind": ["exact", "near"]}))
    assert read_pairs(path, 4)["image_b"].tolist() == [2, 3]
    with pytest.raises(UserError, match=r"an image that is none of 0 to 2; .*dvc repro dedupe"):
        read_pairs(path, 3)
    change(path, "image_a", 0, "-1")
    with pytest.raises(UserError, match="an image that is none of 0 to 3"):
        read_pairs(path, 4)
    change(path, "image_a", 0, "x")
    with pytest.raises(UserError, match=r"pairs\.csv: got"):
        read_pairs(path, 4)


def test_clusters_chain_patients_that_were_found_but_not_the_folds_that_stand_in(data: Path) -> None:
    dataset = Dataset.load(data)
    count = len(dataset.table)
    subject = ["a:P1"] * 5 + ["a:fold1"] * 5 + ["b:foldx"] * 4 + [""] * (count - 14)
    found = dataset.table.assign(patient="", group=np.arange(count), subject=subject)
    clusters = Dataset(dataset.images, found, dataset.classes).clusters(np.arange(count))
    assert len(set(clusters[:5])) == 1
    assert len(set(clusters[5:])) == count - 5
