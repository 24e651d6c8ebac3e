"""The leaderboard: like is compared with like, and the tests say what they should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tumorxai import compare
from tumorxai.errors import UserError
from tumorxai.evaluate.predictions import IMAGE, Predictions
from tumorxai.files import write_text

N, K = 400, 3
CLASSES = ("a", "b", "c")


def predictions(accuracy: float, seed: int, images: int = N) -> Predictions:
    """A classifier of the given accuracy on one and the same test side of twice as many images as clusters."""
    table = pd.DataFrame(dict.fromkeys(IMAGE, ""), index=range(images))
    table = table.assign(
        path=[f"{i}.png" for i in range(images)], source="s", side="test", cluster=np.arange(images) // 2
    )
    truth = np.arange(images) // 2 % K
    generator = np.random.default_rng(seed)
    said = np.where(generator.random(images) < accuracy, truth, (truth + 1) % K)
    table["label"] = np.array(CLASSES)[truth]
    return Predictions(table, CLASSES, truth, 0.7 * np.eye(K)[said] + 0.1)


def entrant(accuracy: float, draw: int, protocol: str = "linear", **params: Any) -> compare.Entrant:
    given = {"method": "simclr", "seed": "0"} | {key: str(value) for key, value in params.items()}
    return compare.Entrant(protocol, (f"e{draw}",), given, predictions(accuracy, draw))


def test_the_better_comes_first_and_only_clear_differences_part_them() -> None:
    entrants = compare.named(
        [
            entrant(0.6, 0, method="byol"),
            entrant(0.9, 1),
            entrant(0.88, 2, protocol="finetune"),
            entrant(0.58, 3, method="dino"),
        ]
    )
    assert [e.model for e in entrants] == [
        "linear probe, method=byol",
        "linear probe, method=simclr",
        "fine-tuned",
        "linear probe, method=dino",
    ]
    side = compare.judge("x", entrants)
    accuracies = [own["accuracy"][0] for own in side.scores]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len(side.pairs) == 6
    assert (side.pairs["holm"] >= side.pairs["mcnemar"]).all()
    assert compare.cliques(side) == [(0, 1), (2, 3)]
    assert side.ranks[0, 0] == 1
    np.testing.assert_allclose(side.ranks.sum(axis=0), 10)
    board = compare.rows([side])
    assert list(board["rank"]) == [1, 2, 3, 4]
    assert (board["rank_low"] <= board["rank"]).all()
    assert (board["accuracy_low"] < board["accuracy"]).all()
    assert set(board["clusters"]) == {200}


def test_equal_classifiers_share_one_bar() -> None:
    side = compare.judge("x", [entrant(0.8, seed, method=f"m{seed}") for seed in range(4)])
    assert compare.cliques(side) == [(0, 3)]


def test_the_test_side_is_known_by_its_images_labels_and_clusters() -> None:
    one = entrant(0.8, 0)
    assert compare.test_side(one) == compare.test_side(entrant(0.5, 1))

    def changed(**columns: Any) -> str:
        own = one.test
        other = Predictions(own.table.assign(**columns), own.classes, own.truth, own.probabilities)
        return compare.test_side(compare.Entrant("linear", ("e",), {}, other))

    assert changed(cluster=np.arange(N) // 2 + 7) == compare.test_side(one)  # only another numbering
    assert changed(cluster=np.arange(N)) != compare.test_side(one)
    assert changed(label=np.roll(one.test.table["label"], 1)) != compare.test_side(one)
    assert changed(source="other") != compare.test_side(one)


def test_seeds_are_summed_up_and_not_tested() -> None:
    one = [entrant(accuracy, seed, seed=seed) for seed, accuracy in enumerate((0.7, 0.8))] + [
        entrant(0.6, 9, method="byol")
    ]
    sides = [compare.judge(str(i), [own]) for i, own in enumerate(compare.named(one))]
    found = compare.over_seeds(sides)
    assert found["model"].tolist() == ["linear probe, method=simclr"]
    row = found.iloc[0]
    values = [side.scores[0]["accuracy"][0] for side in sides[:2]]
    assert row["seeds"] == 2
    assert row["accuracy"] == pytest.approx(np.mean(values), abs=1e-6)
    assert row["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    text = compare.markdown(compare.rows(sides), sides, found, ["old: nothing"])
    assert "## Over seeds" in text
    assert "- old: nothing" in text
    assert compare.over_seeds(sides[:1]).empty


MAKE = """
import os, random
p = dict(line.split(": ") for line in open("params.yaml").read().splitlines())
os.makedirs("models", exist_ok=True)
for protocol, quality, seed in (("linear", float(p["quality"]), int(p["seed"])), ("majority", 0.33, 9)):
    rng = random.Random(seed)
    with open(f"models/predictions_{protocol}.csv", "w") as out:
        print("image_id,source,path,group,cluster,fold,side,sequence,group_label,label,predicted,p_a,p_b,p_c", file=out)
        for i in range(400):
            truth = i // 2 % 3
            said = truth if rng.random() < quality else (truth + 1) % 3
            chances = [0.8 if k == said else 0.1 for k in range(3)]
            print(f"{i},s,{i}.png,{i},{i // 2},,test,,,{'abc'[truth]},{'abc'[said]}", *chances, sep=",", file=out)
