"""Presets become the current parameters: whole, whatever these were before, comments kept."""

from __future__ import annotations

import shutil
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.tools import presets

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))
# What cost and scores in results/ were measured with: a default that is changed must not change these.
FROZEN = {
    # method, backbone, pixels, pretraining, batch, warm-up, fine-tuning, rate of the encoder, perturbed, training share
    "cheng": ("simclr", "resnet10t", 96, 30, 64, 2, 40, 1e-3, 64, 0.6),
    "demo": ("vicreg", "resnet10t", 64, 30, 64, 2, 18, 1e-3, 8, 0.6),
    "dinov2_search": ("pretrained", "vit_small_patch14_dinov2.lvd142m", 224, 30, 64, 2, 40, 1e-4, 48, 0.7),
    "external": ("simclr", "resnet10t", 64, 30, 64, 2, 40, 1e-3, 48, 0.7),
    "firildak": ("joint", "firildak_cnn_relu", 96, 100, 525, 0, 40, 1e-3, 48, 1235),
    "sartaj": ("simclr", "resnet10t", 64, 30, 64, 2, 40, 1e-3, 48, 0.7),
    "tumorxai": ("simclr", "resnet50", 224, 100, 256, 10, 40, 3e-4, 48, 0.7),
}


@pytest.fixture
def params(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path / "params.yaml"


def applied(name: str, params: Path) -> str:
    presets.apply(name, ROOT / "presets", params)
    return params.read_text()


def own(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / f"presets/{name}.yaml").read_text())
    return content


def preset(folder: Path, text: str) -> Path:
    (folder / "presets").mkdir()
    (folder / "presets/mine.yaml").write_text(text)
    return folder / "presets"


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_that_were_measured(params: Path, name: str) -> None:
    applied(name, params)
    p = config.load(params)
    assert p.preset == name
    assert FROZEN[name] == (
        p.method, p.model.backbone, p.data.image_size, p.pretrain.epochs, p.pretrain.batch_size,
        p.pretrain.warmup_epochs, p.finetune.epochs, p.finetune.backbone_lr, p.explain.perturbed, p.split.train,
    )  # fmt: skip
    assert p.finetune == p.supervised


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each preset makes of the project's own parameters."""
    path = tmp_path_factory.mktemp("alone") / "params.yaml"
    texts = {}
    for name in NAMES:
        shutil.copy(ROOT / "params.yaml", path)
        texts[name] = applied(name, path)
    return texts


@pytest.mark.parametrize(("first", "second"), list(product(NAMES, NAMES)))
def test_no_earlier_preset_shows_through(alone: dict[str, str], params: Path, first: str, second: str) -> None:
    params.write_text(alone[first])
    assert applied(second, params) == alone[second]


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_states_only_what_it_changes(name: str) -> None:
    defaults = dict(config.flatten(config.Params().model_dump(exclude={"methods"})))
    changes = {key: value for key, value in own(name).items() if key != "methods"}
    assert [key for key, value in config.flatten(changes) if defaults[key] == value] == []
    blocks = config.method_blocks()
    assert [method for method, block in own(name).get("methods", {}).items() if blocks[method] == block] == []


@pytest.mark.parametrize("name", NAMES)
def test_what_a_block_of_a_method_leaves_out_is_the_papers_value(params: Path, name: str) -> None:
    applied(name, params)
    found = config.load(params).methods
    assert set(found) == set(config.method_names())
    assert found == config.method_blocks() | own(name).get("methods", {})
    for method, block in found.items():
        settings, paper = (import_module(f"tumorxai.methods.{method}").Config(**given) for given in (block, {}))
        assert [key for key in type(settings).model_fields.keys() - block.keys()
                if getattr(settings, key) != getattr(paper, key)] == []  # fmt: skip


def test_a_method_without_a_block_has_an_empty_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "blocks.yaml").write_text("simclr: {hidden: 32}\n")
    monkeypatch.setattr(config, "BLOCKS", tmp_path / "blocks.yaml")
    assert config.method_blocks()["simclr"] == {"hidden": 32}
    assert config.method_blocks()["byol"] == {}


def test_the_demo_preset_is_what_a_fresh_clone_runs(params: Path) -> None:
    before = params.read_text()
    assert applied("demo", params) == before


@pytest.mark.parametrize("name", NAMES)
def test_comments_stay(alone: dict[str, str], name: str) -> None:
    """All but those at keys of a method that the preset's own block has not."""
    before = presets.comments((ROOT / "params.yaml").read_text())
    after = presets.comments(alone[name])
    kept = {
        place: comment
        for place, comment in before.items()
        if place[0] != "methods" or len(place) < 3 or place[1] not in own(name).get("methods", {})
    }
    assert len(kept) > 20
    assert {place: after.get(place) for place in kept} == kept


