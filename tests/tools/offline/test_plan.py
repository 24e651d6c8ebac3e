"""Which runs a list is of, and which of their stages can run without DVC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tools.offline.folders import ROOT
from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.tools import papers
from tumorxai.tools.offline import plan, side

STAGES = side.pipeline(ROOT)


def test_every_combination_is_a_run_with_a_name_of_its_own() -> None:
    found = plan.of_settings(["method=simclr,byol", "seed=0,1", "pretrain.epochs=3"], ["linear"])
    assert [one.name for one in found] == ["simclr-0", "simclr-1", "byol-0", "byol-1"]
    assert found[1] == plan.Asked("simclr-1", None, ("method=simclr", "seed=1", "pretrain.epochs=3"), ("linear",))
    assert [one.name for one in plan.of_settings([])] == ["run"]
    (one,) = plan.of_settings(["data.sources=[phantom,a/b]"])
    assert one.settings == ("data.sources=[phantom,a/b]",)
    names = [one.name for one in plan.of_settings(["data.sources=[a/b],[a-b]"])]
    assert names == ["run0", "run1"]  # both would be a-b


@pytest.mark.parametrize("setting", ["method", "seed=[0"])
def test_what_is_no_setting_is_refused(setting: str) -> None:
    with pytest.raises(UserError, match="KEY=VALUE"):
        plan.of_settings([setting])


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "papers").glob("*.yaml")))
def test_every_list_of_the_papers_can_go_along(name: str) -> None:
    described = papers.describe(name, ROOT / "papers")
    for one in plan.of_paper(described, settings=["seed=1"]):
        assert plan.NAME.fullmatch(one.name)
        assert one.settings[-1] == "seed=1"
        assert "pretrain" in side.away(STAGES, one.stages)
    with pytest.raises(UserError, match="expected one of"):
        plan.of_paper(described, ["nothing"])


def test_a_stage_comes_after_all_that_it_reads() -> None:
    found = side.away(STAGES, ["scores"])
    assert found.index("pretrain") < found.index("embed") < found.index("linear") < found.index("scores")
    assert {"finetune", "supervised", "baselines", "frozen", "labels_finetune"} <= set(found)
    assert not set(found) & {"inputs", "fetch", "catalogue", "dedupe", "patients", "split", "audit", "views", "report"}
    assert side.away(STAGES, ["audit", "linear"]) == ["pretrain", "embed", "linear"]
    assert side.away(STAGES, ["supervised"]) == ["supervised"]


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (["robustness", "linear"], "robustness, which reads the archives"),
        (["report"], "report, which reads"),
        (["lunar"], "'lunar'; expected one of"),
        (["audit"], "expected a stage that trains"),
    ],
)
def test_what_cannot_run_without_the_archives_is_refused(stages: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        side.away(STAGES, stages)


def params(tmp_path: Path, *settings: str) -> config.Params:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return side.set_params(tmp_path, None, settings)


def test_settings_are_those_of_dvc(tmp_path: Path) -> None:
    found = params(tmp_path, "method=byol", "methods.byol.hidden=32", "pretrain.epochs=3")
    assert (found.method, found.methods["byol"]["hidden"], found.pretrain.epochs) == ("byol", 32, 3)
    with pytest.raises(UserError, match="KEY=VALUE"):
        params(tmp_path, "pretrain.epoch=3")
    with pytest.raises(UserError, match=r"pretrain\.epochs: got 0"):
        params(tmp_path, "pretrain.epochs=0")


def test_weights_go_along_from_within_the_project_alone(tmp_path: Path) -> None:
    hub = params(tmp_path, "method=pretrained", "methods.pretrained={}")
    with pytest.raises(UserError, match="no network"):
        plan._check_offline("a", hub)
    for path in ("/elsewhere/w.safetensors", "../w.safetensors", "~/w.safetensors"):
        with pytest.raises(UserError, match="within the project"):
            plan._check_offline("a", params(tmp_path, f"pretrain.init='{path}'"))
    inside = params(tmp_path, "pretrain.init=data/w.safetensors")
    plan._check_offline("a", inside)
    (tmp_path / "root/data").mkdir(parents=True)
    (tmp_path / "made").mkdir()
    with pytest.raises(UserError, match="put it there"):
        side.take_weights(tmp_path / "root", tmp_path / "made", inside)
    (tmp_path / "root/data/w.safetensors").write_text("w")
    assert side.take_weights(tmp_path / "root", tmp_path / "made", inside) == ["data/w.safetensors"]
    assert (tmp_path / "made/data/w.safetensors").read_text() == "w"


def test_a_folder_that_is_no_project_is_a_message(tmp_path: Path) -> None:
    asked: list[Any] = plan.of_settings([])
    with pytest.raises(UserError, match=r"without dvc\.yaml"):
        plan.prepare(tmp_path, asked, tmp_path / "files", offline=True)
