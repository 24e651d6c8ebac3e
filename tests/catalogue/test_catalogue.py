"""The catalogue's files: equal whatever the number of processes, true to the images, and absent after a mistake."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tumorxai.archives import sources
from tumorxai.catalogue import catalogue
from tumorxai.config import Data, PathSource, Phantom
from tumorxai.errors import UserError
from tumorxai.fetch.fetch import fetch
from tumorxai.files import read_array

FILES = ("data/catalogue.csv", "data/quarantine.csv", "data/pack.npy", "data/masks.npy", "metrics/catalogue.json")
PICTURE = np.arange(400).reshape(20, 20) % 251  # of 20 x 20 pixels, not blank
PLOTS = ("plots/counts.csv", "plots/samples.png")


def build(root: Path, settings: Data, archives: Path | None = None, workers: int = 2) -> list[str]:
    return catalogue.build(
        archives or root / "archives", settings, root / "data", root / "metrics/catalogue.json", root / "plots", workers
    )


def table(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / "data/catalogue.csv", dtype=str, keep_default_na=False)


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array.astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def archive(root: Path, files: dict[str, bytes]) -> Data:
    """A user's zip and the parameters that take it in."""
    root.mkdir(exist_ok=True)
    (root / "archives").mkdir()
    with zipfile.ZipFile(root / "archives/local--mine.zip", "w") as stream:
        for name, content in files.items():
            stream.writestr(name, content)
    return Data(sources=[PathSource(path="mine.zip")], image_size=16)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    settings = Data(sources=["phantom"], phantom=Phantom(patients=8, slices=2, sequences=1, copies=0.25), image_size=48)
    fetch(settings, root / "archives", root / "fetched.json")
    build(root, settings)
    return root


def test_phantom_with_masks_patients_and_sequences(phantom: Path) -> None:
    rows = table(phantom)
    with zipfile.ZipFile(phantom / "archives/tumorxai--phantom.zip") as stream:
        notes = pd.read_csv(stream.open("annotations.csv"), dtype=str, keep_default_na=False).set_index("file")
        files = {name: stream.read(name) for name in stream.namelist()}
    assert list(rows) == list(catalogue.COLUMNS)
    assert list(rows["path"]) == sorted(notes.index)
    assert list(rows["image_id"].astype(int)) == list(range(len(rows)))
    pack, masks = read_array(phantom / "data/pack.npy"), read_array(phantom / "data/masks.npy")
    assert pack.shape == (len(rows), 1, 48, 48)
    for row in rows.itertuples():
        note = notes.loc[row.path]
        assert row.patient == (f"phantom:{note['patient']}" if note["patient"] else "")
        assert (row.sequence, row.official_split) == (note["sequence"], "train" if "Training" in row.path else "test")
        assert (int(row.bytes), row.native_label) == (len(files[row.path]), row.path.split("/")[1])
        assert (int(row.mask) >= 0) == (row.native_label != "no_tumor") == (row.mask_kind == "mask")
        if row.mask_kind:
            stored = np.asarray(Image.open(io.BytesIO(files[note["mask"]]))) > 0
            share = masks[int(row.mask)].sum() / 48**2
            longest = max(stored.shape)
            assert abs(share - stored.sum() / longest**2) < 0.02
    assert masks.max() == 1
    assert len(masks) == (rows["mask"] != "-1").sum()


def test_files_do_not_depend_on_the_number_of_processes(phantom: Path, tmp_path: Path) -> None:
    settings = Data(sources=["phantom"], image_size=48)
    for workers in (1, 3):
        build(tmp_path / str(workers), settings, phantom / "archives", workers)
    for name in (*FILES, *PLOTS):
        first = (tmp_path / "1" / name).read_bytes()
        assert first == (tmp_path / "3" / name).read_bytes() == (phantom / name).read_bytes(), name


@pytest.mark.parametrize(
    ("name", "images", "distinct"),
    [
        ("sartajbhuvaji/brain-tumor-classification-mri", 3264, 2870),
        ("shreyag1103/brain-mri-scans-for-brain-tumor-classification", 1311, 1281),
        ("thomasdubail/brain-tumors-256x256", 3096, 2845),
    ],
)
def test_distinct_pixels_of_the_real_archives(
    real_archives: Path, tmp_path: Path, name: str, images: int, distinct: int
) -> None:
    assert build(tmp_path, Data(sources=[name], image_size=16), real_archives) == []
    rows = table(tmp_path)
    assert (len(rows), rows["pixels_sha256"].nunique()) == (images, distinct)
    sides = {side: set(rows["pixels_sha256"][rows["official_split"] == side]) for side in ("train", "test")}
    shared = (rows["official_split"] == "test") & rows["pixels_sha256"].isin(sides["train"])
    assert shared.sum() == (251 if "sartaj" in name else 0)


