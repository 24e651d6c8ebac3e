"""The audit of somebody's split: what it counts, what it shows, what it refuses, and with which status it ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser
from typer.testing import CliRunner

from tests.browser import violations
from tests.certify.pictures import clean, folder, leaky, packed, picture, png
from tumorxai.archives import words
from tumorxai.archives.layout import arrange
from tumorxai.archives.tables import Table
from tumorxai.audit import second, verdict
from tumorxai.certify import judge, sides
from tumorxai.cli import app

OUT = {"index.html", "audit.json", "certificate.json", "copies.csv", "left_out.csv"}


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def audit(data: Path, out: Path, *more: object, status: int) -> dict[str, Any]:
    done = call("audit", data, "--out", out, "--json", *more)
    assert done.exit_code == status, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    assert {path.name for path in out.iterdir()} == OUT
    assert json.loads((out / "audit.json").read_text()).items() >= found.items()
    return found


def refused(message: str, data: Path, out: Path, *more: object) -> None:
    done = call("audit", data, "--out", out, *more)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert "Traceback" not in done.output
    assert not out.exists()


def table(path: Path, rows: Mapping[str, str], columns: str = "file,split") -> Path:
    path.write_text("\n".join([columns, *(f"{file},{side}" for file, side in rows.items())]) + "\n")
    return path


@pytest.mark.slow
def test_a_leak_is_counted_by_kind(tmp_path: Path) -> None:
    found = audit(folder(tmp_path / "data", leaky()), tmp_path / "out", status=1)
    assert found["verdict"] == verdict.LEAKING
    crossed = found["crossings"]["train_test"]
    assert (crossed["images"], crossed["copies"], crossed["exact_copies"], crossed["near_copies"]) == (15, 3, 2, 1)
    assert found["two_labels"] == {"exact, two labels": 1, "near, two labels": 0, "second, two labels": 0}
    assert found["sides"] == {"test": {"disc": 9, "ring": 6}, "train": {"disc": 6, "ring": 6}}
    assert (found["images"], found["distinct_pixels"]) == (27, 25)

    pairs = pd.read_csv(tmp_path / "out" / "copies.csv")
    assert list(pairs["what"]) == ["exact, two labels", "exact", "near"]
    assert set(pairs[["file_a", "file_b"]].iloc[0]) == {"test/disc/other.png", "train/ring/0.png"}
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count('<img src="data:image/png;base64,') == 6
    assert page.index("The same pixels under two labels") < page.index("Near copy")

    text = call("audit", tmp_path / "data", "--out", tmp_path / "again")
    assert text.exit_code == 1
    assert "leaking: 3 of 15 test images have a copy among the images learned from" in text.stdout


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("Training", "Validation", "Testing"), ("Train_data", "dev", "holdout")],
)
def test_sides_by_folders(tmp_path: Path, train: str, validation: str, test: str) -> None:
    data = packed(tmp_path / "data.zip", {f"all/{k}": v for k, v in clean((train, validation, test)).items()})
    found = audit(data, tmp_path / "out", status=0)
    assert {side: sum(classes.values()) for side, classes in found["sides"].items()} == {
        "train": 12, "validation": 12, "test": 12,
    }  # fmt: skip
    assert set(found["crossings"]) == {"train_test", "train_validation", "validation_test"}
    assert found["verdict"] != verdict.LEAKING
    assert found["pixel_neighbour"]["inflation"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert "No copy stands on two sides, and no image under two labels" in (tmp_path / "out/index.html").read_text()


@pytest.mark.parametrize("train", ["train", "Train_data", "trainings", "training set", "X_train", "imagesTr"])
@pytest.mark.parametrize("test", ["Test", "Testing", "tests", "test_images", "holdout"])
def test_sides_are_told_as_a_run_tells_them(train: str, test: str) -> None:
    paths = [f"{train}/x/1.png", f"{test}/x/1.png", f"x/{train}/2.png", f"x/{test}/images/2.png", "x/val/3.png",
             "x/Validations/3.png", "wrap/x/4.png", "training/x/test/5.png"]  # fmt: skip
    told = [arrange(paths, Table()).places[path].side for path in paths]
    assert list(sides.by_folders(paths).side.values()) == told
    assert told == ["train", "test", "train", "test", "validation", "validation", "", "test"]
    for word in (train, test):
        assert sides.spoken(word) == words.side(word)


def test_what_a_tables_cell_says() -> None:
    cells = {"Val": "validation", "TS": "test", "unlabeled": "unlabelled", "N/A": "", "Excluded": "", "fold 3": None}
    assert {cell: sides.spoken(cell) for cell in cells} == cells


def test_sides_inside_of_the_classes(tmp_path: Path) -> None:
    files = {"/".join([*name.split("/")[1::-1], name.split("/")[2]]): data for name, data in clean().items()}
    assert "disc/train/0.png" in files
    found = audit(folder(tmp_path / "data", files), tmp_path / "out", status=0)
    assert found["sides"] == {side: {"disc": 6, "ring": 6} for side in ("train", "test")}


def test_a_table_of_sides_with_longer_and_shorter_paths(tmp_path: Path) -> None:
    files = {name.removeprefix("train/").replace("test/", "more/"): data for name, data in clean().items()}
    data = folder(tmp_path / "data", files)  # disc/0.png and more/disc/0.png
    rows = {
        r"C:\work\more\disc\0.png": "Testing",
        "/home/author/set/more/ring/1.png": "test",
        "./more/disc/2.png": "test",
        "more/ring/3": "test",
        "disc/4.png": "train",  # and more/disc/4.png ends so as well
        "more/disc/5.png": "val",
        "ring/9.png": "train",
        "more/ring/0.png": "",
    } | {f"data/{label}/{i}.png": "training" for label in ("disc", "ring") for i in range(3)}
    found = audit(data, tmp_path / "out", "--split", table(tmp_path / "split.csv", rows), status=0)
    assert {side: sum(own.values()) for side, own in found["sides"].items()} == {"test": 4, "train": 6, "validation": 1}
    assert (found["without_side"], found["unmatched_rows"]) == (13, 2)
    left_out = pd.read_csv(tmp_path / "out/left_out.csv")
    lost = left_out[left_out["what"] == "row of the table"].set_index("path")["reason"]
    assert lost["ring/9.png"] == "no image of that name"
    assert lost["disc/4.png"].startswith("fits 2 images")
    assert (left_out["what"] == "image without a side").sum() == 13
    page = (tmp_path / "out/index.html").read_text()
    assert "Rows of the table that fit no image: 2" in page
    assert "Images without a side: 13" in page


@pytest.mark.slow
def test_patients_of_the_table(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", clean())
    path = tmp_path / "split.csv"

    def write(patient: Any) -> None:
        lines = [f"{name};{name.split('/')[0]};{patient(name)}" for name in clean()]
        path.write_text("\n".join(["file;side;patient", *lines]))

    write(lambda name: name)
    assert audit(data, tmp_path / "apart", "--split", path, status=0)["verdict"] == verdict.APART
    write(lambda name: name if "disc" in name else "")
    found = audit(data, tmp_path / "partly", "--split", path, status=0)
    assert (found["verdict"], found["evidence"]["known"]) == (verdict.PARTLY, 12)
    write(lambda name: "p7" if name.endswith("/0.png") else name)
    found = audit(data, tmp_path / "shared", "--split", path, status=1)
    assert found["crossings"]["train_test"]["shared_patients"] == 1
    assert found["evidence"]["patients"] == 2
    assert "2 of 12 test images are of patients who are learned from" in (tmp_path / "shared/index.html").read_text()


def test_columns_are_suggested(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", clean())
    rows = {name: name.split("/")[0] for name in clean()}
    path = table(tmp_path / "split.csv", rows, "img_path,subset")
    advice = "expected `file` and `split` (or `side`); did you mean --columns img_path,subset?"
    refused(advice, data, tmp_path / "out", "--split", path)
    audit(data, tmp_path / "out", "--split", path, "--columns", "img_path,subset", status=0)
    meaningless = table(tmp_path / "numbers.csv", dict.fromkeys("123", "4"), "a,b")
    refused("name them with --columns FILE,SPLIT", data, tmp_path / "none", "--split", meaningless)
    refused("which --columns names", data, tmp_path / "none", "--split", path, "--columns", "file,subset")
    refused("expected two names", data, tmp_path / "none", "--split", path, "--columns", "file")


def test_tables_that_cannot_be_used(tmp_path: Path) -> None:
    data, out = folder(tmp_path / "data", clean()), tmp_path / "out"
    rows = {name: name.split("/")[0] for name in clean()}
    path = tmp_path / "split.csv"
    refused("got no table", data, out, "--split", path)
    table(path, rows | {"train/disc/0.png": "fold 3"})
    refused("got ['fold 3']; expected train", data, out, "--split", path)
    table(path, {f"scan{i}.png": "train" for i in range(4)})
    refused("of which none is an image of the data", data, out, "--split", path)
    path.write_text("file,split\ntrain/disc/0.png,train\ntrain/disc/0.png,test\n")
    refused("on the sides ['test', 'train']", data, out, "--split", path)
    path.write_text("file,split\n")
    refused("got no row", data, out, "--split", path)
    path.write_bytes(b"\xff\xfe\x00")
    refused("expected a table of comma-separated values in UTF-8", data, out, "--split", path)
    table(path, dict.fromkeys(rows, "train"))
    refused("got readable images on {'train': 24}; expected some to train on", data, out, "--split", path)


def test_folders_that_are_no_split(tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused("got no", tmp_path / "nothing", out)
    refused("no folder that is called like a side, but ['a', 'b']", folder(tmp_path / "ab", clean(("a", "b"))), out)
    refused("expected some to train on", folder(tmp_path / "one", clean(("train",))), out)
    (tmp_path / "no.zip").write_text("text")
    refused("not a readable zip", tmp_path / "no.zip", out)
    (tmp_path / "file").touch()
    done = call("audit", tmp_path / "ab", "--out", tmp_path / "file")
    assert (done.exit_code, "which is a file" in done.stderr) == (2, True)
    assert call("audit").exit_code == 2


def test_what_cannot_be_read_is_counted_and_listed(tmp_path: Path) -> None:
    bad = {
        "train/disc/broken.png": png(picture(9))[:200],
        "train/../../escape.png": png(picture(10)),
        "train/disc/text.jpg": b"no image",
        "lost.png": png(picture(11)),
    }
    data = packed(tmp_path / "data.zip", clean() | bad)
    found = audit(data, tmp_path / "out", status=0)
    assert found["images"] == 24
    listed = pd.read_csv(tmp_path / "out/left_out.csv").set_index("path")["reason"]
    assert set(listed.index) == set(bad)
    assert listed["train/../../escape.png"] == "its path leaves the archive"
    assert listed["lost.png"] == "outside the class folders"
    assert "Files that could not be used: 4" in (tmp_path / "out/index.html").read_text()
    assert not list(tmp_path.parent.glob("escape.png"))


def test_copies_that_the_second_search_alone_finds_are_shown() -> None:
    sides, group = ["train", "train", "test", "test"], np.array([0, 1, 2, 0])
    table = pd.DataFrame({"path": list("abcd"), "label": ["x", "y", "x", "x"], "side": sides, "group": group})
    pairs = pd.DataFrame(
        {"image_a": [0], "image_b": [3], "kind": ["near"], "orientation": [0], "distance": [1], "correlation": [0.9]}
    )
    columns = {"image_a": [0, 0, 1, 1], "image_b": [2, 3, 2, 3], "inliers": 20, "correlation": [0.95, 0.97, 0.96, 0.8]}
    seen = pd.DataFrame(columns).assign(
        variant=["plain", "plain", "mirrored", "plain"], kind=["copy", "copy", "copy", "alike"]
    )
    both = judge.copies(pairs, group, second.Found(seen, np.arange(4), 4))
    found = judge.across(table, both)
    assert list(found["what"]) == ["second, two labels", "near", "second"]
    assert list(found["file_a"] + found["file_b"]) == ["bc", "ad", "ac"]
    assert list(found["orientation"]) == ["mirrored", "as is", "as is"]


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_escapes_names_and_fetches_nothing(tmp_path: Path) -> None:
    script = "<script>alert(1)<"  # a folder's name holds no slash
    files = {name.replace("disc", script).replace("ring", "\"onload=x'{{7*7}}"): data for name, data in leaky().items()}
    audit(folder(tmp_path / "<b>data", files), tmp_path / "out", status=1)
    text = (tmp_path / "out/index.html").read_text()
    page = Page()
    page.feed(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "b"}
    assert "&lt;script&gt;alert(1)&lt;" in text
    assert "{{7*7}}" in text
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("data:image/png;", "#"))
    policy = next(own for tag, own in page.tags if tag == "meta" and "http-equiv" in own)
    assert policy["content"].startswith("default-src 'none'; img-src data:")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_everybody_can_read_the_page(chromium: Browser, tmp_path: Path, scheme: str, width: int) -> None:
    long = {name.replace("disc", "d" * 60): data for name, data in leaky().items()}
    audit(folder(tmp_path / "data", long | {"train/ring/text.png": b"text"}), tmp_path / "out", status=1)
    opened = chromium.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})  # type: ignore[arg-type]
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    address = (tmp_path / "out/index.html").as_uri()
    opened.goto(address)
    assert violations(opened) == []
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in asked if not url.startswith("data:")] == [address]
    opened.close()


def test_names_cannot_steer_a_terminal(tmp_path: Path) -> None:
    data = packed(tmp_path / "data.zip", clean() | {"train/disc/\x1b[31mred.png": b"no image"})
    assert "\x1b" not in call("audit", data, "--out", tmp_path / "out").stdout


def test_inflation_is_the_difference_of_accuracies() -> None:
    right = np.array([1, 1, 1, 0, 1, 0, 0, 0], dtype=bool)
    copied = np.array([1, 1, 1, 1, 0, 0, 0, 0], dtype=bool)
    found = judge.inflation(right, copied, np.arange(8), 0)
    assert found["value"] == pytest.approx(4 / 8 - 1 / 4)
    assert found["low"] < found["value"] < found["high"]
    assert judge.inflation(right, np.ones(8, dtype=bool), np.arange(8), 0)["value"] is None
