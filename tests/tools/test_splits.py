"""Lists of honest splits: whole, without a patient on two sides, and by checksums that their readme explains."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image, ImageOps

from tumorxai import config
from tumorxai.patients.names import STATES
from tumorxai.tools import splits


@pytest.fixture(scope="module")
def listed(phantom_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    data = tmp_path_factory.mktemp("splits")
    splits.prepare(phantom_archive.parent, splits.Images(["phantom"]), data, workers=1)
    return splits.listed(data, config.Params())


@pytest.mark.slow
def test_a_list_has_every_image_on_one_side_with_all_of_its_group_patient_and_series(listed: pd.DataFrame) -> None:
    assert list(listed) == splits.COLUMNS
    assert set(listed["side"]) == {"train", "validation", "test"}
    for key in ("group", "patient", "series", "pixels_sha256"):
        assert listed[listed[key] != ""].groupby(key)["side"].nunique().max() == 1
    assert not listed["file"].duplicated().any()


def test_checksums_are_as_the_readme_says(listed: pd.DataFrame, phantom_archive: Path) -> None:
    readme = (Path(__file__).resolve().parents[2] / "splits/README.md").read_text()
    formula = 'f"{image.mode} {image.width}x{image.height}\\n".encode() + image.tobytes()'
    assert formula in readme
    with zipfile.ZipFile(phantom_archive) as archive:
        for row in listed.head(20).itertuples():
            image = ImageOps.exif_transpose(Image.open(io.BytesIO(archive.read(str(row.file)))))
            content = f"{image.mode} {image.width}x{image.height}\n".encode() + image.tobytes()
            assert hashlib.sha256(content).hexdigest() == row.pixels_sha256


def test_the_readme_names_every_list_and_column() -> None:
    readme = (Path(__file__).resolve().parents[2] / "splits/README.md").read_text()
    assert all(f"`{name}.csv`" in readme for name in splits.SETS)
    assert all(f"`{column}`" in readme for column in splits.COLUMNS)


LISTS = Path(__file__).resolve().parents[2] / "splits"
KEPT = sorted(path.stem for path in LISTS.glob("*.csv"))


def test_the_lists_in_the_repository_are_those_that_the_readme_says_and_small() -> None:
    assert sorted(re.findall(r"^\| `(\w+)\.csv`", (LISTS / "README.md").read_text(), re.MULTILINE)) == KEPT
    assert sorted(splits.SETS) == KEPT
    assert sum((LISTS / f"{name}.csv").stat().st_size for name in KEPT) < 4_000_000


@pytest.mark.parametrize("name", KEPT)
def test_a_list_in_the_repository_keeps_what_belongs_together_on_one_side(name: str) -> None:
    table = pd.read_csv(LISTS / f"{name}.csv", dtype=str, keep_default_na=False)
    assert list(table) == splits.COLUMNS
    assert set(table["source"]) == set(splits.SETS[name].sources)
    assert not table.duplicated(["source", "file"]).any()
    assert table["pixels_sha256"].str.fullmatch(r"[0-9a-f]{64}").all()
    assert table["group"].str.fullmatch(r"\d+").all()
    assert set(table["known"]) <= set(STATES)
    assert set(table["side"]) <= {"train", "validation", "test", "dropped"}
    used = table[table["side"] != "dropped"]
    assert len(used) > 0.9 * len(table)
    for key in ("pixels_sha256", "group", "patient", "series"):
        sides = used[used[key] != ""].groupby(key)["side"].nunique()
        assert (sides == 1).all(), key
    for side in ("train", "validation", "test"):
        assert set(used["label"][used["side"] == side]) == set(used["label"])
