"""Runs on real archives whose comparison is the point, one command for each question.

    python benchmarks/experiments.py protocols   # one archive, split without copies, officially and as the papers did
    python benchmarks/experiments.py external    # trained on two archives, tested on a third, and the other way round
    python benchmarks/experiments.py labels      # self-supervised against supervised over fractions of the labels

Run it in a clean clone with TUMORXAI_MIRROR set (or a Kaggle key for what is on Kaggle). It makes the preset the
current experiment, runs each variation with `dvc exp run`, and writes the leaderboard; an interrupted run goes on where
it was. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from tumorxai.base.protocols import PROTOCOLS
from tumorxai.errors import run
from tumorxai.run import compare
from tumorxai.tools import papers, presets

TARGETS = ("audit", "scores")  # no explanations, search or report
SARTAJ = "sartajbhuvaji/brain-tumor-classification-mri"
SHREYAG = "shreyag1103/brain-mri-scans-for-brain-tumor-classification"
QUESTIONS: dict[str, tuple[str, dict[str, list[str]]]] = {
    "protocols": (
        "sartaj",
        {
            f"sartaj-{name}": [f"split.protocol={name}", "labels.fractions=[]"]
            for name in ("patients", "grouped", "official", "random")
        },
    ),
    "external": (
        "external",
        {"to-cheng": [], "from-cheng": [f"split.external=[{SARTAJ},{SHREYAG}]"]},
    ),
    "labels": ("sartaj", {"sartaj-labels": ["labels.fractions=[0.01,0.05,0.1,0.25]", "labels.draws=3"]}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("--set", nargs="*", default=[], help="more settings for all runs, as `pretrain.epochs=1`")
    given = parser.parse_args()
    preset, runs = QUESTIONS[given.question]
    presets.apply(preset)
    for name, settings in runs.items():
        papers.experiment(Path(), name, [*settings, *given.set], TARGETS)
        split = json.loads(Path("details/split.json").read_text())
        print(f"{name}: {split['external_overlaps']} overlapping images dropped from training")
    board = compare.write(Path(), 1, list(PROTOCOLS))
    own = board[board["experiments"].str.split().map(lambda names: bool(set(names) & set(runs)))]
    with pd.option_context("display.width", 200, "display.max_columns", 20):
        print(
            own[
                [
                    "experiments",
                    "model",
                    "test_images",
                    "accuracy",
                    "accuracy_low",
                    "accuracy_high",
                    "balanced_accuracy",
                ]
            ]
        )
    scores = [
        {
            key: row[key]
            for key in ("experiments", "protocol", "test_images", "accuracy", "accuracy_low", "accuracy_high")
        }
        for row in own.to_dict("records")
    ]
    print(json.dumps({"question": given.question, "scores": scores}))


if __name__ == "__main__":
    run(main)
