"""The phantom archive: its contract, its anatomy's plausibility and the absence of shortcuts."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageChops
from scipy import ndimage, stats
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.tree import DecisionTreeClassifier

from tests.conftest import PHANTOM as SETTINGS
from tumorxai import config
from tumorxai.fetch import phantom


class Archive:
    """An opened phantom archive and its annotations, with each file's class as ``label``."""

    def __init__(self, path: Path) -> None:
        self.zip = zipfile.ZipFile(path)
        self.table = pd.read_csv(self.zip.open("annotations.csv"), keep_default_na=False)
        self.table["label"] = self.table["file"].str.split("/").str[1]
        self.originals = self.table[self.table["copy_of"] == ""]
        self.copies = self.table[self.table["copy_of"] != ""]

    def image(self, name: str) -> Image.Image:
        image = Image.open(io.BytesIO(self.zip.read(name)))
        image.load()
        return image

    def grey(self, name: str) -> np.ndarray:
        return np.asarray(self.image(name).convert("L"), dtype=np.float64)


@pytest.fixture(scope="module")
def archive(phantom_archive: Path) -> Archive:
    return Archive(phantom_archive)


@pytest.mark.slow
def test_same_seed_gives_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    settings = config.Phantom(patients=5, slices=1, sequences=1, copies=0.6, seed=1)
    phantom.write_archive(tmp_path / "one.zip", settings, workers=1)
    phantom.write_archive(tmp_path / "two.zip", settings, workers=2)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    phantom.write_archive(tmp_path / "other.zip", settings.model_copy(update={"seed": 2}), workers=2)
    assert (tmp_path / "one.zip").read_bytes() != (tmp_path / "other.zip").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"one.zip", "two.zip", "other.zip"}


def test_annotations_list_every_file_once(archive: Archive) -> None:
    assert list(archive.table.columns) == [*phantom.COLUMNS, "label"]
    listed = [*archive.table["file"], *archive.table["mask"][archive.table["mask"] != ""], "annotations.csv"]
    assert sorted(listed) == sorted(archive.zip.namelist())
    assert archive.table["file"].str.fullmatch(r"(Training|Testing)/(\w+)/\d{4}\.(jpg|png)").all()
    assert set(archive.table["label"]) == set(phantom.CLASSES)
    assert set(archive.table["sequence"]) == set(phantom.SEQUENCES)
    assert len(archive.originals) == SETTINGS.patients * SETTINGS.sequences