def test_comments_of_a_users_own_stay_wherever_they_stand(params: Path) -> None:
    text = params.read_text()
    text = text.replace("seed: 0\n", "seed: 0  # lucky\n", 1)
    text = text.replace("  sources: [phantom]  ", "  # above\n  sources:\n    - phantom # entry\n", 1)
    text = text.replace("  url: ''", "  url: 'http://localhost:1/#a' # beside", 1)
    text = text.replace("  epochs: 30", "    # turned in\n\n  epochs: 30", 1)
    text = text.replace("patients: 320, slices: 2,", "patients: 320, # many\n    slices: 2,", 1)
    params.write_text(text + "# the end\n")
    after = applied("sartaj", params)
    said = presets.comments(after)
    assert said[("seed",)].beside == "# lucky"
    assert "# above" in said[("data", "sources")].above
    assert "# entry" in said[("data", "sources")].above
    assert said[("search", "url")].beside.startswith("# beside")
    assert said[("pretrain", "epochs")].above == ["# turned in"]
    assert "# many" in after
    assert said[()].above == ["# the end"]
    assert applied("sartaj", params) == after
    assert config.load(params).data.phantom.patients == 240


def test_what_no_preset_knows_is_removed(params: Path) -> None:
    content = yaml.safe_load(params.read_text())
    content["pretrain"]["epoch"] = 3
    content["methods"]["simclr"]["heat"] = 1
    content["old"] = {"block": 1}
    params.write_text(yaml.safe_dump(content))
    applied("demo", params)
    assert yaml.safe_load(params.read_text()) == yaml.safe_load((ROOT / "params.yaml").read_text())


def test_lost_parameters_are_written_anew(params: Path) -> None:
    params.unlink()
    applied("demo", params)
    assert config.load(params) == config.load(ROOT / "params.yaml")


def test_parameters_that_are_no_yaml_are_left_as_they_are(params: Path) -> None:
    params.write_text("seed: [0  # mine\n")
    with pytest.raises(UserError, match=r"params\.yaml, which is no valid YAML.*remove it"):
        applied("demo", params)
    assert params.read_text() == "seed: [0  # mine\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pretrain: {epoch: 3}", ["mine.yaml", "pretrain.epoch: unknown parameter"]),
        ("data: {phantom: {patient: 3}}", ["data.phantom.patient: unknown parameter"]),
        ("pretraining: {epochs: 3}", ["pretraining: unknown parameter"]),
        ("pretrain: {epochs: 0}", ["pretrain.epochs", "got 0"]),
        ("pretrain:", ["pretrain: got None"]),
        ("methods: {simclear: {}}", ["got a block methods.simclear", "simclr"]),
        ("methods: {simclr: 3}", ["methods.simclr: got 3"]),
        ("preset: yours", ["'yours'", "'mine'", "remove the line"]),
        ("[seed]", ["expected a mapping"]),
        ("seed: [", ["not valid YAML"]),
    ],
)
def test_wrong_presets_are_refused_and_change_nothing(params: Path, text: str, words: list[str]) -> None:
    before = params.read_bytes()
    with pytest.raises(UserError) as caught:
        presets.apply("mine", preset(params.parent, text), params)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert params.read_bytes() == before


def test_a_preset_may_be_a_full_copy_or_change_nothing(params: Path) -> None:
    folder = preset(params.parent, params.read_text().replace("preset: demo", "preset: mine"))
    presets.apply("mine", folder, params)
    assert config.load(params) == config.load(ROOT / "params.yaml").model_copy(update={"preset": "mine"})
    (folder / "mine.yaml").write_text("# Mine. As the defaults.\n")
    presets.apply("mine", folder, params)
    assert config.load(params).pretrain == config.Pretrain()
    assert presets.described(folder) == {"mine": "Mine"}


def test_lists_that_are_long_stand_below_each_other(params: Path) -> None:
    text = applied("external", params)
    assert "\n    - cheng/figshare-1512427\n" in text
    assert max(len(line.split("#")[0]) for line in text.splitlines()) <= presets.WIDTH


def test_an_unknown_preset_changes_nothing(params: Path) -> None:
    before = params.read_bytes()
    with pytest.raises(UserError, match=r"'demmo'; expected one of .*demo"):
        presets.apply("demmo", ROOT / "presets", params)
    assert params.read_bytes() == before


def test_presets_are_described_by_what_stands_on_top_of_them() -> None:
    found = presets.described(ROOT / "presets")
    assert set(found) == set(NAMES)
    assert found["demo"].startswith("The default")
    assert found["dinov2_search"].endswith("supervised training")
    assert all(10 < len(text) < 250 and "\n" not in text and "#" not in text for text in found.values()), found
