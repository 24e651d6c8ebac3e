"""Tables beside images: matched as they are spelt, else by the only one spelt alike; what does not fit is counted."""

from __future__ import annotations

import pandas as pd
import pytest

from tumorxai.archives import rows, tables
from tumorxai.errors import UserError

FILES = ["glioma/a.png", "glioma/B.png", "no/a.png"]


def read(content: str, paths: list[str] = FILES, name: str = "annotations.csv", exact: bool = False) -> tables.Table:
    return tables.match({name: rows.parse(content.encode(), name, strict=True)}, paths, exact)


def test_rows_are_matched_as_they_are_spelt_or_by_the_only_one_alike() -> None:
    found = read("file,patient\nglioma/a.png,1\nGLIOMA\\b.PNG,2\nC:\\mine\\no\\a.png,3\n")
    assert {path: note["patient"] for path, note in found.notes.items()} == {
        "glioma/a.png": "1", "glioma/B.png": "2", "no/a.png": "3",
    }  # fmt: skip
    assert (found.rows, found.spelt, found.unmatched) == (3, 2, [])


def test_rows_that_match_none_or_several_are_counted() -> None:
    found = read("file,patient\na.png,1\nglioma/a.png,2\nx/y.png,3\nA.PNG,4\n", ["glioma/a.png", "no/a.png", "b/A.png"])
    assert found.unmatched == ["a.png", "x/y.png", "A.PNG"]
    assert list(found.notes) == ["glioma/a.png"]


def test_a_known_source_is_taken_by_the_letter() -> None:
    assert read("file,patient\nGLIOMA/a.png,1\n", exact=True).unmatched == ["GLIOMA/a.png"]


def test_values_are_normalised() -> None:
    found = read("file,label,patient,side,sequence\nglioma/a.png, Glioma ,NA,Val,t1ce\nno/a.png,-x, p1 ,TEST,\n")
    assert found.notes == {
        "glioma/a.png": {"label": "Glioma", "side": "validation", "sequence": "T1C+"},
        "no/a.png": {"label": "_-x", "patient": "p1", "side": "test"},
    }


def test_a_table_beside_images_in_a_folder() -> None:
    found = read("file,mask\na.png,m/a.png\n", ["data/a.png", "data/m/a.png"], "data/labels.csv")
    assert found.notes == {"data/a.png": {"mask": "data/m/a.png"}}


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_separators_and_a_byte_order_mark(mark: str) -> None:
    content = "\ufefffile,label\nglioma/a.png,x\n".replace(",", mark)
    assert read(content).notes == {"glioma/a.png": {"label": "x"}}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("filename,label", "'filename' to `file`"),
        ("file,Class", "'Class' to `label`"),
        ("file,patient_id", "'patient_id' to `patient`"),
        ("file,Patient", "'Patient' to `patient`"),
        ("file,pateint", "'pateint' to `patient`"),
        ("Image,Diagnosis", "'Image' to `file`, 'Diagnosis' to `label`"),
        ("file,split", "'split' to `side`"),
    ],
)
def test_misnamed_columns_are_named(header: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(f"{header}\nglioma/a.png,1\n")


def test_columns_that_mean_nothing_are_told() -> None:
    found = read("file,label,age\nglioma/a.png,x,60\n")
    assert found.unused == ["age"]
    assert tables.described(found, 2)["images_without_row"] == 2


def test_a_side_that_is_none() -> None:
    with pytest.raises(UserError, match="got the side 'middle'"):
        read("file,side\nglioma/a.png,middle\n")


def labels(content: str | bytes, paths: list[str] = FILES) -> dict[str, str]:
    data = content if isinstance(content, bytes) else content.encode()
    found = tables.match({"labels.csv": rows.parse(data, "labels.csv", strict=True)}, paths)
    return {path: note.get("label", "") for path, note in found.notes.items()}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("glioma/a.png", "glioma/a.png "),
        ("glioma/a.png", "glioma\\a.png"),
        ("./glioma/a.png", "Glioma/a.png"),
        ("Glioma/a.png", "GLIOMA/A.PNG"),
        ("glioma/a.png", "glioma/a.png"),
        ("a", "A.png"),
    ],
)
def test_two_rows_of_one_file_must_agree(first: str, second: str) -> None:
    with pytest.raises(UserError, match=r"rows 2 and 3: got two of 'glioma/a.png', with label 'x' and 'y'.*one row"):
        labels(f"file,label\n{first},x\n{second},y\n", ["glioma/a.png"])


def test_rows_that_repeat_a_file_add_up_and_are_counted() -> None:
    found = read("file,label,patient\nglioma/a.png,x,\nglioma/a.png,x,p1\n")
    assert found.notes == {"glioma/a.png": {"label": "x", "patient": "p1"}}
    assert found.remarks == ["1 rows are of a file that an earlier row is of, and do not contradict it"]