"""
PIPELINE = """
stages:
  all:
    cmd: python make.py
    params: [seed, quality, method]
    outs: [models/predictions_linear.csv, models/predictions_majority.csv]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC project with a commit, a later commit and three experiments on it."""
    folder = tmp_path_factory.mktemp("compared")
    write_text(folder / "make.py", MAKE)
    write_text(folder / "dvc.yaml", PIPELINE)
    write_text(folder / "params.yaml", "seed: 0\nquality: 0.7\nmethod: simclr\npreset: demo\n")
    write_text(folder / ".gitignore", "/models\n")

    def do(*command: str) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(command, cwd=folder, check=True, env={**os.environ, "PATH": path}, capture_output=True)

    for command in ("init -q", "config user.email a@b.c", "config user.name a"):
        do("git", *command.split())
    dvc = (sys.executable, "-m", "dvc")
    do(*dvc, "init", "-q")
    do("git", "add", "-A")
    do("git", "commit", "-qm", "nothing run")
    do(*dvc, "repro", "-q")
    do("git", "add", "-A")
    do("git", "commit", "-qm", "first")
    for number, (quality, method) in enumerate(((0.9, "byol"), (0.89, "dino"))):
        settings = ["-S", f"quality={quality}", "-S", f"method={method}", "-S", f"seed={number + 1}"]
        do(*dvc, "exp", "run", "-q", "-n", method, *settings)
    return folder


def test_experiments_and_commits_are_compared(project: Path) -> None:
    board = compare.write(project, -1, ["linear", "majority"])
    assert len(set(board["test_side"])) == 1
    assert len(board) == 4  # the majority class is the same everywhere, and stands there once
    linear = board[board["protocol"] == "linear"]
    assert linear["accuracy"].is_monotonic_decreasing
    assert linear["experiments"].iloc[-1].split()[0] not in ("byol", "dino")
    assert set(" ".join(linear["experiments"].iloc[:2]).split()) >= {"byol", "dino"}
    majority = board[board["protocol"] == "majority"].iloc[0]
    assert majority["model"] == "majority class"
    assert {"byol", "dino"} <= set(majority["experiments"].split())
    pairs = pd.read_csv(project / "metrics" / "leaderboard_pairs.csv")
    assert len(pairs) == 6
    text = (project / "metrics" / "leaderboard.md").read_text()
    assert "method=byol" in text
    assert "no readable predictions of linear, majority" in text  # the commit before the first run
    for name in ("scores", "ranks"):
        assert (project / "plots" / "leaderboard" / f"{name}.png").stat().st_size < 300_000
    again = compare.write(project, -1, ["linear", "majority"])
    pd.testing.assert_frame_equal(board, again)


def test_predictions_that_left_the_cache_are_named(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no kept predictions.*dvc repro"):
        compare.write(project, -1, ["supervised"])


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a DVC project"):
        compare.write(tmp_path, 1, ["linear"])


def test_a_method_that_was_not_run_tells_no_experiments_apart() -> None:
    tree = {
        "method": "byol",
        "methods": {"byol": {"momentum": 0.9}, "byol_2": {"x": 1}, "pretrained": {"weights": "hub"}},
    }
    assert compare.relevant(compare.flatten(tree)) == {"method": "byol", "methods.byol.momentum": "0.9"}
