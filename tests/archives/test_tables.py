"""Tables beside images: matched as they are spelt, else by the only one spelt alike; what does not fit is counted."""

from __future__ import annotations

import pandas as pd
import pytest

from tumorxai.archives import tables
from tumorxai.errors import UserError

FILES = ["glioma/a.png", "glioma/B.png", "no/a.png"]


def read(content: str, paths: list[str] = FILES, name: str = "annotations.csv", exact: bool = False) -> tables.Table:
    return tables.match({name: tables.parse(content.encode(), name, strict=True)}, paths, exact)


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


@pytest.mark.parametrize("mark", [";", "\t"])
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


def test_many_rows_that_are_spelt_otherwise() -> None:
    paths = [f"c{i % 50}/p{i}.png" for i in range(20_000)]
    table = pd.DataFrame({"file": [path.upper() for path in paths], "patient": "1"})
    assert tables.match({"annotations.csv": table}, paths).spelt == 20_000
