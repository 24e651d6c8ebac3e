"""Folder and zip, two doors with one set of rules: only what the run reads comes in, and the rest is told."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tumorxai.archives import arranging, layout
from tumorxai.archives.arranging import MANIFEST
from tumorxai.archives.folders import OUTSIDE, survey
from tumorxai.archives.layout import EMPTIED, SHADED
from tumorxai.archives.packing import zip_folder, zip_zip
from tumorxai.archives.partners import ALONE
from tumorxai.catalogue.listing import Listing, list_archive
from tumorxai.errors import UserError

Files = dict[str, bytes]


def png(value: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(((np.arange(400) * 7 + value) % 251).reshape(20, 20).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def by_folder(tmp_path: Path, files: Files) -> Path:
    for name, content in files.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    zip_folder(tmp_path / "mine", tmp_path / "out.zip")
    return tmp_path / "out.zip"


def by_zip(tmp_path: Path, files: Files) -> Path:
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    zip_zip(tmp_path / "mine.zip", tmp_path / "out.zip")
    return tmp_path / "out.zip"


@pytest.fixture(params=[by_folder, by_zip])
def door(request: pytest.FixtureRequest) -> Callable[[Path, Files], Path]:
    return request.param


def listed(path: Path) -> Listing:
    return list_archive(path, "local/mine", None)


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return sorted(set(archive.namelist()) - {MANIFEST})


TWO = {"glioma/a.png": png(), "no_tumor/b.png": png(3)}


def test_only_what_the_run_reads_comes_in(door: Callable[[Path, Files], Path], tmp_path: Path) -> None:
    private = {
        "notes.txt": b"Mrs Example",
        "patients.csv": b"name,born\n",
        "glioma/report.csv": b"x\n",
        "glioma/labels.csv": b"x\n",
        "glioma/letter.png": b"no image, but a letter",
        "glioma/empty.jpg": b"",
        "more/inner.zip": b"PK",
        "masks/glioma/a.png": png(5),
        "glioma/augmented/a.png": png(9),
    }
    table = {"annotations.csv": b"file,patient\nglioma/a.png,p1\n"}
    found = door(tmp_path, TWO | table | private)
    assert names(found) == ["annotations.csv", "glioma/a.png", "no_tumor/b.png"]
    content = found.read_bytes()
    assert not any(word in content for word in (b"Example", b"a letter", b"born"))
    told = listed(found)
    assert sorted(path for path, _, _ in told.refused) == ["glioma/empty.jpg", "glioma/letter.png"]
    assert sorted(path for path, _ in told.left_out) == ["glioma/augmented/a.png", "masks/glioma/a.png"]
    said = " ".join(told.remarks)
    assert all(word in said for word in ("more/inner.zip", "glioma/labels.csv", "passed over and not copied: 4"))


def test_lesion_masks_that_a_table_names_come_in(door: Callable[[Path, Files], Path], tmp_path: Path) -> None:
    table = {"annotations.csv": b"file,mask\nglioma/a.png,masks/a.png\n", "masks/a.png": png(), "masks/b.png": png()}
    found = door(tmp_path, TWO | table)
    assert names(found) == ["annotations.csv", "glioma/a.png", "masks/a.png", "no_tumor/b.png"]
    assert [one.task.mask >= 0 for one in listed(found).candidates] == [True, False]


@pytest.mark.parametrize(
    "junk",
    [".ipynb_checkpoints/a-checkpoint.png", "@eaDir/a.png", "__MACOSX/a.png", "Thumbs.db", ".git/a.png", "._a.png",
     ".hidden.png", "$RECYCLE.BIN/a.png"],
)  # fmt: skip
def test_junk_is_passed_over(door: Callable[[Path, Files], Path], tmp_path: Path, junk: str) -> None:
    found = door(tmp_path, TWO | {f"glioma/{junk}": png(), junk: png()})
    assert names(found) == sorted(TWO)
    assert any(junk.split("/")[0] in line for line in listed(found).remarks)


def test_names_are_made_safe_and_stay_two(door: Callable[[Path, Files], Path], tmp_path: Path) -> None:
    odd = {
        "glioma/a\rb.png": png(1),
        "glioma/a\u202eb.png": png(2),
        "=cmd/c.png": png(4),
        "+x/c.png": png(5),
        "-x/c.png": png(6),
    }
    found = door(tmp_path, TWO | odd)
    assert set(names(found)) - set(TWO) == {
        "glioma/a\ufffdb.png", "glioma/a\ufffdb~2.png", "_=cmd/c.png", "_+x/c.png", "_-x/c.png",
    }  # fmt: skip
    assert {one.native_label for one in listed(found).candidates} == {"glioma", "no_tumor", "_=cmd", "_+x", "_-x"}


def test_backslashes_are_folders(door: Callable[[Path, Files], Path], tmp_path: Path) -> None:
    found = door(tmp_path, {"glioma\\a.png": png(), "no_tumor\\b.png": png(3)})
    assert names(found) == sorted(TWO)


def test_a_class_folder_of_other_files_alone_does_not_disappear(
    door: Callable[[Path, Files], Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no image in the class folder 'meningioma'"):
        door(tmp_path, TWO | {"meningioma/a.psd": b"x"})


def test_folders_of_notes_are_told(door: Callable[[Path, Files], Path], tmp_path: Path) -> None:
    found = door(tmp_path, TWO | {"docs/a.txt": b"x", "docs/more/b.txt": b"x"})
    assert any("without any image" in line and "docs" in line for line in listed(found).remarks)


def test_labels_of_a_flat_folder(door: Callable[[Path, Files], Path], tmp_path: Path) -> None:
    table = b"file,label,patient,side,sequence\na.png,gliomas,p1,train,T1\nB.PNG,no tumor,,Val,\nx.png,glioma,,,\n"
    found = listed(door(tmp_path, {"labels.csv": table, "a.png": png(), "b.png": png(2), "c.png": png(3)}))
    seen = [(one.path, one.native_label, one.official_split, one.notes.get("patient", "")) for one in found.candidates]
    assert seen == [
        ("a.png", "gliomas", "train", "p1"), ("b.png", "no tumor", "validation", ""),
    ]  # fmt: skip
    assert [path for path, _ in found.left_out] == ["c.png"]
    assert found.table.unmatched == ["x.png"]


def test_tables_in_each_folder_are_read_from_there(door: Callable[[Path, Files], Path], tmp_path: Path) -> None:
    files = {
        "train/a.png": png(), "train/labels.csv": b"file,label\na.png,glioma\n",
        "test/a.png": png(2), "test/labels.csv": b"file,label\nA.png,no\n",
    }  # fmt: skip
    found = listed(door(tmp_path, files))
    assert [(one.path, one.native_label, one.official_split) for one in found.candidates] == [
        ("test/a.png", "no", "test"), ("train/a.png", "glioma", "train"),
    ]  # fmt: skip


def test_a_table_beside_the_images_folder_is_named(door: Callable[[Path, Files], Path], tmp_path: Path) -> None:
    files = {"images/a.png": png(), "images/b.png": png(2), "meta/labels.csv": b"file,label\na.png,glioma\n"}
    with pytest.raises(UserError, match=r"not read.*meta/labels\.csv; put one table there"):
        listed(door(tmp_path, files))


def test_rows_are_matched_with_images_not_with_their_masks(door: Callable[[Path, Files], Path], tmp_path: Path) -> None:
    table = b"file,label\n0.png,glioma\n1.png,no\n"
    files = {f"{folder}/{number}.png": png(number) for folder in ("images", "masks") for number in (0, 1)}
    found = listed(door(tmp_path, files | {"labels.csv": table}))
    assert [(one.path, one.native_label) for one in found.candidates] == [
        ("images/0.png", "glioma"), ("images/1.png", "no"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("folder", "label", "odd"),
    [
        ("glioma", "meningioma", True),
        ("glioma", "Gliomas", False),
        ("glioma", "glioblastoma", False),
        ("HGG", "LGG", True),
        ("tumour", "glioma", False),
        ("tumour", "no", True),
        ("IDH-", "IDH+", True),
        ("batch1", "IDH+", False),
    ],
)
def test_labels_that_contradict_their_folder_are_counted(tmp_path: Path, folder: str, label: str, odd: bool) -> None:
    table = f"file,label\n{folder}/0.png,{label}\nIDH-/1.png,IDH-\n"
    found = listed(by_folder(tmp_path, {f"{folder}/0.png": png(), "IDH-/1.png": png(2), "labels.csv": table.encode()}))
    assert [one.native_label for one in found.candidates if one.path == f"{folder}/0.png"] == [label]
    said = [line for line in found.remarks if "contradict" in line]
    assert [f"class folder: 1, such as of {folder}/0.png" in line for line in said] == [True] * odd


def test_a_table_that_states_nothing_is_told(door: Callable[[Path, Files], Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"labels\.csv states no label in 0 rows"):
        listed(door(tmp_path, {"a.png": png(), "labels.csv": b"file,label\n"}))


# Folders alone


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    by_folder(tmp_path, TWO)
    (tmp_path / "store").mkdir()
    (tmp_path / "store/c.png").write_bytes(png(7))
    (tmp_path / "mine/meningioma").symlink_to(tmp_path / "store")
    (tmp_path / "mine/again").symlink_to(tmp_path / "store")
    (tmp_path / "store/up").symlink_to(tmp_path / "mine")
    (tmp_path / "mine/glioma/round").symlink_to(tmp_path / "mine/glioma")
    found = survey(tmp_path / "mine")
    assert [file.name for file in found.files] == ["again/c.png", "glioma/a.png", "no_tumor/b.png"]
    assert (found.links, found.circles) == (["again"], ["again/up", "glioma/round", "meningioma"])
    zip_folder(tmp_path / "mine", tmp_path / "out.zip")
    said = " ".join(listed(tmp_path / "out.zip").remarks)
    assert "followed: again" in said
    assert "meningioma" in said


def test_links_to_files(tmp_path: Path) -> None:
    by_folder(tmp_path, TWO)
    (tmp_path / "secret.png").write_bytes(png(7))
    for name, target in {"out": "../../secret.png", "lost": "nowhere", "circle": "circle.png", "in": "a.png"}.items():
        (tmp_path / f"mine/glioma/{name}.png").symlink_to(target)
    zip_folder(tmp_path / "mine", tmp_path / "out.zip")
    assert names(tmp_path / "out.zip") == ["glioma/a.png", "glioma/in.png", "no_tumor/b.png"]
    assert {path: reason for path, _, reason in listed(tmp_path / "out.zip").refused} == {
        "glioma/out.png": OUTSIDE,
        "glioma/lost.png": "a link that leads nowhere",
        "glioma/circle.png": "a link in a circle",
    }


def test_a_class_that_is_a_link_to_nowhere(tmp_path: Path) -> None:
    by_folder(tmp_path, TWO)
    (tmp_path / "mine/elsewhere").symlink_to("nowhere")
    zip_folder(tmp_path / "mine", tmp_path / "out.zip")
    assert any("lead nowhere" in line and "elsewhere" in line for line in listed(tmp_path / "out.zip").remarks)
    (tmp_path / "mine/meningiomas").symlink_to("nowhere")
    with pytest.raises(UserError, match="class folder 'meningiomas'"):
        zip_folder(tmp_path / "mine", tmp_path / "out.zip")


def zip_with_links(path: Path, links: dict[str, str]) -> Path:
    """A zip as ``zip -y`` writes it."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in TWO.items():
            archive.writestr(name, content)
        for name, target in links.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return path


