"""Certificates: the same data pass, and whatever is changed is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.certify.pictures import clean, folder, leaky, packed, picture, png
from tests.certify.test_audit import call
from tumorxai.certify import certificate
from tumorxai.errors import UserError
from tumorxai.files import write_csv, write_json


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data`` and its certificate."""
    root = tmp_path_factory.mktemp("made")
    data = folder(root / "data", leaky() | {"train/disc/broken.png": b"no image"})
    assert call("audit", data, "--out", root / "out").exit_code == 1
    return root


def copied(made: Path, root: Path) -> tuple[Path, Path]:
    """Certificate and data, to be changed."""
    shutil.copytree(made, root / "own")
    return root / "own/out/certificate.json", root / "own/data"


def verify(own: Path, data: Path, *more: object, status: int = 1) -> list[str]:
    done = call("verify", own, data, "--json", *more)
    assert done.exit_code == status, done.output
    found = json.loads(done.stdout)
    assert found["ok"] == (status == 0) == (not found["differences"])
    differences: list[str] = found["differences"]
    return differences


def edit(own: Path, change: Callable[[Any], None], sign: bool = False) -> None:
    content = json.loads(own.read_text())
    change(content)
    if sign:
        content["sha256"] = certificate.digest(content)
    own.write_text(json.dumps(content))


def test_the_same_data_pass(made: Path, tmp_path: Path) -> None:
    own, data = copied(made, tmp_path)
    assert verify(own, data, status=0) == []
    assert verify(own, data.rename(tmp_path / "renamed"), status=0) == []
    zipped = packed(tmp_path / "z.zip", leaky() | {"train/disc/broken.png": b""})
    assert verify(own, zipped, status=0) == []
    text = call("verify", own, zipped)
    assert text.stdout == "ok: 27 images, the same pixels, on the same sides\n"
    digest = json.loads(own.read_text())["sha256"]
    assert verify(own, zipped, "--sha256", digest.upper(), status=0) == []
    assert verify(own, zipped, "--sha256", "0" * 64)[0].startswith("another certificate: its content gives sha256")


def test_a_file_written_anew_with_the_same_pixels_passes(made: Path, tmp_path: Path) -> None:
    own, data = copied(made, tmp_path)
    picture(3).save(data / "train/disc/3.png", compress_level=0)
    assert (data / "train/disc/3.png").read_bytes() != clean()["train/disc/3.png"]
    assert verify(own, data, status=0) == []


def test_one_pixel(made: Path, tmp_path: Path) -> None:
    own, data = copied(made, tmp_path)
    image = picture(3)
    image.putpixel((5, 5), image.getpixel((5, 5)) ^ 1)
    (data / "train/disc/3.png").write_bytes(png(image))
    (difference,) = verify(own, data)
    assert difference.startswith("train/disc/3.png: other pixels: sha256 ")


def test_files_missing_added_moved_and_broken(made: Path, tmp_path: Path) -> None:
    own, data = copied(made, tmp_path)
    (data / "train/disc/0.png").unlink()
    (data / "test/ring/new.png").write_bytes(png(picture(77)))
    (data / "train/ring/1.png").rename(data / "test/ring/moved.png")
    (data / "test/disc/near.jpg").write_bytes(b"\xff\xd8")
    (data / "train/disc/broken.png").unlink()
    (data / "test/ring/bad.png").write_bytes(b"no image")
    found = verify(own, data)
    assert found[:3] == [
        found[0],
        "train/disc/0.png: missing",
        "train/ring/1.png: moved to test/ring/moved.png (it was on the side train)",
    ]
    assert found[0].startswith("test/disc/near.jpg: cannot be read: ")
    assert found[3] == "test/ring/new.png: added"
    assert found[4].startswith("test/ring/bad.png: added: no image")
    assert found[5:] == ["train/disc/broken.png: missing (it could not be used when it was certified)"]
    done = call("verify", own, data)
    assert done.exit_code == 1
    assert done.stdout.startswith("refused: 6 differences\n  test/disc/near.jpg: cannot be read")


