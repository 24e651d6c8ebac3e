"""A small pipeline of the same shape as the real one, whose stages take no time, and experiments with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tumorxai.files import write_text

MAKE = """
import json, os, random, sys
import yaml

stage, p = sys.argv[1], yaml.safe_load(open("params.yaml"))


def put(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w").write(text)


def predict(protocol, quality):
    rows = ["image_id,source,path,group,cluster,fold,side,sequence,group_label,label,predicted,p_a,p_b,p_c"]
    rng = random.Random(f"{protocol} {quality} {p['seed']}")
    for line in open("data/split.csv").read().split():
        i = int(line.split("-")[-1])
        truth = i // 2 % 3
        said = truth if rng.random() < quality else (truth + 1) % 3
        chances = ",".join("0.8" if k == said else "0.1" for k in range(3))
        rows.append(f"{i},s,{line}.png,{i},{i // 2},,test,,,{'abc'[truth]},{'abc'[said]},{chances}")
    put(f"models/predictions_{protocol}.csv", "\\n".join(rows) + "\\n")


if stage == "inputs":
    put("data/inputs/code/linear.json", str(p["code"]))
    put("data/inputs/code/supervised.json", "1")
elif stage == "catalogue":
    put("data/catalogue.csv", "\\n".join(f"{source}-{i}" for source in p["data"]["sources"] for i in range(300)))
elif stage == "split":
    images = open("data/catalogue.csv").read().split()
    skip = 1 if p["split"]["protocol"] == "random" else 0
    folds, fold = p["split"]["folds"], p["split"]["fold"]
    put("data/split.csv", "\\n".join(images[skip:][fold::folds] if folds else images[skip:]))
    put("details/split.json", json.dumps({"usable": len(images) - skip}))
elif stage == "audit":
    put("metrics/leakage.json", json.dumps({"protocol": p["split"]["protocol"]}))
elif stage == "pretrain":
    method = p["method"]
    content = f"{method} {p['methods'][method]} {p['pretrain']} {p['seed']} "
    put("models/encoder", content + open("data/split.csv").read())
    put("plots/pretrain/plots/metrics/loss.tsv", "step\\tloss\\n0\\t2\\n1\\t" + str(len(method) + p["seed"]) + "\\n")
elif stage == "linear":
    encoder = open("models/encoder").read().split(" {")[0]
    predict("linear", {"byol": 0.9, "simclr": 0.7}.get(encoder, 0.5) + p["linear"]["bonus"])
elif stage == "supervised":
    predict("supervised", 0.8)
    put("plots/training/supervised.csv", "epoch,loss\\n1,2\\n2,1\\n")
elif stage == "scores":
    for protocol in ("linear", "supervised"):
        rows = [line.split(",")[9:11] for line in open(f"models/predictions_{protocol}.csv").read().split()[1:]]
        put(f"plots/{protocol}/predictions.csv", "actual,predicted\\n" + "\\n".join(map(",".join, rows)) + "\\n")
        right = sum(a == b for a, b in rows) / len(rows)
        put(f"plots/{protocol}/roc.csv", f"fpr,macro\\n0,0\\n0.5,{right}\\n1,1\\n")
"""
PIPELINE = """
stages:
  inputs:
    cmd: python make.py inputs
    params: [code]
    outs: [data/inputs]
  catalogue:
    cmd: python make.py catalogue
    params: [data.sources]
    outs: [data/catalogue.csv]
  split:
    cmd: python make.py split
    params: [seed, split.protocol, split.folds, split.fold]
    deps: [data/catalogue.csv]
    outs: [data/split.csv, details/split.json]
  audit:
    cmd: python make.py audit
    params: [split.protocol]
    deps: [data/split.csv]
    metrics: [metrics/leakage.json]
  pretrain:
    cmd: python make.py pretrain
    params: [method, "methods.${method}", pretrain, seed]
    deps: [data/split.csv]
    outs: [models/encoder, plots/pretrain]
  linear:
    cmd: python make.py linear
    params: [linear]
    deps: [models/encoder, data/split.csv, data/inputs/code/linear.json]
    outs: [models/predictions_linear.csv]
  supervised:
    cmd: python make.py supervised
    params: [seed, supervised]
    deps: [data/split.csv, data/inputs/code/supervised.json]
    outs: [models/predictions_supervised.csv, plots/training/supervised.csv]
  scores:
    cmd: python make.py scores
    deps: [models/predictions_linear.csv, models/predictions_supervised.csv]
    outs: [plots/linear, plots/supervised]
"""
PLOTS = """
plots:
  - loss:
      x: step
      y: {pretrain/plots/metrics/loss.tsv: loss}
      title: Pretraining loss
      x_label: epoch
  - training loss:
      x: epoch
      y: {training/supervised.csv: loss}
      title: Training loss
  - ROC:
      x: fpr
      y: {supervised/roc.csv: macro, linear/roc.csv: macro}
      title: ROC on the test side
  - confusion:
      template: confusion
      x: actual
      y: {linear/predictions.csv: predicted}
      title: Linear evaluation
"""
PARAMS = """
preset: demo
seed: 0
code: 1
method: simclr
methods:
  simclr: {temperature: 0.5}
  byol: {momentum: 0.9}
data: {sources: [owner/one]}
split: {protocol: grouped, folds: 0, fold: 0}
pretrain: {epochs: 2}
linear: {bonus: 0}
supervised: {epochs: 3}
"""
EXPERIMENTS = {
    "byol": ["-S", "method=byol"],
    "warm": ["-S", "methods.simclr.temperature=0.9", "-S", "linear.bonus=0.1"],
    "seed-one": ["-S", "seed=1"],
    "seed-one-byol": ["-S", "seed=1", "-S", "method=byol"],
    "leaky": ["-S", "split.protocol=random", "audit"],  # nothing but the audit, and what it needs
    "other-data": ["-S", "data.sources=[owner/two]"],
}


def do(folder: Path, *command: str) -> str:
    """Run a command in the project; what it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run(command, cwd=folder, check=True, env=environment, capture_output=True, text=True).stdout


def dvc(folder: Path, *command: str) -> str:
    """Run DVC in the project."""
    return do(folder, sys.executable, "-m", "dvc", *command)


def commit(folder: Path, message: str) -> None:
    """Commit everything."""
    do(folder, "git", "add", "-A")
    do(folder, "git", "commit", "-qm", message)


def start(folder: Path) -> None:
    """A commit before the first run, one after it."""
    write_text(folder / "make.py", MAKE)
    write_text(folder / "dvc.yaml", PIPELINE)
    write_text(folder / "plots/dvc.yaml", PLOTS)
    write_text(folder / "params.yaml", PARAMS)
    write_text(folder / ".gitignore", "/models\n/data\n/details\n/metrics\n/plots/*\n!/plots/dvc.yaml\n/leaderboard\n")
    for command in ("init -q -b main", "config user.email a@b.c", "config user.name a"):
        do(folder, "git", *command.split())
    dvc(folder, "init", "-q")
    dvc(folder, "config", "core.analytics", "false")
    commit(folder, "nothing run")
    dvc(folder, "repro", "-q")
    commit(folder, "first")


def build(folder: Path) -> None:
    """The same, and the EXPERIMENTS."""
    start(folder)
    for name, arguments in EXPERIMENTS.items():
        dvc(folder, "exp", "run", "-q", "-n", name, *arguments)
        do(folder, "git", "checkout", "-q", ".")
        dvc(folder, "checkout", "-q")
