"""The papers' lists are valid, and their tables say what the metrics say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.files import sha256, write_csv, write_json
from tumorxai.tools import papers, presets

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "papers").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_run_of_a_paper_is_a_valid_experiment(name: str, tmp_path: Path) -> None:
    described = papers.describe(name, ROOT / "papers")
    for run in described["runs"].values():
        path = tmp_path / "params.yaml"
        path.write_bytes((ROOT / "params.yaml").read_bytes())
        presets.apply(described["preset"], ROOT / "presets", path)
        content = yaml.safe_load(path.read_text())
        for setting in [*described.get("set", []), *run["set"]]:
            key, value = setting.split("=", 1)
            *blocks, last = key.removeprefix("+").split(".")
            place = content
            for block in blocks:
                place = place[block]
            assert (last in place) != key.startswith("+"), key
            place[last] = yaml.safe_load(value)
        path.write_text(yaml.safe_dump(content))
        config.load(path)


def test_every_leaky_run_has_its_twin_without_copies() -> None:
    for name in NAMES:
        runs = set(papers.describe(name, ROOT / "papers")["runs"])
        assert {run.replace("-random", "-grouped") for run in runs if run.endswith("-random")} <= runs


def write(root: Path, name: str, content: dict[str, Any]) -> None:
    (root / "details").mkdir(exist_ok=True)
    (root / "details" / f"{name}.json").write_text(json.dumps(content))


def test_what_a_run_left_is_collected(tmp_path: Path) -> None:
    """Four test images in three groups, of which three are right; a training image does not count."""
    rows = [
        (0, "a", "a", "test"),
        (0, "a", "a", "test"),
        (1, "b", "b", "test"),
        (2, "b", "a", "test"),
        (3, "a", "b", "train"),
        (4, "a", "a", "validation"),
        (5, "b", "a", "validation"),
    ]
    table = pd.DataFrame(
        {
            "image_id": range(7), "source": "s", "path": list("tuvwxyz"), "group": [row[0] for row in rows],
            "cluster": [row[0] for row in rows], "fold": "", "side": [row[3] for row in rows], "sequence": "",
            "group_label": "", "label": [row[1] for row in rows], "predicted": [row[2] for row in rows],
            "p_a": [float(row[2] == "a") for row in rows], "p_b": [float(row[2] == "b") for row in rows],
        }
    )  # fmt: skip
    (tmp_path / "models").mkdir()
    for name in ("linear", "knn"):
        path = tmp_path / f"models/predictions_{name}.csv"
        write_csv(path, table)
        write_json(path.with_suffix(".json"), {"labelled": 1, "chosen": {}, "sha256": sha256(path)})
    sides = {side: {"images": count} for side, count in (("train", 80), ("validation", 0), ("test", 308))}
    write(tmp_path, "split", {"sides": sides})
    write(tmp_path, "leakage", {"in_force": {"crossings": {"train_test": {"copies": 7}}}})
    write(tmp_path, "pretrain", {"epochs": 3, "val_p_acc": 0.5, "p_acc": 0.9})
    watched = pd.DataFrame(
        {"image_id": range(8), "cluster": [0, 0, 1, 1, 2, 2, 3, 3], "right": [1, 1, 1, 1, 0, 0, 0, 0]}
    )
    watched.to_csv(tmp_path / "models/online_probe.csv", index=False)
    found = papers.collect(tmp_path, ["audit", "linear"], 0)
    assert set(found["scores"]) == {"linear", "val_p_acc"}  # no kNN: its stage was not run
    assert found["scores"]["linear"]["value"] == 0.75
    assert 0 < found["scores"]["linear"]["low"] < 0.75
    assert found["scores"]["linear"]["validation"] == 0.5
    watched = found["scores"]["val_p_acc"]
    assert 0 < watched["low"] < watched["value"] == 0.5 < watched["high"] < 1
    assert (found["train_images"], found["test_images"], found["test_copies"], found["epochs"]) == (80, 308, 7, 3)
    some = [{"accuracy": {"value": i / 10, "low": 0.0, "high": 1.0}} for i in range(5)]
    labels = {"finetune": {"1": some[0], "0.1": some[1]}, "supervised": {"1": some[0], "0.1": some[2]}}
    write(tmp_path, "labels", {**labels, "linear": {"1": some[0], "0.1": some[3], "0.5": some[4]}})
    few = papers.collect(tmp_path, ["scores"], 0)["scores"]
    assert {name: few[name]["value"] for name in few if "@" in name} == {
        "linear@0.1": 0.3, "finetune@0.1": 0.1, "supervised@0.1": 0.2,
    }  # fmt: skip
    sides["validation"]["images"] = 10  # val_p_acc is then of that side, and no test score
    write(tmp_path, "split", {"sides": sides})
    assert "val_p_acc" not in papers.collect(tmp_path, ["linear"], 0)["scores"]


def test_the_table_names_what_was_not_run() -> None:
    described = {
        "title": "A paper", "preset": "demo", "note": "Note.",
        "runs": {"a": {"set": [], "claimed": 99.5, "signals": {"c_acc": 99.28}}, "b": {"set": []}, "c": {"set": []}},
    }  # fmt: skip
    done = {
        "status": "done", "command": "dvc exp run", "minutes": 1.0, "hardware": "2 CPU cores", "python": "3.11",
        "versions": {"torch": "2"}, "commit": "abc", "date": "2026-01-01", "test_images": 10, "test_copies": 4,
        "epochs": 5, "signals": {"c_acc": 0.875},
        "settings": ["seed=1"],
        "scores": {"linear": {"value": 0.5, "low": 0.4, "high": 0.6}},
    }  # fmt: skip
    text = papers.table(described, {"a": done, "c": {"status": "failed"}})
    assert "| a | 99.5 | 50.0 [40.0, 60.0] | 87.5 (99.28) | 10 (4) | 5 |" in text
    assert "| b |  | not run | | |" in text
    assert "| c |  | failed | | |" in text
    assert "commit abc, 2026-01-01" in text
    assert "pretrained on" not in text
    brought = {**done, "pretrained": {"device": "NVIDIA H100", "torch": "2.11.0"}}
    assert "pretrained on NVIDIA H100 with torch 2.11.0, 2 CPU cores, Python 3.11" in papers.table(
        described, {"a": brought}
    )
    assert "Chosen" not in text
    assert "in all rows that were run: `seed=1`." in text
    done["scores"]["knn"] = {"value": 0.7, "low": 0.6, "high": 0.8, "validation": 0.65}
    done["scores"]["linear"]["validation"] = 0.75
    done["search"] = {
        name: {"value": value, "low": 0.1, "high": 0.9} for name, value in (("precision", 0.6), ("leaky", 0.7))
    }
    done["scores"]["finetune@0.1"] = {"value": 0.3, "low": 0.2, "high": 0.4}
    assert "| kNN | fine-tuned, 10% of the labels |" in papers.table(described, {"a": done})
    chosen = papers.table({**described, "runs": {"a": {"set": []}}}, {"a": done})
    assert "Chosen by validation accuracy (75.0): `a`, linear, test 50.0 [40.0, 60.0]." in chosen
    assert "| 60.0 [10.0, 90.0] | 70.0 [10.0, 90.0] | 10 (4) | 5 |" in chosen


def test_the_difference_of_two_shares() -> None:
    """Symmetric intervals: half-widths add in squares. A certain subtrahend leaves the other's interval."""
    found = papers.difference({"value": 0.9, "low": 0.87, "high": 0.93}, {"value": 0.8, "low": 0.76, "high": 0.84})
    assert found == {key: pytest.approx(value) for key, value in (("value", 0.1), ("low", 0.05), ("high", 0.15))}
    found = papers.difference({"value": 0.9, "low": 0.7, "high": 0.95}, {"value": 0.5, "low": 0.5, "high": 0.5})
    assert found == {key: pytest.approx(value) for key, value in (("value", 0.4), ("low", 0.2), ("high", 0.45))}


