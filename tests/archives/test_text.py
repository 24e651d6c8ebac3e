"""Text from outside: safe to store and open, and what was two stays two."""

from __future__ import annotations

import csv
import io

import pytest

from tumorxai.archives import text

NASTY = ["a\rb", "a\nb", "a\x00b", "a\u202eb", "a\u2028b", "a\udc80b", "a\x1b[31mb", "\ufeffa", "a\u2066b"]


@pytest.mark.parametrize("name", NASTY)
def test_what_changes_lines_or_direction_is_replaced(name: str) -> None:
    for found in (text.clean(name), text.value(name), text.patient_id(name), text.path(f"x/{name}.png")):
        assert "\ufffd" in found
        assert not text.UNSAFE.search(found)
        assert found.encode("utf-8").decode("utf-8") == found


@pytest.mark.parametrize("cell", ["=1+1", "+a", "-a", "@SUM(A1)", " =1", "=cmd|' /C calc'!A0"])
def test_nothing_begins_as_a_formula(cell: str) -> None:
    for found in (text.value(cell), text.path(f"{cell}/a.png")):
        stream = io.StringIO()
        csv.writer(stream).writerow([found])
        assert next(csv.reader(io.StringIO(stream.getvalue())))[0][0] not in "=+-@ \t\r"
    assert text.value("+a") != text.value("-a")


def test_huge_ids_are_bounded_and_stay_apart() -> None:
    one, two = text.patient_id("9" * 20_000_000), text.patient_id("9" * 19_999_999 + "8")
    assert len(one) == len(two) == text.MAX_TEXT
    assert one != two


@pytest.mark.parametrize("cell", ["", " ", "NA", "n/a", "nan", "None", "unknown", "-", "NULL", " Unknown "])
def test_what_says_that_there_is_no_patient(cell: str) -> None:
    assert text.patient_id(cell) == ""


def test_ids_lose_their_blanks_and_nothing_else() -> None:
    assert text.patient_id(" p01 ") == "p01"
    assert text.patient_id("P01") == "P01"
    assert text.patient_id("0") == "0"


def test_ids_that_look_alike_are_named() -> None:
    found = text.alike(["p01", "P01", "103", "103.0", "p-1", "p2", "q01", "1030"])
    assert found == [["103", "103.0"], ["P01", "p-1", "p01"]]


def test_names_that_collapse_stay_two() -> None:
    found = text.paths(["c/\udcff.png", "c/\udcfe.png", "c\\a.png", "c/a.png", "c/a~2.png", "plain"])
    assert found == ["c/\ufffd.png", "c/\ufffd~2.png", "c/a.png", "c/a~2.png", "c/a~2~2.png", "plain"]


def test_plain_names_stay_as_they_are() -> None:
    for name in (
        "glioma/a.png",
        "Größe Ω 図/x.png",
        "_NORMAL T1/1.jpg",
        "Meningioma (Anaplásico) T1C+/a.png",
        "n" * 200,
    ):
        assert text.path(name) == name


def test_a_long_name_keeps_its_ending() -> None:
    assert text.path("c/" + "n" * 1000 + ".png").endswith(".png")
    assert len(text.path("c/" + "n" * 1000 + ".png")) < 150


def test_folders_whose_names_collapse_stay_two() -> None:
    names = [
        "IDH\x01/0.png",
        "IDH\x01/1.png",
        "IDH\x02/0.png",
        "IDH\x02/a\u200e/2.png",
        "IDH\x02/a\u200f/2.png",
        "x/1.png",
    ]
    assert text.paths(names) == [
        "IDH\ufffd/0.png", "IDH\ufffd/1.png", "IDH\ufffd~2/0.png", "IDH\ufffd~2/a\ufffd/2.png",
        "IDH\ufffd~2/a\ufffd~2/2.png", "x/1.png",
    ]  # fmt: skip
    assert text.paths(["gr\udce9/0.png", "gr\udce8/1.png"]) == ["gr\ufffd/0.png", "gr\ufffd~2/1.png"]
    assert text.paths(["a\\b/0.png", "a/b/1.png", "=a/0.png", "_=a/0.png"]) == [
        "a/b/0.png", "a/b/1.png", "_=a/0.png", "_=a~2/0.png"
    ]  # fmt: skip
