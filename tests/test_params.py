"""Parameters: the project's own are complete and valid; wrong ones are refused with what to do."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from tumorxai import config
from tumorxai.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def content() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    return loaded


def changed(tmp_path: Path, key: str, value: Any) -> Path:
    tree = content()
    *path, last = key.split(".")
    block = tree
    for part in path:
        block = block[part]
    block[last] = value
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def missing(block: type[BaseModel], given: dict[str, Any], where: str) -> list[str]:
    found = [f"{where}{name}" for name in block.model_fields if name not in given]
    for name, field in block.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and name in given:
            found += missing(field.annotation, given[name], f"{where}{name}.")
    return found


def test_own_parameters_are_complete() -> None:
    """A stage's parameters come from params.yaml alone, never from a default that DVC cannot see."""
    config.load(ROOT / "params.yaml")
    assert missing(config.Params, content(), "") == []


@pytest.mark.parametrize("path", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_are_complete_with_the_defaults(path: Path) -> None:
    assert missing(config.Params, config.preset(path), "") == []


def test_every_parameter_has_a_default() -> None:
    assert missing(config.Params, config.Params().model_dump(), "") == []


@pytest.mark.parametrize("name", ["data", "methods", "seed"])
def test_a_default_does_not_stand_in_for_what_is_missing(tmp_path: Path, name: str) -> None:
    """DVC would not see it."""
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in content().items() if key != name}))
    with pytest.raises(UserError, match=rf"params\.yaml is not valid:\n  {name}: missing; add it"):
        config.load(file)


@pytest.mark.parametrize("name", config.method_names())
def test_every_method_has_a_valid_block(name: str) -> None:
    import_module(f"tumorxai.methods.{name}").Config(**content()["methods"][name])


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("method", "simclear", ["'simclear'", "simclr"]),
        ("pretrain.epoch", 3, ["pretrain.epoch", "unknown parameter"]),
        ("pretrain.epochs", 0, ["pretrain.epochs", "got 0", "greater than or equal to 1"]),
        ("pretrain.epochs", "many", ["pretrain.epochs", "'many'"]),
        ("split.protocol", "patient", ["split.protocol", "'patient'", "grouped"]),
        ("split.test", 0, ["test 0", "above 0"]),
        ("split.test", 0.9, ["at most 1"]),
        ("split.test", 308, ["308", "one kind"]),
        ("data.sources", [], ["data.sources"]),
        ("finetune.lr", -1, ["finetune.lr", "greater than 0"]),
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, key: str, value: Any, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        config.load(changed(tmp_path, key, value))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_number_without_a_point_is_still_a_number(tmp_path: Path) -> None:
    """PyYAML reads 1e-05 as text."""
    file = tmp_path / "params.yaml"
    file.write_text((ROOT / "params.yaml").read_text().replace("  lr: 0.001", "  lr: 1e-05"))
    assert config.load(file).finetune.lr == 1e-5


def test_files_that_are_no_parameters(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    with pytest.raises(UserError, match=r"got no .*params\.yaml"):
        config.load(file)
    file.write_text("a: [")
    with pytest.raises(UserError, match="not valid YAML"):
        config.load(file)
    file.write_text("- a")
    with pytest.raises(UserError, match="expected a mapping"):
        config.load(file)


@pytest.mark.parametrize("name", config.method_names())
def test_a_method_that_learns_from_labels_sees_all_of_them_or_is_refused(tmp_path: Path, name: str) -> None:
    file = changed(tmp_path, "method", name)
    assert config.load(file).method == name
    file.write_text(file.read_text().replace("label_fraction: 1.0", "label_fraction: 0.1"))
    if not config.about(name).uses_labels:
        assert config.load(file).split.label_fraction == 0.1
        return
    wanted = rf"label_fraction 0\.1 with method {name}.*set split\.unlabelled to rest"
    with pytest.raises(UserError, match=wanted):
        config.load(file)


@pytest.mark.parametrize("name", config.method_names())
def test_what_a_method_is_reads_the_same_with_and_without_running_it(name: str) -> None:
    assert config.about(name) == import_module(f"tumorxai.methods.{name}").ABOUT


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", "got no ABOUT"),
        ("ABOUT = config.About(title=str(1))\n", "must be computed"),
        ("ABOUT = config.About(title='A', labels=True)\n", "labels: unknown parameter"),
        ("ABOUT = config.About()\n", "title: missing"),
        ("ABOUT = config.About(title='A', paper='2002.05709')\n", "paper: got '2002.05709'"),
    ],
)
def test_a_method_that_does_not_say_what_it_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    (tmp_path / "mine.py").write_text(text)
    monkeypatch.setattr(config, "METHODS", tmp_path)
    tree = content() | {"method": "mine", "methods": {"mine": {}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError, match=words):
        config.load(tmp_path / "params.yaml")
