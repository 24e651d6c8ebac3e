"""Many runs at once, on a project whose stages take no time but whose DVC is the real one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.test_pipeline import dvc, environment, ran
from tests.tools.offline.folders import ROOT
from tumorxai.cli import app
from tumorxai.files import read_json
from tumorxai.tools import papers
from tumorxai.tools.offline import runner, sweep

PIPELINE = """
stages:
  audit:
    cmd: python stages/audit.py
    params: [split.protocol]
    deps: [source.txt]
    outs: [data/audited.json]
  pretrain:
    cmd: python stages/pretrain.py
    params: [method, seed]
    deps: [data/audited.json]
    outs: [models/encoder.txt, plots/empty]
    metrics: [metrics/pretrain.json: {cache: false}]
"""
AUDIT = """
import json, pathlib
pathlib.Path("data").mkdir(exist_ok=True)
pathlib.Path("data/audited.json").write_text(json.dumps(pathlib.Path("source.txt").read_text()))
"""
PRETRAIN = """
import json, pathlib, re, sys
text = pathlib.Path("params.yaml").read_text()
method, seed = (re.search(rf"^{key}: (\\w+)", text, re.MULTILINE)[1] for key in ("method", "seed"))
print("training", method, seed)
if pathlib.Path("UNLUCKY").exists() and seed == "1":
    sys.exit("error: no luck")
for name in ("models", "plots/empty", "metrics"):
    pathlib.Path(name).mkdir(parents=True, exist_ok=True)
pathlib.Path("models/encoder.txt").write_text(method + seed + pathlib.Path("data/audited.json").read_text())
pathlib.Path("metrics/pretrain.json").write_text(json.dumps({"seed": int(seed)}))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / "stages").mkdir(parents=True)
    (folder / "presets").mkdir()
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "stages/audit.py").write_text(AUDIT)
    (folder / "stages/pretrain.py").write_text(PRETRAIN.replace("UNLUCKY", str(tmp_path / "unlucky")))
    (folder / "source.txt").write_text("data")
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (folder / ".gitignore").write_text("/data/\n/models/\n/plots/\n/.tumorxai/\n")
    for command in ("git init -q", f"{sys.executable} -m dvc init -q", "git config user.email a@b.c",
                    "git config user.name a", "git add -A", "git commit -qm start"):  # fmt: skip
        subprocess.run(command.split(), cwd=folder, check=True)
    for name, value in environment(folder).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(runner, "SURROUNDINGS", "print('{}')")
    return folder


def call(project: Path, *settings: str) -> Any:
    asked = ["sweep", "--root", str(project), "--stage", "pretrain", "--side-by-side", "2", "--json"]
    return CliRunner().invoke(app, [*asked, *(part for one in settings for part in ("-S", one))])


@pytest.mark.slow
def test_one_that_fails_stops_no_other_and_the_cache_has_the_rest(project: Path) -> None:
    unlucky = project.parent / "unlucky"
    unlucky.touch()
    done = call(project, "seed=0,1,2")
    assert done.exit_code == 1
    assert "1: pretrain failed" in done.stderr
    said = json.loads(done.stdout)
    assert said["runs"]["done"] == ["0", "2"]
    assert said["brought"]["taken"] == {"0": ["pretrain"], "2": ["pretrain"]}
    assert said["brought"]["here"] == "0"
    assert "no luck" in next(project.glob(".tumorxai/sweep/*/result/1/log/pretrain.txt")).read_text()
    assert (project / "models/encoder.txt").read_text().endswith('0"data"')
    assert (project / "plots/empty").is_dir()
    assert not list(project.glob(".tumorxai/side-*"))

    # What dvc.lock says is as if DVC had run it, and other settings come out of the run cache.
    assert ran(dvc(project, "repro")) == []
    assert ran(dvc(project, "exp", "run", "-S", "seed=2")) == []
    assert read_json(project / "metrics/pretrain.json") == {"seed": 2}
    assert ran(dvc(project, "exp", "run", "-S", "seed=3")) == ["pretrain"]

    unlucky.unlink()
    subprocess.run(["git", "checkout", "-q", "params.yaml"], cwd=project, check=True)
    done = call(project, "seed=0,1,2")
    assert done.exit_code == 0, done.output
    assert "2: pretrain …" not in done.stderr  # what is done is not run again
    assert ran(dvc(project, "exp", "run", "-S", "seed=1")) == []


@pytest.mark.slow
def test_papers_train_side_by_side_first(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a paper's runner then does one after the other, it finds in the cache."""
    (project.parent / "unlucky").touch()
    (project / "presets/own.yaml").write_text("method: simclr\n")
    (project / "papers").mkdir()
    runs = {f"r{seed}": {"set": [f"seed={seed}"]} for seed in (0, 1)}
    described = {"title": "T", "preset": "own", "stages": ["pretrain"], "compared": "linear", "note": "", "runs": runs}
    (project / "papers/one.yaml").write_text(json.dumps(described))
    trained = []

    def rerun(root: Path, name: str, described: dict[str, Any], settings: list[str]) -> dict[str, Any]:
        trained.append((name, settings))
        return {"status": "pending"}  # what it collects are scores, which this project has none of

    monkeypatch.setattr(papers, "rerun", rerun)
    monkeypatch.setattr(papers, "headline", lambda _: None)
    seen = []
    real = sweep.sweep
    monkeypatch.setattr(sweep, "sweep", lambda *given: seen.append(real(*given)) or seen[-1])
    with pytest.raises(papers.UserError, match="r1 of one failed"):
        papers.run_paper(project, "one", side_by_side=2)
    ((outcome, brought),) = seen
    assert (outcome.done, outcome.failed) == (["r0"], {"r1": "pretrain"})
    assert brought.taken == {"r0": ["pretrain"]}
    assert trained == [("one-r0", ["seed=0"])]
    assert read_json(project / "results/one.json")["runs"]["r1"] == {"status": "failed"}


def test_mistakes_are_one_message(tmp_path: Path) -> None:
    for asked, words in (
        (["bring-back", str(tmp_path)], "expected the result folder of a runner"),
        (["sweep", "-S", "nothing", "--root", str(tmp_path)], "expected KEY=VALUE"),
        (["sweep", "--root", str(tmp_path)], "without dvc.yaml"),
    ):
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == 1
        assert words in done.stderr
        assert "Traceback" not in done.output