def test_links_of_a_zip_that_stand_for_folders(tmp_path: Path) -> None:
    links = {"IDHmut": "../store/idh", "more/again": "../glioma", "round": "round"}
    zip_zip(zip_with_links(tmp_path / "mine.zip", links), tmp_path / "out.zip")
    found = listed(tmp_path / "out.zip")
    assert [(path, "symbolic link" in reason) for path, _, reason in found.refused] == [
        ("IDHmut", True),
        ("round", True),
    ]
    assert any("read under another name" in line and "more/again" in line for line in found.remarks)
    with pytest.raises(UserError, match="class folder 'meningioma'"):
        zip_zip(zip_with_links(tmp_path / "mine.zip", {"meningioma": "/elsewhere"}), tmp_path / "out.zip")


def test_classes_whose_names_collapse_stay_two(door: Callable[[Path, Files], Path], tmp_path: Path) -> None:
    found = door(tmp_path, TWO | {"IDH\x01/a.png": png(1), "IDH\x02/a.png": png(2)})
    assert {one.native_label for one in listed(found).candidates} >= {"IDH\ufffd", "IDH\ufffd~2"}
    (tmp_path / "flat").mkdir()
    with pytest.raises(UserError, match=r"labels 'IDH\\x01' and 'IDH\\x02'"):
        door(
            tmp_path / "flat",
            {"labels.csv": b"file,label\na.png,IDH\x01\nb.png,IDH\x02", "a.png": png(), "b.png": png(1)},
        )


