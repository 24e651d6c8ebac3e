"""Weights are taken for those of their card only if their bytes are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.files import read_json, sha256, write_json
from tumorxai.networks import classifier, encoders, weights


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    model = config.Model(backbone="test_resnet")
    network = encoders.build(model, 1, 32)
    found = classifier.Classifier(network, encoders.width(network, 1, 32), ("a", "b"), 0.3, 0.2)
    encoders.save(found.state_dict(), tmp_path / "finetuned.safetensors", classifier.card(model, 1, 32, found))
    return tmp_path / "finetuned.safetensors"


def load(path: Path) -> object:
    return encoders.load(path) if path.stem == "encoder" else classifier.load(path)


@pytest.fixture(params=["encoder", "trained"])
def file(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    load(found)
    return found


def test_the_card_holds_the_checksum(file: Path) -> None:
    assert read_json(file.with_suffix(".json"))["sha256"] == sha256(file)


def test_other_weights_of_the_same_shape_are_refused(file: Path) -> None:
    state = load_file(file)
    name = next(name for name, value in state.items() if value.ndim == 4)
    save_file(state | {name: state[name] + 1}, file)
    with pytest.raises(UserError, match=r"with the SHA-256 [0-9a-f]{64}; expected [0-9a-f]{64}, as its card says"):
        load(file)


def test_weights_of_other_sides_are_refused(file: Path, tmp_path: Path) -> None:
    """They may have learned from test images; what says nothing of sides is from elsewhere, and is believed."""
    read = encoders.load if file.stem == "encoder" else classifier.load
    (tmp_path / "split.csv").write_text("image_id,side\n0,test\n")
    read(file, tmp_path)
    card = file.with_suffix(".json")
    write_json(card, read_json(card) | {"data": {"split.csv": sha256(tmp_path / "split.csv")}})
    read(file, tmp_path)
    (tmp_path / "split.csv").write_text("image_id,side\n0,train\n")
    with pytest.raises(UserError, match=r"trained on other sides than those of .*split\.csv"):
        read(file, tmp_path)
    read(file)  # without their run


def test_a_card_without_a_checksum_says_how_to_add_it(file: Path) -> None:
    card = file.with_suffix(".json")
    content = read_json(card)
    write_json(card, {name: value for name, value in content.items() if name != "sha256"})
    with pytest.raises(UserError, match=f'if the card is theirs, add "sha256": "{sha256(file)}" to it'):
        load(file)


def test_damaged_weights_are_told_in_words(file: Path) -> None:
    whole = file.read_bytes()
    card = read_json(file.with_suffix(".json"))
    for content in (b"", whole[:50], whole[:-1], b"\xff" * 100, whole + b"x"):
        file.write_bytes(content)
        with pytest.raises(UserError, match="SHA-256"):
            load(file)
        write_json(file.with_suffix(".json"), card | {"sha256": sha256(file)})  # as if it had been written so
        with pytest.raises(UserError, match=r"got .*expected weights as safetensors; run `dvc repro"):
            load(file)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timm", None), ("timm", 7), ("small_stem", "no"), ("channels", 2), ("channels", "1"), ("size", 0),
        ("size", 10**9), ("size", "wide"), ("mean", None), ("std", 0), ("std", "x"), ("std", 1e400),
    ],
)  # fmt: skip
def test_a_card_that_makes_no_sense_is_refused(file: Path, field: str, value: Any) -> None:
    card = file.with_suffix(".json")
    content = read_json(card) | {field: value}
    card.write_text(str(content).replace("'", '"').replace("None", "null").replace("False", "false"))
    with pytest.raises(UserError, match=rf"{file.stem}\.json: got "):
        load(file)


@pytest.mark.parametrize("classes", [None, [], ["a"], ["a", "a"], 3])
def test_a_classifier_has_different_classes(trained: Path, classes: Any) -> None:
    card = trained.with_suffix(".json")
    write_json(card, read_json(card) | {"classes": classes})
    with pytest.raises(UserError, match=r"finetuned\.json: got .*card of a classifier; run `dvc repro finetune`"):
        load(trained)


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_text("{")])
def test_a_card_that_is_missing_or_cut_off_is_told_in_words(file: Path, change: Callable[[Path], None]) -> None:
    change(file.with_suffix(".json"))
    with pytest.raises(UserError, match=r"\.json.*run `dvc repro"):
        load(file)


def test_a_card_is_never_written_without_its_weights(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        weights.save({"x": None}, tmp_path / "w.safetensors", {})  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == []
    weights.save({"x": torch.zeros(3)}, tmp_path / "w.safetensors", {"sha256": "of older weights"})
    assert read_json(tmp_path / "w.json") == {"sha256": sha256(tmp_path / "w.safetensors")}
