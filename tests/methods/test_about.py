"""A method says once what it is, and the checks, the report and the cards say it after."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.report.world import world
from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.inputs import provenance
from tumorxai.report import cards, facts, page
from tumorxai.run.compare.names import labels

ROOT = Path(__file__).resolve().parents[2]
ABOUT = 'ABOUT = config.About(title="SupCon", authors="Khosla et al.", year=2020, paper="arXiv:2004.11362", {})'


@pytest.fixture
def supcon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the methods with a new one in it that learns from labels."""
    methods = shutil.copytree(config.METHODS, tmp_path / "methods", ignore=shutil.ignore_patterns("__pycache__"))
    text = (methods / "simclr.py").read_text()
    own = next(line for line in text.splitlines() if line.startswith("ABOUT"))
    (methods / "supcon.py").write_text(text.replace(own, ABOUT.format("uses_labels=True")))
    monkeypatch.setattr(config, "METHODS", methods)
    return methods


def test_a_new_method_is_reported_by_what_it_says_of_itself(
    supcon: Path, params: config.Params, tmp_path: Path
) -> None:
    root = world(tmp_path / "run")
    found = facts.gather(root, params.model_copy(update={"method": "supcon", "methods": {"supcon": {}}}))
    cards.render(root / "report", found)
    page.render(root, root / "report" / "index.html", found)
    model, claim, report = (
        (root / "report" / name).read_text() for name in ("model_card.md", "claim.md", "index.html")
    )
    reference = "SupCon (Khosla et al., 2020, arXiv:2004.11362)"
    assert f"pretrained by {reference} with the training labels, and a classifier" in model
    assert "self-supervised-learning" not in model
    assert "Pretraining, too, learns from the training labels." in claim
    assert "is pretrained by SupCon with the training labels, and then fine-tuned" in report
    assert f"{reference}, {params.pretrain.epochs} epochs" in report
    for text in (model, claim, report):
        assert "without labels" not in text
    rows = [{"method": "supcon", "seed": "0"}, {"method": "gone", "seed": "0"}]
    assert labels(rows, [["a"], ["b"]]) == ["SupCon", "gone"]


def test_a_new_method_with_labels_is_refused_where_it_would_see_more_of_them(supcon: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"method": "supcon"}
    tree["methods"]["supcon"] = {}
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(tree))
    assert config.load(file).method == "supcon"
    tree["split"]["label_fraction"] = 0.1
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError, match=r"label_fraction 0\.1 with method supcon"):
        config.load(file)
    own = supcon / "supcon.py"
    own.write_text(own.read_text().replace("uses_labels=True", ""))
    assert config.load(file).split.label_fraction == 0.1


def test_a_new_title_trains_nothing(tmp_path: Path) -> None:
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    before = provenance.record(tmp_path, "pretrain", "simclr")
    file = tmp_path / "src/tumorxai/methods/simclr.py"
    text = file.read_text()
    file.write_text(text.replace('title="SimCLR", ', 'title="SimCLR, version 1",\n    '))
    assert file.read_text() != text
    assert provenance.record(tmp_path, "pretrain", "simclr") == before
    file.write_text(text.replace("= 0.1  # tau", "= 0.2  # tau"))
    assert provenance.record(tmp_path, "pretrain", "simclr") != before