def test_what_is_no_image_is_named_by_its_ending(door: Callable[[Path, Files], Path], tmp_path: Path) -> None:
    odd = {f"notes/{number}.txt": b"" for number in range(3)} | {"a.XLSX": b"", "README": b""}
    said = " ".join(listed(door(tmp_path, TWO | odd)).remarks)
    assert "not copied: 5 (3 .txt, 1 .xlsx, 1 without a common ending)" in said


def test_archives_alone_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no image, but the archives batch1\.zip, which are not opened.*unpack"):
        by_folder(tmp_path, {"batch1.zip": b"PK"})
    with pytest.raises(UserError, match=r"no image in a class folder.*not opened.*: in/batch1\.zip"):
        list_archive(by_zip(tmp_path, {"in/batch1.zip": b"PK"}), "local/mine", None)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").touch()
    with pytest.raises(UserError, match=r"no image, but 1 \.txt; expected"):
        survey(tmp_path / "texts")


def test_of_two_files_of_one_name_the_last_is_taken(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        found = by_zip_twice(tmp_path)
    assert [one.path for one in listed(found).candidates] == sorted(TWO)
    (refused,) = listed(found).refused
    assert refused[2] == "another file of the archive has the same name"
    with zipfile.ZipFile(found) as archive:
        assert archive.read("glioma/a.png") == png(9)


def by_zip_twice(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        for name, content in [*TWO.items(), ("glioma/a.png", png(9))]:
            archive.writestr(name, content)
    zip_zip(tmp_path / "twice.zip", tmp_path / "out.zip")
    return tmp_path / "out.zip"


def test_pipes_are_passed_over_and_named(tmp_path: Path) -> None:
    by_folder(tmp_path, TWO)
    os.mkfifo(tmp_path / "mine/glioma/pipe.png")
    zip_folder(tmp_path / "mine", tmp_path / "out.zip")
    assert names(tmp_path / "out.zip") == sorted(TWO)
    assert any("pipe.png" in line for line in listed(tmp_path / "out.zip").remarks)


def test_each_folder_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_folder(tmp_path, {f"c{i % 3}/p{i}/s/a.png": png() for i in range(60)})
    seen: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: seen.append(os.fspath(path)) or real(path))
    assert len(survey(tmp_path / "mine").files) == 60
    assert len(seen) == len(set(seen)) == 1 + 3 + 60 + 60


def test_a_manifest_of_somebody_elses_is_ignored(tmp_path: Path) -> None:
    for content in (b"{}", b"[1]", b"\xff", b'{"left_out": 1, "refused": [], "remarks": []}'):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(MANIFEST, content)
            for name, data in TWO.items():
                archive.writestr(name, data)
        with zipfile.ZipFile(tmp_path / "a.zip") as archive:
            assert arranging.manifest(archive) == {"left_out": [], "refused": [], "remarks": []}
        assert len(listed(tmp_path / "a.zip").candidates) == 2


def drawn(kind: str = "PNG", levels: int = 2) -> bytes:
    """A mask: a disc of so many levels in all."""
    y, x = np.mgrid[:80, :80] / 80 - 0.5
    rings = np.clip((0.4 - np.hypot(x, y)) * 10, 0, levels - 1).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(rings * (255 // (levels - 1))).save(stream, kind)
    return stream.getvalue()


def test_what_is_called_like_a_mask_and_has_no_image_is_told_by_its_grey_levels(
    door: Callable[[Path, Files], Path], tmp_path: Path
) -> None:
    masks = {"glioma/x_mask.png": drawn(), "glioma/y_seg.jpg": drawn("JPEG"), "glioma/labels/7.png": drawn(levels=4),
             "meningioma/masks/1.png": drawn()}  # fmt: skip
    shaded = {"no_tumor/c_mask.png": png(5), "pituitary/Masks/d.png": png(7), "glioma/seg_z.png": png(9)}
    archive = door(tmp_path, TWO | masks | shaded)
    found = listed(archive)
    assert names(archive) == sorted(TWO | shaded)
    assert dict(found.left_out) == dict.fromkeys(masks, ALONE)
    assert {one.path: one.native_label for one in found.candidates} == {
        "glioma/a.png": "glioma", "glioma/seg_z.png": "glioma", "no_tumor/b.png": "no_tumor",
        "no_tumor/c_mask.png": "no_tumor", "pituitary/Masks/d.png": "pituitary",
    }  # fmt: skip
    assert found.layout is not None
    assert found.layout.notes == {SHADED: sorted(shaded), EMPTIED: ["meningioma"]}


def test_where_images_stand_beside_folders_of_masks_no_grey_level_is_asked_for(tmp_path: Path) -> None:
    files = {"images/glioma/1.png": png(), "images/normal/1.png": png(1), "masks/glioma/9.png": png(2)}
    assert names(by_folder(tmp_path, files)) == sorted(files.keys() - {"masks/glioma/9.png"})


def test_files_called_like_masks_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    found = listed(by_folder(tmp_path, TWO | {"glioma/x_mask.png": b"none"}))
    assert [path for path, _, _ in found.refused] == ["glioma/x_mask.png"]


@pytest.mark.parametrize("table", ["file,patient\nglioma/a.png,p1\n", "file,label\nglioma/a.png,x\nno_tumor/b.png,y\n"])
def test_a_folder_with_a_table_is_sorted_once(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    gather = layout.gather
    monkeypatch.setattr(layout, "gather", lambda paths: calls.append(1) or gather(paths))
    found = arranging.arrange(list(TWO), [*TWO, "labels.csv"], lambda name: table.encode(), "mine")
    assert (len(calls), len(found.table.notes) > 0) == (1, True)
