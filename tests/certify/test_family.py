"""Archives that hold each other's images."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tests.certify.pictures import folder, jpeg, packed, picture, png
from tests.certify.test_audit import call


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve originals; six of them in a second archive, two under another label; and a stranger."""
    root = tmp_path_factory.mktemp("family")
    glioma = {f"glioma/{i}.png": png(picture(i)) for i in range(6)}
    old = packed(root / "old.zip", glioma | {f"meningioma/{i}.png": png(picture(10 + i)) for i in range(6)})
    taken = {f"Glioma_Tumor/{i}.png": png(picture(i)) for i in range(3)} | {"Glioma_Tumor/x.jpg": jpeg(picture(3))}
    relabelled = {f"pituitary/{i}.jpg": jpeg(picture(10 + i)) for i in range(2)}
    new = folder(root / "new", taken | relabelled)
    stranger = folder(root / "stranger", {f"glioma/{i}.png": png(picture(50 + i)) for i in range(3)})
    return [old, new, stranger]


@pytest.mark.slow
def test_shares_kinds_and_labels(archives: list[Path], tmp_path: Path) -> None:
    done = call("family", *archives, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["images"], found["different"]) == (21, 15)
    assert [one["images"] for one in found["archives"]] == [12, 6, 3]
    (edge,) = found["kinship"]
    assert (edge["a"], edge["b"]) == ("local/new", "local/old")
    assert (edge["a_in_b"], edge["a_share"], edge["b_in_a"], edge["b_share"]) == (6, 1.0, 6, 0.5)
    assert (edge["exact"], edge["near"], edge["shared"], edge["two_labels"]) == (3, 3, 6, 2)
    assert edge["wider"] == 1.0
    assert json.loads((tmp_path / "out/family.json").read_text()) == found
    assert list(pd.read_csv(tmp_path / "out/family.csv")["a_in_b"]) == [6]
    with Image.open(tmp_path / "out/family.png") as drawn:
        assert min(drawn.size) > 500

    text = call("family", *archives, "--out", tmp_path / "out").stdout
    assert "local/new in local/old: 6 images (100.0%), the other way round 6 (50.0%)" in text
    assert "all together: 21 images, 15 different ones" in text


def test_one_archive_has_no_kin(archives: list[Path], tmp_path: Path) -> None:
    done = call("family", archives[2], "--out", tmp_path, "--json")
    assert json.loads(done.stdout)["kinship"] == []
    assert (tmp_path / "family.png").exists()
    done = call("family", archives[1], archives[1], "--out", tmp_path)
    assert (done.exit_code, "more than once" in done.stderr) == (1, True)
