"""The registered test of label efficiency, on five folds whose answers are made up, in a real repository."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks import label_efficiency

from tumorxai.files import read_json, write_csv, write_json

RIGHT = {"finetune": 0.9, "supervised": 0.7, "linear": 0.6, "random_linear": 0.6}
FRACTIONS = ("0.01", "0.05", "0.1", "0.25", "1.0")
ROOT = Path(__file__).resolve().parents[2]


def execute(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folds of 40 images, two of each patient, three draws; one tag for each fold, as an experiment has a name."""
    root = tmp_path_factory.mktemp("runs")
    execute(root, "git", "init", "-q")
    for key, value in (("user.name", "a"), ("user.email", "a@b.c")):
        execute(root, "git", "config", key, value)
    execute(root, sys.executable, "-m", "dvc", "init", "-q")
    (root / "papers").mkdir()
    (root / "papers/label_efficiency.yaml").write_bytes((ROOT / "papers/label_efficiency.yaml").read_bytes())
    rng = np.random.default_rng(0)
    for fold in range(5):
        ids = 40 * fold + np.arange(40)
        label = np.where(ids % 4 < 2, "a", "b")
        for arm, share in RIGHT.items():
            said = {
                f"{fraction}/{draw}": np.where(rng.random(40) < share, label, "c")
                for fraction in FRACTIONS
                for draw in range(3)
            }
            table = pd.DataFrame({
                "source": "s", "path": [f"{i}.png" for i in ids], "label": label, "cluster": ids // 2, **said
            })  # fmt: skip
            write_csv(root / f"models/curve_{arm}.csv", table)
            counts = {fraction: [round(100 * float(fraction))] * 3 for fraction in FRACTIONS}
            write_json(root / f"models/curve_{arm}.json", {"labelled": counts})
        execute(root, "git", "add", "-A")
        execute(root, "git", "commit", "-qm", f"fold {fold}")
        execute(root, "git", "tag", f"label_efficiency-cheng-{fold}")
        if fold < 4:
            execute(root, "git", "tag", f"label_efficiency-sartaj-{fold}")
    return root


def test_what_is_registered_is_tested(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["label_efficiency", "--into", str(tmp_path / "a.json"), "--root", str(runs)])
    label_efficiency.main()
    page = read_json(tmp_path / "a.json")
    assert set(page["tables"]) == {"cheng", "primary", "secondary"}
    ((title, (difference, p)),) = page["tables"]["primary"]["rows"].items()
    assert title == "Cheng, patients apart: pretrained, fine-tuned - supervised from scratch, 10% of the labels"
    assert difference["low"] > 0.05
    assert difference["value"] == pytest.approx(0.2, abs=0.1)
    assert float(p.removeprefix("below ")) < 0.01
    others = page["tables"]["secondary"]["rows"]
    assert len(others) == 2 * 10 - 1 + 2  # both pairs by accuracy and balanced, less the primary; two interactions
    null = [float(p.removeprefix("below ")) for name, (_, p) in others.items() if "linear" in name]
    assert min(null) > 0.05
    assert "`sartaj-0` to `sartaj-4`" in page["remarks"][1]  # a fold is missing
    scores = page["tables"]["cheng"]["rows"]["pretrained, fine-tuned, accuracy"]
    assert [round(own["value"], 1) for own in scores] == [0.9] * 5
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_what_a_bundle_left_says_the_same(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its folder the curves alone have come back."""
    for fold in range(5):
        execute(runs, "git", "worktree", "add", str(tmp_path / f"cheng-{fold}"), f"label_efficiency-cheng-{fold}")
    node = {"device": "a card", "cores": 16, "python": "3.12.3", "torch": "2.11.0"}
    write_json(tmp_path / "summary.json", {"commit": "0" * 12, "node": node})
    pages = []
    for further in ([], ["--result", str(tmp_path)]):
        given = ["label_efficiency", "--into", str(tmp_path / "a.json"), "--root", str(runs), *further]
        monkeypatch.setattr(sys, "argv", given)
        label_efficiency.main()
        pages.append(read_json(tmp_path / "a.json"))
    assert pages[0]["tables"] == pages[1]["tables"]
    assert pages[1]["record"]["hardware"] == "a card, 16 CPU cores"
    assert pages[1]["record"]["commit"] == "0" * 12


def test_an_image_tested_twice_is_refused(runs: Path) -> None:
    execute(runs, "git", "tag", "-f", "label_efficiency-cheng-4", "label_efficiency-cheng-3")
    with pytest.raises(label_efficiency.UserError, match="got 40 images tested in two folds"):
        label_efficiency.pooled(partial(label_efficiency.experiment, runs), "cheng")