def test_twenty_differences_are_printed(made: Path, tmp_path: Path) -> None:
    own, data = copied(made, tmp_path)
    shutil.rmtree(data / "train")
    (data / "train/disc").mkdir(parents=True)
    (data / "train/disc/0.png").write_bytes(png(picture(0)))
    for label in ("disc", "ring"):
        for i in range(6):
            (data / f"test/{label}/{i}.png").write_bytes(png(picture(500 + i)))
    lines = call("verify", own, data).stdout.splitlines()
    assert len(lines) == 22
    assert lines[-1].endswith("more; --json lists all")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda c: c.update(verdict="patients apart"),
            "its verdict is 'patients apart', its own images give 'leaking'",
        ),
        (lambda c: c["crossings"]["train_test"].update(copies=0), "train_test.copies says 0, its own images give 3"),
        (lambda c: c["images"][0].update(group=26), "images of the same pixels are in several groups"),
        (lambda c: [i.update(side="train") for i in c["images"][:1]], "on the side test, certified train"),
        (lambda c: c["images"].append(c["images"][0]), "it names a file twice"),
    ],
    ids=["verdict", "count", "group", "side", "twice"],
)
def test_an_edited_certificate_is_refused_even_if_signed_anew(
    made: Path, tmp_path: Path, change: Callable[[Any], None], named: str
) -> None:
    own, data = copied(made, tmp_path)
    content = json.loads(own.read_text())
    exact = next(i for i, one in enumerate(content["images"]) if one["file"] == "test/disc/exact.png")
    content["images"].insert(0, content["images"].pop(exact))
    content["sha256"] = certificate.digest(content)
    own.write_text(json.dumps(content))
    assert verify(own, data, status=0) == []
    edit(own, change)
    assert verify(own, data)[0].startswith("the certificate was edited: its content gives sha256 ")
    edit(own, lambda _: None, sign=True)
    found = verify(own, data)
    assert any(named in one for one in found), found
    assert not any("was edited" in one for one in found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("[]", "got a list"),
        ("{}", "format: missing"),
        ("[" * 100_000, "got brackets 100000 deep"),
        ('{"a": "' + "[" * 50 + '"}', "a: unknown parameter"),
        ('{"a": "\\"' * 20_000, "Expecting"),
        ('{"verdict": 1, "verdict": 2}', "a key twice"),
        ('{"a": NaN}', "NaN, which is no number"),
        ("\xff", "expected a certificate"),
    ],
)
def test_what_is_no_certificate(made: Path, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(text.encode("latin-1"))
    done = call("verify", path, made / "data")
    assert done.exit_code == 2, done.output
    assert message in done.stderr


def test_reading_is_bounded(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, data = copied(made, tmp_path)
    monkeypatch.setattr(certificate, "MAX_BYTES", own.stat().st_size - 1)
    with pytest.raises(UserError, match="got more than"):
        certificate.load(own)
    monkeypatch.setattr(certificate, "MAX_BYTES", own.stat().st_size)
    certificate.load(own)
    assert call("verify", tmp_path / "none.json", data).exit_code == 2


def test_sides_of_a_table(tmp_path: Path) -> None:
    data, split = folder(tmp_path / "data", clean(("a", "b"))), tmp_path / "split.csv"
    rows = [f"{name},{'train' if name[0] == 'a' else 'test'}" for name in clean(("a", "b"))]
    split.write_text("\n".join(["file,split", *rows]))
    assert call("audit", data, "--split", split, "--out", tmp_path / "out").exit_code == 0
    own = tmp_path / "out/certificate.json"
    assert "whose sides were not checked" in call("verify", own, data).stdout
    assert verify(own, data, "--split", split, status=0) == []
    split.write_text("\n".join(["file,split", *rows[1:], rows[0].replace("train", "val")]))
    assert verify(own, data, "--split", split) == ["a/disc/0.png: on the side validation, certified train"]


def test_the_projects_own_split(toy: Path, tmp_path: Path) -> None:
    import pandas as pd

    root = tmp_path / "project"
    shutil.copytree(toy, root / "data")
    shutil.copy(Path(__file__).resolve().parents[2] / "params.yaml", root)
    done = call("certify", "--root", root, "--out", root / "c.json")
    assert done.exit_code == 2
    assert "run `dvc repro dedupe`" in done.stderr
    write_csv(root / "data/pairs.csv", pd.DataFrame({"image_a": [66], "image_b": [69]}))
    write_json(root / "details/leakage.json", {"verdict": {"evidence": {"missed": 0, "explained": 0}}})
    write_csv(root / "data/quarantine.csv", pd.DataFrame(columns=["source", "path", "reason"]))
    done = call("certify", "--root", root, "--out", root / "c.json", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verdict"] == "patients apart"
    own, digest = certificate.load(root / "c.json")
    assert digest == own.sha256
    assert not list(certificate.contradictions(own))
    assert {one.side for one in own.images} == {"train", "validation", "test"}
    write_csv(root / "data/pairs.csv", pd.DataFrame({"image_a": [5], "image_b": [119]}))
    assert call("certify", "--root", root, "--out", root / "c.json").exit_code == 1
