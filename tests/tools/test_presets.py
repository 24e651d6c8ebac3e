"""Presets become the current parameters, comments kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.tools import presets

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def params(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path / "params.yaml"


@pytest.mark.parametrize("path", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_preset_becomes_the_parameters(params: Path, path: Path) -> None:
    presets.apply(path.stem, ROOT / "presets", params)
    wanted = config.load(path)
    got = config.load(params)
    assert got.model_dump(exclude={"methods"}) == wanted.model_dump(exclude={"methods"})
    assert got.methods[wanted.method] == wanted.methods[wanted.method]
    text = params.read_text()
    assert "# grouped | official | random (leaky, as the papers did)" in text
    presets.apply(path.stem, ROOT / "presets", params)
    assert params.read_text() == text


def test_the_demo_preset_is_what_a_fresh_clone_runs() -> None:
    assert config.load(ROOT / "params.yaml") == config.load(ROOT / "presets/demo.yaml")


def test_an_unknown_preset_changes_nothing(params: Path) -> None:
    before = params.read_bytes()
    with pytest.raises(UserError, match=r"'demmo'; expected one of .*demo"):
        presets.apply("demmo", ROOT / "presets", params)
    assert params.read_bytes() == before


def test_presets_are_described_by_what_stands_on_top_of_them() -> None:
    found = presets.described(ROOT / "presets")
    assert set(found) == {path.stem for path in (ROOT / "presets").glob("*.yaml")}
    assert found["demo"].startswith("The default")
    assert all(10 < len(text) < 250 and "\n" not in text and "#" not in text for text in found.values()), found
