"""Lists of runs without DVC: what is done stays done, one that fails stops no other, and time is kept to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tools.offline.folders import ROOT, content, plan, project
from tumorxai.errors import UserError
from tumorxai.files import read_json, sha256
from tumorxai.tools.offline import runner
from tumorxai.tools.offline.records import identity
from tumorxai.tools.offline.runner import Outcome, Runner

NODE = {"device": "a card", "torch": "2"}
FIRST = """
import json, pathlib, sys
params = json.loads(pathlib.Path("params.yaml").read_text())
print("first of", params)
if params.get("fails"):
    sys.exit("error: no luck")
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out/one.txt").write_text(pathlib.Path("data/in.txt").read_text() * params["times"])
with open("count.txt", "a") as stream:
    stream.write("first\\n")
"""
SECOND = """
import json, pathlib, signal, sys, time
params = json.loads(pathlib.Path("params.yaml").read_text())
kept = pathlib.Path(".tumorxai/checkpoints/step")
step = int(kept.read_text()) if kept.exists() else 0
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
while step < params.get("steps", 0):
    step += 1
    time.sleep(0.05)
    if told:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(str(step))
        sys.exit(f"error: stopped after {step}")
text = pathlib.Path("out/one.txt").read_text()
pathlib.Path("out/two/inner").mkdir(parents=True)
pathlib.Path("out/two/inner/a.txt").write_text(text + "!")
pathlib.Path("metrics").mkdir(exist_ok=True)
pathlib.Path("metrics/two.json").write_text(json.dumps({"length": len(text), "from": step}))
with open("count.txt", "a") as stream:
    stream.write("second\\n")
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose surroundings are told without starting PyTorch."""
    monkeypatch.setattr(runner, "SURROUNDINGS", f"print({json.dumps(NODE)!r})")
    monkeypatch.setattr(runner, "LOOK", 0.01)
    project(tmp_path / "project", {"first": FIRST, "second": SECOND})
    return tmp_path


def started(
    place: Path, runs: dict[str, dict[str, Any]], side_by_side: int = 1, minutes: float | None = None
) -> Outcome:
    planned = plan(place / "files", runs)
    environment = runner.environment(ROOT / "src")
    own = Runner(
        planned, place / "project", place / "files", place / "work", place / "result", environment, side_by_side
    )
    return own.run(minutes)


def test_what_is_done_is_not_run_again_and_one_that_fails_stops_no_other(place: Path) -> None:
    runs = {"a": {"times": 1}, "bad": {"times": 1, "fails": True}, "c": {"times": 2}}
    outcome = started(place, runs, side_by_side=2)
    assert (outcome.done, outcome.left, outcome.failed) == (["a", "c"], {}, {"bad": "first"})
    assert (place / "result/c/out/two/inner/a.txt").read_text() == "33!"
    record = read_json(place / "result/c/stages/second.json")
    assert record["deps"] == {"out/one.txt": sha256(place / "result/c/out/one.txt")}
    assert set(record["outs"]) == {"out/two/inner/a.txt", "metrics/two.json"}
    assert record["folders"] == ["out/two"]
    assert record["node"] == NODE
    assert "stages/second.py" in record["code"]["files"]
    assert "no luck" in (place / "result/bad/log/first.txt").read_text()
    assert "first of" in (place / "result/a/log/first.txt").read_text()
    assert not (place / "result/a/data").exists()  # what runs read does not travel back
    with pytest.raises(UserError, match=r"1 of 3 runs that failed.*bad/log/first\.txt"):
        runner.report(outcome, place / "result")
    assert read_json(place / "result/summary.json")["failed"] == {"bad": "first"}

    again = started(place, runs)
    assert again.done == ["a", "c"]
    assert (place / "work/c/count.txt").read_text() == "first\nsecond\n"

    # A result that was damaged is made again, and so is what came of it, by other bytes or not.
    (place / "result/c/metrics/two.json").write_text("{}")
    started(place, runs)
    assert (place / "work/c/count.txt").read_text() == "first\nsecond\nsecond\n"

    # Another run of the same name is another run; what the work folder held of the one before does not get into it.
    before = content(place / "result/a")
    outcome = started(place, {"a": {"times": 3}})
    assert outcome.done == ["a"]
    assert (place / "work/a/count.txt").read_text() == "first\nsecond\n"
    assert (place / "result/a/out/one.txt").read_text() == "333"
    assert content(place / "result/a")["identity"] != before["identity"]


def test_what_two_runs_have_in_common_is_run_once(place: Path) -> None:
    """As the supervised baseline of several methods: same parameters of its own, same data."""
    planned = plan(place / "files", {"a": {"times": 2}, "b": {"times": 3}, "c": {"times": 2}})
    for run in planned["runs"].values():
        run["values"]["second"] = {}  # it reads none: only what the first stage leaves differs
    own = Runner(
        planned,
        place / "project",
        place / "files",
        place / "work",
        place / "result",
        runner.environment(ROOT / "src"),
        1,
    )
    assert own.run(None).done == ["a", "b", "c"]
    assert (place / "work/b/count.txt").read_text() == "first\nsecond\n"
    assert not (place / "work/c/count.txt").exists()
    assert content(place / "result/c/out") == content(place / "result/a/out")
    assert read_json(place / "result/c/stages/second.json")["as_in"] == "a"
    assert own.run(None).done == ["a", "b", "c"]


def test_a_result_goes_on_where_its_work_folder_was_lost(place: Path) -> None:
    runs = {"a": {"times": 1}}
    started(place, runs)
    (place / "result/a/stages/second.json").unlink()
    for file in sorted((place / "work").rglob("*"), reverse=True):
        file.unlink() if file.is_file() or file.is_symlink() else file.rmdir()
    assert started(place, runs).done == ["a"]
    assert (place / "work/a/count.txt").read_text() == "second\n"


def test_time_is_kept_to_and_a_checkpoint_goes_on(place: Path) -> None:
    """100 steps of 0.05 s do not fit into 2.4 s, of which a tenth is for the checkpoint."""
    runs = {"long": {"times": 1, "steps": 100}, "next": {"times": 1}}
    outcome = started(place, runs, minutes=0.04)
    assert (outcome.done, outcome.failed) == ([], {})
    assert outcome.left["next"] == ["first", "second"]
    runner.report(outcome, place / "result")  # no error: only time was short
    for attempt in range(12):  # on a machine that is busy, a process starts in seconds
        outcome = started(place, runs, minutes=0.08 * 2**attempt)
        if not outcome.left:
            break
    assert outcome.done == ["long", "next"]
    assert read_json(place / "result/long/metrics/two.json")["from"] == 100


def test_what_was_before_the_first_stage_is_a_part_of_the_time(place: Path) -> None:
    """As unpacking a bundle: of 60 minutes that began an hour ago none is left."""
    planned, environment = plan(place / "files", {"a": {"times": 1}}), runner.environment(ROOT / "src")
    own = Runner(planned, place / "project", place / "files", place / "work", place / "result", environment, 1)
    assert own.run(60, time.monotonic() - 3600).left == {"a": ["first", "second"]}
    assert not (place / "result/a/log").exists()


def test_a_stage_that_does_not_stop_is_killed(place: Path) -> None:
    stubborn = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)\n"
    project(place / "project", {"first": stubborn})
    outcome = started(place, {"a": {}}, minutes=0.02)
    assert outcome.left == {"a": ["first", "second"]}


def test_a_stage_that_leaves_less_than_it_should_fails(place: Path) -> None:
    project(place / "project", {"first": "print('nothing')"})
    assert started(place, {"a": {}}).failed == {"a": "first"}


def test_identity_is_of_parameters_and_data(tmp_path: Path) -> None:
    one, other = plan(tmp_path, {"a": {"times": 1}, "b": {"times": 1}}), plan(tmp_path, {"a": {"times": 2}})
    assert identity(one, "a") == identity(one, "b") != identity(other, "a")
    other["runs"]["a"]["params"] = one["runs"]["a"]["params"]
    assert identity(one, "a") == identity(other, "a")
    other["runs"]["a"]["inputs"]["data/in.txt"] = "0" * 64
    assert identity(one, "a") != identity(other, "a")


@pytest.mark.slow
def test_a_job_that_is_told_to_stop_ends_in_good_order(place: Path) -> None:
    """The real command, in a process of its own, which a cluster sends SIGTERM."""
    planned = plan(place / "files", {"long": {"times": 1, "steps": 10**6}})
    (place / "plan.json").write_text(json.dumps(planned))
    command = [sys.executable, "-m", "tumorxai.tools.offline.runner", str(place), "--result", str(place / "result")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "second …" in line:
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            break
    rest = process.stdout.read()
    assert process.wait() == 0, rest
    assert "left: long (second); run again to go on" in rest
    assert int((place / "runs/long/.tumorxai/checkpoints/step").read_text()) > 0
    assert read_json(place / "result/summary.json")["node"]["torch"]