def test_classes_are_balanced_and_patients_stay_on_one_side(archive: Archive) -> None:
    patients = archive.originals.groupby("patient")
    assert (patients["label"].first() == patients["label"].last()).all()
    assert (patients["file"].agg(lambda files: files.str.split("/").str[0].nunique()) == 1).all()
    first = patients.first()
    assert (first["label"].value_counts() == SETTINGS.patients // 4).all()
    training = first["file"].str.startswith("Training").groupby(first["label"]).mean()
    assert training.to_list() == [pytest.approx(2 / 3)] * 4


def test_masks_fit_their_images_and_are_absent_without_a_tumour(archive: Archive) -> None:
    assert ((archive.table["mask"] == "") == (archive.table["label"] == "no_tumor")).all()
    for row in archive.table[archive.table["mask"] != ""].itertuples():
        mask = archive.image(str(row.mask))
        assert mask.size == archive.image(str(row.file)).size
        assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_masks_lie_on_the_lesions(archive: Archive) -> None:
    """With contrast agent, meningiomas and adenomas are brighter than what surrounds them."""
    enhancing = archive.originals.query("sequence == 'T1C+' and label in ('meningioma', 'pituitary')")
    differences = []
    for row in enhancing.itertuples():
        image, mask = archive.grey(str(row.file)), archive.grey(str(row.mask)) > 0
        around = ndimage.binary_dilation(mask, iterations=12) & ~ndimage.binary_dilation(mask, iterations=3)
        differences.append(image[mask].mean() - image[around].mean())
    assert len(differences) >= 10
    assert np.mean(np.array(differences) > 25) >= 0.9
    glioma = archive.originals.query("sequence == 'T2' and label == 'glioma'")
    assert len(glioma) > 0
    for row in glioma.itertuples():
        image = archive.grey(str(row.file))
        assert image[archive.grey(str(row.mask)) > 0].mean() > image.mean()


def test_heads_lie_within_air(archive: Archive) -> None:
    """The corners show air, the middle shows a brain: nothing wraps around, nothing is empty."""
    for file in archive.originals["file"]:
        image = archive.grey(file)
        height, width = image.shape
        assert np.median(image[:10, :10]) < 30
        assert np.median(image[:10, -10:]) < 30
        assert image[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3].mean() > 40


def test_copies_are_planted_as_recorded(archive: Archive) -> None:
    copies = archive.copies
    assert len(copies) == round(SETTINGS.copies * len(archive.originals))
    assert np.ptp(copies["copy_kind"].value_counts().reindex(phantom.KINDS, fill_value=0).to_numpy()) <= 1
    assert (copies["patient"] == "").all()
    origin = archive.originals.set_index("file").loc[copies["copy_of"]]
    for column in ("label", "true_patient", "sequence", "plane"):
        assert (origin[column].to_numpy() == copies[column].to_numpy()).all()


def _differs_by(a: Image.Image, b: Image.Image) -> float:
    """Root mean square difference, in grey levels."""
    difference = np.asarray(ImageChops.difference(a.convert("L"), b.convert("L")), dtype=np.float64)
    return float(np.sqrt(np.mean(difference**2)))


def test_copies_look_like_their_kind(archive: Archive) -> None:
    turns = {"flipped": [0, 1], "rotated": [2, 3, 4]}
    for row in archive.copies.itertuples():
        copy, original = archive.image(str(row.file)), archive.image(str(row.copy_of))
        if row.copy_kind == "exact":
            assert copy.mode == original.mode
            assert copy.tobytes() == original.tobytes()
        elif row.copy_kind == "resized":
            assert copy.size != original.size
            assert 0.49 < copy.width / original.width < 2.01
            assert _differs_by(copy.resize(original.size), original) < 20
        elif row.copy_kind in turns:
            best = min(turns[row.copy_kind], key=lambda t: _differs_by_turn(copy, original, t))
            assert _differs_by_turn(copy, original, best) < 12
            if row.mask:
                mask = original_mask(archive, str(row.copy_of)).transpose(Image.Transpose(best))
                assert mask.tobytes() == archive.image(str(row.mask)).tobytes()
        else:
            limit = {"reencoded": 12, "intensity": 60}[row.copy_kind]
            assert 0 < _differs_by(copy, original) < limit


def _differs_by_turn(copy: Image.Image, original: Image.Image, turn: int) -> float:
    turned = original.transpose(Image.Transpose(turn))
    return _differs_by(copy, turned) if turned.size == copy.size else np.inf


def original_mask(archive: Archive, file: str) -> Image.Image:
    return archive.image(archive.originals.set_index("file").loc[file, "mask"])


def test_class_does_not_follow_from_plane_size_or_format(archive: Archive) -> None:
    table = archive.originals
    images = [archive.image(file) for file in table["file"]]
    plane = pd.crosstab(table["plane"], table["label"])
    assert stats.chi2_contingency(plane).pvalue > 0.001
    features = np.column_stack(
        [
            table["plane"].astype("category").cat.codes,
            table["sequence"].astype("category").cat.codes,
            [image.width for image in images],
            [image.height for image in images],
            [image.mode == "RGB" for image in images],
            [image.format == "PNG" for image in images],
            [archive.zip.getinfo(file).file_size for file in table["file"]],
        ]
    )
    tree = DecisionTreeClassifier(min_samples_leaf=4, random_state=0)
    scores = cross_val_score(tree, features, table["label"], groups=table["patient"], cv=GroupKFold(6))
    assert scores.mean() < 0.25 + 3 * np.sqrt(0.25 * 0.75 / SETTINGS.patients)
