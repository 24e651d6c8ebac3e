"""A method's own settings are refused before any stage runs, not when it is built."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tumorxai import config, methods
from tumorxai.errors import UserError
from tumorxai.pretrain import settings

ROOT = Path(__file__).resolve().parents[2]
RIGHT = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.0}
WRONG = {
    "a key": ({"temperatures": 0.1}, "temperatures: unknown parameter"),
    "true as a number": ({"temperature": True}, "temperature: got True"),
    "text as a number": ({"temperature": "0.1"}, "temperature: got '0.1'"),
    "not finite": ({"temperature": float("nan")}, "temperature: got nan"),
    "out of range": ({"temperature": -1.0}, "temperature: got -1.0"),
    "a rate below zero": ({"optimizer": RIGHT | {"lr": -0.1}}, r"optimizer\.lr: got -0\.1"),
    "an infinite rate": ({"optimizer": RIGHT | {"lr": float("inf")}}, r"optimizer\.lr: got inf"),
    "an optimiser that timm lacks": ({"optimizer": RIGHT | {"name": "adamv"}}, "got an optimizer 'adamv' that timm"),
    "a momentum that adam lacks": ({"optimizer": RIGHT | {"momentum": 0.9}}, "'adamw' that timm does not build"),
}


def of(params: config.Params, block: dict[str, Any]) -> config.Params:
    return params.model_copy(update={"methods": {**params.methods, "simclr": block}})


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_refused_every_time(params: config.Params, tmp_path: Path, mistake: str) -> None:
    block, words = WRONG[mistake]
    for _ in range(2):
        with pytest.raises(UserError, match=words):
            settings.check(of(params, block), tmp_path)


def test_what_was_found_right_is_not_looked_at_again(
    params: config.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    look = methods.settings
    monkeypatch.setattr(methods, "settings", lambda name, block: asked.append(name) or look(name, block))
    for block in ({}, {}, {"temperature": 0.2}, {"temperature": 0.2}, {}):
        settings.check(of(params, block), tmp_path)
    assert len(asked) == 3


@pytest.mark.parametrize("name", config.method_names())
def test_the_paper_s_values_are_right(params: config.Params, tmp_path: Path, name: str) -> None:
    block = config.method_blocks()[name]
    for own in ({}, block):
        settings.check(params.model_copy(update={"method": name, "methods": {name: own}}), tmp_path)


def test_the_first_stage_asks(params: config.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = of(params, {"temperature": -1.0}).model_dump(mode="json")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"temperature: got -1\.0"):
        runpy.run_path(str(ROOT / "stages/inputs.py"))["main"]()
    assert not (tmp_path / "data").exists()


def test_a_block_of_no_method_is_refused(params: config.Params) -> None:
    with pytest.raises(ValueError, match=r"got a block methods\.simcrl; expected one of"):
        config.Params.model_validate(params.model_dump() | {"methods": {**params.methods, "simcrl": {}}})