@pytest.mark.parametrize("other", ["annotations.csv", "Labels.CSV"])
def test_tables_that_contradict_each_other_are_named(other: str) -> None:
    parsed = {
        name: rows.parse(f"file,label\nno/a.png,{label}\n".encode(), name, strict=True)
        for name, label in ((other, "x"), ("labels.csv", "y"))
    }
    found = tables.match(parsed, FILES)
    assert found.notes == {"no/a.png": {"label": "y"}}
    assert "the label of 1 files, such as no/a.png, is taken from labels.csv" in found.remarks[0]


@pytest.mark.parametrize("header", ["label,label", "label,Label"])
def test_a_column_that_is_there_twice(header: str) -> None:
    with pytest.raises(UserError, match="2 columns label, "):
        read(f"file,{header}\nno/a.png,x,y\n")


@pytest.mark.parametrize("cell", ["None", "NA", "", "unknown", "#N/A"])
def test_labels_that_say_nothing_are_none_and_told(cell: str) -> None:
    found = read(f"file,label\nno/a.png,{cell}\nglioma/a.png,x\n")
    assert [note.get("label") for _, note in sorted(found.notes.items())] == ["x", None]
    assert f"1 rows state no label ({cell!r} 1)" in found.remarks[0]
    assert "write no_tumor" in found.remarks[0]


@pytest.mark.parametrize("cell", ["unk", "Anonymous", "#VALUE!", "#DIV/0!", "#NAME?", "xxx", "??", "---", "TBD"])
def test_patients_that_nobody_knows(cell: str) -> None:
    assert not read(f"file,patient\nno/a.png,{cell}\n").column("patient")


@pytest.mark.parametrize("cell", ["0", "x", "#12", "xy", "11", "unk1"])
def test_patients_that_are_some(cell: str) -> None:
    assert read(f"file,patient\nno/a.png,{cell}\n").notes == {"no/a.png": {"patient": cell}}


@pytest.mark.parametrize("cell", ["M/1.PNG", " m/1.png", "m\\1.png", "C:\\x\\m\\1.png", "m/1"])
def test_masks_are_matched_as_files_are(cell: str) -> None:
    assert read(f"file,mask\na.png,{cell}\n", ["a.png", "m/1.png"]).notes == {"a.png": {"mask": "m/1.png"}}


def test_a_mask_called_like_its_image() -> None:
    paths = ["images/0.png", "masks/0.png"]
    table = rows.parse(b"file,mask\n0.png,0.png\n", "labels.csv", strict=True)
    found = tables.match({"labels.csv": table}, paths, others={"masks/0.png"})
    assert found.notes == {"images/0.png": {"mask": "masks/0.png"}}


def test_names_without_an_ending() -> None:
    assert labels("file,label\nB,x\na,y\nno/a,z\n") == {"glioma/B.png": "x", "no/a.png": "z"}


@pytest.mark.parametrize(
    "content",
    [
        "file,label\nno/a.png,x,\n",
        "file,label,\nno/a.png,x,\n",
        "sep=;\r\nfile;label\r\nno/a.png;x\r\n",
        '"sep=|"\nfile|label\nno/a.png|x\n',
        'file;"what, where";label\nno/a.png;"1;2";x\n',
        "\nfile,label\n\nno/a.png,x\n,\n",
        "file,label\rno/a.png,x\r",
        "file,label\nno/a.png,x\n".encode("utf-16"),
    ],
)
def test_tables_as_programs_write_them(content: str | bytes) -> None:
    assert labels(content) == {"no/a.png": "x"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no/a.png,x\nglioma/a.png,y\n", "no header; expected the names of the columns there"),
        ("file,glioma,no_tumor\nno/a.png,0,1\nglioma/a.png,1,0\n", r"0 and 1 for each class \(glioma, no_tumor\)"),
        ("file,label\nno/a.png,x,y\n", "3 cells in row 2, under a header of 2"),
        ("file,label\nno/a.png,f\xfcr\n".encode("latin-1"), "place 21 that is not UTF-8.*`CSV UTF-8` in Excel"),
        ("file,label\nno/a.png,x\n".encode("utf-16-le"), "UTF-16 without its mark"),
        ('file,label\nno/a.png,"x\n', "quotes"),
        ("file label\nno/a.png x\n", r"tabs or \| between cells"),
        ("", "an empty table"),
    ],
)
def test_tables_that_cannot_be_read_are_told_why(content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        labels(content)


def test_columns_of_0_and_1_that_are_no_classes_are_let_be() -> None:
    assert read("file,male,female\nno/a.png,0,1\n").unused == ["male", "female"]


def test_long_cells() -> None:
    assert len(labels(f"file,label\nno/a.png,{'xy' * 1_000_000}\n")["no/a.png"]) == 120


def test_a_side_is_shown_only_as_it_may_be() -> None:
    table = rows.parse(b"file,side\nno/a.png,Doe Jane\n", "labels.csv", strict=True)
    with pytest.raises(UserError, match="got the side '…'"):
        tables.match({"labels.csv": table}, FILES, shown=lambda name: "…")


def test_many_rows_that_are_spelt_otherwise() -> None:
    paths = [f"c{i % 50}/p{i}.png" for i in range(20_000)]
    table = pd.DataFrame({"file": [path.upper() for path in paths], "patient": "1"})
    assert tables.match({"annotations.csv": table}, paths).spelt == 20_000
