"""What was run is read off the lock, and short names say what sets runs apart."""

from __future__ import annotations

import json

import pytest

from tumorxai.errors import UserError
from tumorxai.inputs.identity import tree_digest
from tumorxai.run.compare.lock import Lock, as_text
from tumorxai.run.compare.names import labels, short_keys


def test_names_are_short_and_differ() -> None:
    def name(*settings: dict[str, str], without: tuple[str, ...] = ()) -> list[str]:
        return labels(settings, [(f"e{i}",) for i in range(len(settings))], without)

    base = {"method": "simclr", "seed": "0", "preset": "x", "methods.simclr.temperature": "0.5"}
    assert name(base) == [""]
    assert name(base, base | {"preset": "y"}) == ["(e0)", "(e1)"]  # nothing that was run tells them apart
    assert name(base, base | {"methods.simclr.temperature": "0.1"}) == ["temperature=0.5", "temperature=0.1"]
    assert name(base, {"method": "byol", "seed": "1"}) == ["SimCLR, seed 0", "BYOL, seed 1"]
    assert name(base, {"method": "byol", "seed": "1"}, without=("seed",)) == ["SimCLR", "BYOL"]
    assert name({"split.protocol": "random"}, {"split.protocol": "grouped"}) == ["random split", "grouped split"]
    sources = ["['owner/brain-mri', {'path': '/far/away/own.zip'}]", "['phantom']", "['other/phantom']"]
    assert name(*[{"data.sources": value} for value in sources[:2]]) == ["brain-mri + own", "phantom"]
    assert name(*[{"data.sources": value} for value in sources[1:]]) == sources[1:]  # alike when short
    many = [{f"p.{key}": str(i // 2**place % 2) for place, key in enumerate("abcd")} for i in range(16)]
    found = name(*many)
    assert found[0] == "a=0, b=0, c=0, +1 more (e0)"
    assert len(set(found)) == 16
    tangled = name(*[{f"k{i}": str(j) for i in range(5)} for j in range(2)])
    assert tangled == ["k0=0, k1=0, k2=0, +2 more", "k0=1, k1=1, k2=1, +2 more"]


def test_the_three_that_tell_most_apart_are_shown() -> None:
    rows = [{"a": str(i // 4), "b": "0" if i else "1", "c": str(i), "d": "1" if i else "0"} for i in range(8)]
    names = labels(rows, [(str(i),) for i in range(8)])
    assert [name.split(", ")[2] for name in names] == [f"c={i}" for i in range(8)]


def test_ends_of_keys_that_two_share_are_longer() -> None:
    keys = ["pretrain.epochs", "finetune.epochs", "linear.folds", "data.phantom.seed", "methods.a.t", "methods.b.t"]
    assert short_keys(keys, ["seed"]) == {
        "pretrain.epochs": "pretrain.epochs",
        "finetune.epochs": "finetune.epochs",
        "linear.folds": "folds",
        "data.phantom.seed": "phantom.seed",  # `seed` is the run's own
        "methods.a.t": "a.t",
        "methods.b.t": "b.t",
    }


def lock(split: str, linear_read: str = "s1", code: str = "c1", encoder_read: str = "s1") -> Lock:
    """A pipeline of a directory of inputs, a split, an encoder and a probe, of which ``split`` has run last."""

    def entry(path: str, md5: str) -> dict[str, str]:
        return {"path": path, "hash": "md5", "md5": md5}

    stages = {
        "gone": {"outs": [entry("models/p.csv", "old")]},  # renamed since
        "inputs": {"outs": [entry("data/inputs", "all.dir")]},
        "split": {"outs": [entry("data/split.csv", split)], "params": {"params.yaml": {"split": {"train": True}}}},
        "pretrain": {
            "deps": [entry("data/split.csv", encoder_read)],
            "outs": [entry("models/encoder", "e1")],
            "params": {"params.yaml": {"seed": 0, "methods.x": {"t": 1}}},
        },
        "embed": {"deps": [entry("models/encoder", "e1")], "outs": [entry("models/embeddings", "m1")]},
        "linear": {
            "deps": [
                entry("models/embeddings", "m1"),
                entry("data/split.csv", linear_read),
                entry("data/inputs/code/linear.json", code),
            ],
            "outs": [entry("models/p.csv", "p1")],
            "params": {"params.yaml": {"linear.bonus": None, "seed": 5}},
        },
    }
    pipeline = json.dumps({"stages": dict.fromkeys(list(stages)[1:])})
    folder = {"code/linear.json": "c1", "code/other.json": "c2"}
    return Lock.parse(json.dumps({"schema": "2.0", "stages": stages}), pipeline, {"all.dir": folder}.get)


def changed(own: Lock) -> dict[str, tuple[str, ...]]:
    return {name: own.changed(stage) for name, stage in own.stages.items() if own.changed(stage)}


def test_what_did_not_run_again_is_told_by_the_hashes_of_the_lock() -> None:
    assert changed(lock("s1")) == {}
    every = ("pretrain", "embed", "linear")
    assert changed(lock("s2")) == dict.fromkeys(every, ("split",))  # `embed` only because `pretrain` did not
    assert changed(lock("s2", encoder_read="s2")) == {"linear": ("split",)}
    assert changed(lock("s1", code="c9")) == {"linear": ("inputs",)}  # a file in a folder
    unlisted = lock("s1", code="c9")
    unlisted._listing = {}.get
    assert changed(unlisted) == {}  # a folder whose list is lost tells nothing


def test_a_folder_within_a_folder_is_compared_by_its_own_list() -> None:
    own = lock("s1")
    inner = tree_digest({"linear.json": "c1", "other.json": "c2"})
    assert own.hash("data/inputs/code") == ("md5", inner)
    assert own.hash("data/inputs/nothing") == ("md5", "")
    assert own.hash("elsewhere") is None


def test_parameters_are_those_of_the_stages_that_led_to_a_file() -> None:
    own = lock("s1")
    stage = own.producer("models/p.csv")
    assert stage is not None
    assert stage.name == "linear"
    assert own.params(stage) == {
        "linear.bonus": "None",
        "seed": "5",
        "pretrain:seed": "0",  # someone ran one stage alone
        "methods.x.t": "1",
        "split.train": "true",
    }
    assert own.params(own.stages["embed"])["seed"] == "0"


@pytest.mark.parametrize("text", ["{{{", "", "- a", "stages: 3", "stages: {a: {outs: [{md5: x}]}}"])
def test_a_lock_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"dvc\.lock.*expected the stages"):
        Lock.parse(text, None, {}.get)


def test_flat_parameters() -> None:
    assert as_text({"a": {"b": {"c": 1}, "d": [1]}, "e": True, "f": {}}) == {
        "a.b.c": "1",
        "a.d": "[1]",
        "e": "true",
        "f": "{}",
    }
