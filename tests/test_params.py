"""Parameters: the project's own are complete and valid; wrong ones are refused with what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import load_yaml
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
        ("pretrain.init_sha256", "0" * 64, ["init None", "the path of the file"]),
        ("pretrain.init_sha256", "abc", ["pretrain.init_sha256", "'abc'"]),
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


def test_a_method_that_trains_nothing_has_its_own_weights(tmp_path: Path) -> None:
    own = content() | {"method": "pretrained"}
    own["pretrain"] = own["pretrain"] | {"init": "hub"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(own))
    with pytest.raises(UserError, match=r"pretrain\.init 'hub' with method pretrained.*set pretrain\.init to null"):
        config.load(tmp_path / "params.yaml")


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


@pytest.mark.parametrize(
    ("text", "value"),
    [("010", 10), ("0o10", 8), ("1_000", 1000), ("0x1F", 31)],
)
def test_a_number_is_what_dvc_records(tmp_path: Path, text: str, value: int) -> None:
    """YAML 1.1 and 1.2 read ``010`` otherwise: DVC's reading counts."""
    file = tmp_path / "params.yaml"
    file.write_text(re.sub(r"(?m)^seed: .*$", f"seed: {text}", (ROOT / "params.yaml").read_text()))
    assert load_yaml(file)["seed"] == value  # DVC's own reader
    assert config.load(file).seed == value


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("seed", "1:30", "seed: got '1:30'; input should be a valid integer"),
        ("seed", "true", "seed: got True; input should be a valid integer"),
        ("seed", "3.0", "seed: got 3.0; input should be a valid integer"),
        ("seed", "9" * 10_000, "value that cannot be read"),
        ("seed", "2024-01-01", "seed: got datetime.date"),
        ("method", "[" * 40 + "]" * 40, "more than 20 blocks in one another"),
        ("preset", "&a demo\nmethod: *a", r"got a reference \(\*a\); expected values"),
        ("preset", "demo\nseed: 1", "seed"),  # twice
        ("preset", "'\\x00\x00'", "not valid YAML"),
    ],
)
def test_what_yaml_can_hide_is_refused_in_words(tmp_path: Path, key: str, text: str, words: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(re.sub(rf"(?m)^{key}: .*$", lambda _: f"{key}: {text}", (ROOT / "params.yaml").read_text()))
    with pytest.raises(UserError, match=words) as error:
        config.load(file)
    assert len(str(error.value)) < 1000


def test_references_that_stand_for_a_billion_values_are_refused_at_once(tmp_path: Path) -> None:
    lines = ["a: &a [0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    for before, name in pairwise("abcdefghi"):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    (tmp_path / "params.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError, match="got a reference"):
        config.load(tmp_path / "params.yaml")


@pytest.mark.parametrize(("raw", "words"), [(b"seed: \xff\xfe", "not UTF-8"), (b"#" * 2**21, "more than 131072 bytes")])
def test_a_file_that_is_no_text_of_parameters(tmp_path: Path, raw: bytes, words: str) -> None:
    (tmp_path / "params.yaml").write_bytes(raw)
    with pytest.raises(UserError, match=words):
        config.load(tmp_path / "params.yaml")


def test_a_long_name_does_not_fill_the_screen(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"? {'k' * 100_000}\n: 1\n" + (ROOT / "params.yaml").read_text())
    with pytest.raises(UserError, match="kkk…: unknown parameter") as error:
        config.load(tmp_path / "params.yaml")
    assert len(str(error.value)) < 1000


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"\xef\xbb\xbf" + (ROOT / "params.yaml").read_bytes())
    assert config.load(tmp_path / "params.yaml") == config.load(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("pretrain.warmup_epochs", float("inf"), "finite"),
        ("linear.penalties", [float("nan")], "finite|greater than 0"),
        ("finetune.lr", float("inf"), "finite"),
        ("frozen.shot_draws", 10**30, "less than or equal to 1000000"),
        ("pretrain.epochs", True, "valid integer"),
        ("pretrain.compile", "yes", "valid boolean|'auto'"),
        ("pretrain.graphs", "on", "'auto' or 'off'"),
        ("pretrain.warmup_epochs", 10**4, "got warmup_epochs 10000 with epochs .*; expected at most as many"),
        ("finetune.warmup_epochs", 10**6, "lower warmup_epochs"),
    ],
)
def test_settings_that_do_nothing_or_cannot_end(tmp_path: Path, key: str, value: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        config.load(changed(tmp_path, key, value))


def test_every_whole_number_is_bounded() -> None:
    """No integer of the parameters, a method's included, can be so large that a run never ends."""
    for block in (config.Params, *(import_module(f"tumorxai.methods.{name}").Config for name in config.method_names())):
        for path, schema in integers(block.model_json_schema()):
            assert "maximum" in schema or "exclusiveMaximum" in schema, f"{block.__module__}: {path}"


def integers(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") == "integer" and "enum" not in schema and "const" not in schema:
            yield path, schema
        for name, value in schema.items():
            if name not in ("enum", "default", "const"):
                yield from integers(value, f"{path}/{name}")
    elif isinstance(schema, list):
        for item in schema:
            yield from integers(item, path)