def test_cheng_boxes_and_folds(real_archives: Path, tmp_path: Path) -> None:
    name = "cheng/figshare-1512427"
    build(tmp_path, Data(sources=[name], image_size=32), real_archives)
    rows = table(tmp_path)
    assert set(rows["fold"]) == set("12345")
    assert (rows["mask_kind"] == "box").all()
    masks = read_array(tmp_path / "data/masks.npy")
    row = rows[rows["path"] == "glioma/0209.jpg"].iloc[0]  # 4, 0.42, 0.30, 0.30, 0.35
    y, x = np.nonzero(masks[int(row["mask"])])
    assert row["fold"] == "4"
    np.testing.assert_allclose([x.mean() + 0.5, y.mean() + 0.5], [0.42 * 32, 0.30 * 32], atol=0.6)


def test_bad_images_are_set_aside_and_the_run_goes_on(tmp_path: Path) -> None:
    good = png(PICTURE)
    settings = archive(
        tmp_path,
        {
            "glioma/a.png": good,
            "normal/a.png": good,
            "glioma/b.png": good[:40],
            "glioma/c.jpg": b"",
            "normal/n.nii": b"x",
            "masks/a.txt": b"x",
        },
    )
    build(tmp_path, settings)
    bad = pd.read_csv(tmp_path / "data/quarantine.csv")
    assert list(bad["path"]) == ["glioma/b.png", "glioma/c.jpg", "normal/n.nii"]
    assert list(bad["source"]) == ["local/mine"] * 3
    summary = json.loads((tmp_path / "metrics/catalogue.json").read_text())
    assert (summary["images"], summary["quarantined"], summary["labels"]) == (2, 3, {"glioma": 1, "no_tumor": 1})
    assert read_array(tmp_path / "data/masks.npy").shape == (0, 16, 16)


def test_masks_that_do_not_fit_are_reported(tmp_path: Path) -> None:
    settings = archive(
        tmp_path,
        {
            "glioma/a.png": png(PICTURE),
            "glioma/b.png": png(PICTURE),
            "masks/a.png": png(np.ones((30, 20)) * 255),
            "annotations.csv": b"file,mask\nglioma/a.png,masks/a.png\nglioma/b.png,masks/none.png\n",
        },
    )
    build(tmp_path, settings)
    assert list(table(tmp_path)["mask"]) == ["-1", "-1"]
    bad = pd.read_csv(tmp_path / "data/quarantine.csv")
    assert list(bad["path"]) == ["masks/a.png", "masks/none.png"]
    assert bad["reason"].str.startswith("lesion mask: ").all()


def test_images_outside_the_taxonomy_are_counted(tmp_path: Path) -> None:
    good = png(PICTURE)
    settings = archive(tmp_path, {"glioma/a.png": good, "schwannoma/a.png": good})
    build(tmp_path, settings)
    source = json.loads((tmp_path / "metrics/catalogue.json").read_text())["sources"]["local/mine"]
    assert (source["images"], source["outside_taxonomy"]) == (1, 1)
    assert source["classes"]["schwannoma"] == {"count": 1, "expected": None}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"glioma/a.png": b"bad", "normal/a.png": png(PICTURE)}, r"no readable image of \['glioma'\]"),
        ({"cat/a.png": png(PICTURE)}, r"taxonomy 'four_class'.*expected one of \['native'\]"),
        ({"schwannoma/a.png": png(PICTURE)}, r"expected one of \['six_group', 'native'\]"),
        ({"readme.txt": b""}, "no image in a class folder"),
    ],
)
def test_mistakes_leave_nothing(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    settings = archive(tmp_path, files)
    with pytest.raises(UserError, match=message):
        build(tmp_path, settings)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == [
        "archives/local--mine.zip"
    ]


def die(task: object, fit: object) -> None:
    os._exit(9)


def test_a_decoder_that_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "pack", die)
    with pytest.raises(UserError, match="ended from outside"):
        build(tmp_path, archive(tmp_path, {"glioma/a.png": png(PICTURE)}))
    assert not list(tmp_path.rglob("*.npy"))


def test_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dvc repro fetch"):
        build(tmp_path, Data(sources=["phantom"]))


def test_counts_that_differ_are_reported_with_both_numbers(tmp_path: Path) -> None:
    name = "shreyag1103/brain-mri-scans-for-brain-tumor-classification"
    (tmp_path / "archives").mkdir()
    with zipfile.ZipFile(tmp_path / "archives" / sources.archive_name(name), "w") as stream:
        for folder in ("glioma", "meningioma", "notumor", "pituitary"):
            stream.writestr(f"{folder}/a.png", png(PICTURE))
    lines = build(tmp_path, Data(sources=[name]))
    assert lines[0] == f"{name}, class glioma: 1 readable images, its publisher states 300"
    assert lines[-1] == f"{name}, all classes: 4 readable images, its publisher states 1311"


def test_sources_follow_each_other_in_the_order_of_the_parameters(tmp_path: Path) -> None:
    good = png(PICTURE)
    settings = archive(tmp_path, {"glioma/b.png": good, "glioma/a.png": good})
    (tmp_path / "archives/local--a.zip").write_bytes((tmp_path / "archives/local--mine.zip").read_bytes())
    build(tmp_path, settings.model_copy(update={"sources": [*settings.sources, PathSource(path="a.zip")]}))
    rows = table(tmp_path)
    assert list(rows["source"]) == ["local/mine"] * 2 + ["local/a"] * 2
    assert list(rows["path"]) == ["glioma/a.png", "glioma/b.png"] * 2