def test_what_a_random_split_adds_is_told_of_runs_of_both_protocols() -> None:
    described = {
        "title": "A",
        "preset": "demo",
        "note": "",
        "runs": {n: {"set": []} for n in ("a-random", "a-grouped")},
    }
    row = {
        "status": "done", "command": "dvc", "minutes": 1.0, "hardware": "CPU", "python": "3.11", "versions": {},
        "commit": "abc", "date": "2026-01-01", "test_images": 10, "test_copies": 4, "epochs": 5,
    }  # fmt: skip
    rows = {
        "a-random": {**row, "scores": {"linear": {"value": 0.9, "low": 0.87, "high": 0.93}}},
        "a-grouped": {**row, "scores": {"linear": {"value": 0.8, "low": 0.76, "high": 0.84}}},
    }
    assert "| a | 10.0 [5.0, 15.0] |" in papers.table(described, rows)
    del rows["a-grouped"]
    assert "Random minus grouped" not in papers.table(described, rows)


def test_an_unknown_paper_or_run_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers/one.yaml").write_text("title: One\npreset: demo\nnote: ''\nruns: {a: {set: []}}\n")
    with pytest.raises(UserError, match=r"'two'; expected one of one"):
        papers.run_paper(tmp_path, "two")
    with pytest.raises(UserError, match=r"run 'b'; expected one of a"):
        papers.run_paper(tmp_path, "one", ["b"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["papers"]


def test_the_readmes_table_is_that_of_the_results(tmp_path: Path) -> None:
    """Both of a made-up paper, and of this repository: nobody writes the README's figures by hand."""
    (tmp_path / "results").mkdir()
    (tmp_path / "docs").mkdir()
    row = {
        "status": "done",
        "test_images": 308,
        "test_copies": 9,
        "compared": "linear",
        "settings": ["pretrain.epochs=4", "seed=1"],
        "scores": {"linear": {"value": 0.5, "low": 0.4, "high": 0.6}},
    }
    runs = {"a-random": {**row, "claimed": 72.4}, "a-grouped": {**row, "test_copies": 0}, "b-random": row}
    (tmp_path / "results/paper.json").write_text(json.dumps({"runs": runs}))
    (tmp_path / "results/other.json").write_text("{}")
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{papers.START}\nold\n{papers.END}\nafter\n")
    papers.headline(tmp_path)
    text = readme.read_text()
    scores = "72.4 | 50.0 [40.0, 60.0] | 50.0 [40.0, 60.0] | 9 of 308, 0 of 308"
    line = f"| [paper: a](results/paper.md) | {scores} | `pretrain.epochs=4` |"
    assert line in text
    assert "old" not in text
    assert "paper: b" not in text  # no twin without copies
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert (tmp_path / "docs/papers.png").stat().st_size > 1000
    readme.write_text("no markers\n")
    with pytest.raises(UserError, match="put them back"):
        papers.headline(tmp_path)

    (tmp_path / "README.md").write_bytes((ROOT / "README.md").read_bytes())
    shutil.copytree(ROOT / "results", tmp_path / "results", dirs_exist_ok=True)
    (tmp_path / "results/paper.json").unlink()
    papers.headline(tmp_path)
    assert readme.read_text() == (ROOT / "README.md").read_text()
