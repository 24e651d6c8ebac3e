"""Runs a plan without DVC, some runs side by side, until all is done or the time is over; run again, it goes on.

    python -m tumorxai.tools.offline.runner FOLDER --minutes 55 --side-by-side 4

A run's stages are processes one after the other in a folder of the run's own. What a stage has written goes to the
result folder when it ends, with a record of what it was run from; what has a record is not run again. A stage that
is told to stop (SIGTERM) may leave a checkpoint, from which it goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from tumorxai.errors import UserError, run
from tumorxai.files import read_json, write_json, write_text
from tumorxai.inputs import provenance
from tumorxai.inputs.stage import paths
from tumorxai.tools.offline import memory
from tumorxai.tools.offline.records import FORMAT, RECORDS, digests, finished, identity, link, remove

GRACE = 60.0  # seconds, at most, that stages are given to write their checkpoints; a tenth of the time if that is less
LOOK = 0.2  # seconds between two looks at the processes
CHECKPOINTS = ".tumorxai"  # within a run's folder: it outlives all else there
SURROUNDINGS = """
import json, os, platform, torch
gpu = torch.cuda.is_available()
print(json.dumps({
    "device": torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine(),
    "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version(),
    "torch": torch.__version__, "cuda": torch.version.cuda if gpu else None,
}))
"""


@dataclass
class Active:
    """A stage that runs.

    Attributes:
        run: name.
        stage: name.
        process: leader of a group of its own.
        log: what it prints to.
        started: of the monotonic clock, in seconds.
        read: SHA-256 of the files that it reads, by path.
    """

    run: str
    stage: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    started: float
    read: dict[str, str]

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to the stage and all that it has started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)


@dataclass
class Outcome:
    """How a list ended.

    Attributes:
        done: names of runs.
        left: stages that were not run for want of time, by run.
        failed: the stage, by run.
    """

    done: list[str] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class Runner:
    """Runs a plan.

    Args:
        plan: see :func:`tumorxai.tools.offline.plan.prepare`.
        project: folder with ``stages/`` and the package.
        files: folder with what runs read, by SHA-256.
        work: folder for the runs while they run; it is kept for the next time.
        result: folder for what they leave.
        environment: of the stages.
        side_by_side: runs at once; 0: as many as fit into the memory, see :mod:`tumorxai.tools.offline.memory`.
    """

    def __init__(
        self, plan: Mapping[str, Any], project: Path, files: Path, work: Path, result: Path,
        environment: Mapping[str, str], side_by_side: int,
    ) -> None:  # fmt: skip
        self.plan, self.project, self.files, self.work, self.result = plan, project.resolve(), files, work, result
        self.environment = dict(environment)
        if side_by_side != 1:
            share = max(1, (os.cpu_count() or 1) // (side_by_side or len(plan["runs"])))
            self.environment.setdefault("OMP_NUM_THREADS", str(share))
        self.slots = memory.Slots(side_by_side)
        asked = [sys.executable, "-c", SURROUNDINGS]
        found = subprocess.run(asked, env=self.environment, capture_output=True, text=True, check=False)  # noqa: S603
        if found.returncode:
            raise UserError(f"got {found.stderr.strip()}; expected a Python with PyTorch; name it: PYTHON=/path/python")
        self.node: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
        self.stopping = False
        self.known: dict[str, tuple[str, str]] = {}  # run and stage that have just that result, by what it hangs on

    def run(self, minutes: float | None, began: float | None = None) -> Outcome:
        """Run what is not done yet.

        Args:
            minutes: after which all has stopped; None: no limit.
            began: when they began, on the monotonic clock; None: now.
        """
        began = time.monotonic() if began is None else began
        end = float("inf") if minutes is None else began + 60 * minutes
        grace = GRACE if minutes is None else min(GRACE, 6 * minutes)
        todo = {name: self._open(name) for name in self.plan["runs"]}
        waiting = [name for name, stages in todo.items() if stages]
        active: list[Active] = []
        outcome = Outcome()
        told = 0.0
        with self._signals():
            while active or (waiting and not self.stopping):
                now = time.monotonic()
                self.stopping |= now >= end - grace
                if not self.stopping and waiting and self.slots.free(len(active)):
                    name = waiting.pop(0)
                    active += self._go_on(name, todo[name])
                if self.stopping and not told and active:
                    told = now
                    self._tell(active, signal.SIGTERM)
                elif told and now >= told + grace:
                    self._tell(active, signal.SIGKILL)
                for ended in [one for one in active if one.process.poll() is not None]:
                    active.remove(ended)
                    ended.log.close()
                    name = ended.run
                    if self._end(ended):
                        todo[name].pop(0)
                        active += [] if self.stopping else self._go_on(name, todo[name])
                    elif not self.stopping:
                        outcome.failed[name] = ended.stage
                time.sleep(LOOK)
        outcome.done = [name for name, stages in todo.items() if not stages]
        outcome.left = {name: stages for name, stages in todo.items() if stages and name not in outcome.failed}
        summary = {"done": outcome.done, "left": outcome.left, "failed": outcome.failed, "node": self.node}
        write_json(self.result / "summary.json", {"format": FORMAT, "commit": self.plan["commit"], **summary})
        return outcome

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Stop in good order when the job is told to."""

        def stop(number: int, frame: object) -> None:
            self.stopping = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _tell(self, active: list[Active], number: signal.Signals) -> None:
        for one in active:
            one.tell(number)

    def _open(self, name: str) -> list[str]:
        """Put a run's folder in order; the stages that are not done."""
        run, own = self.plan["runs"][name], identity(self.plan, name)
        place, result = self.work / name, self.result / name
        mark = place / "identity"
        if not mark.exists() or mark.read_text(encoding="utf-8") != own:
            for other in place.glob("*"):  # of another run; checkpoints know themselves which run they are of
                remove(place, [other.name])
            for path, content in run["inputs"].items():
                link(self.files / content, place / path)
            (place / "stages").unlink(missing_ok=True)
            (place / "stages").symlink_to(self.project / "stages")
            for path in ("dvc.yaml", "presets"):
                (place / path).symlink_to(self.project / path)
            write_text(place / "params.yaml", run["params"])
            write_text(mark, own)
        if (result / "params.yaml").exists() and (result / "identity").read_text(encoding="utf-8") != own:
            remove(self.result, [name])
        write_text(result / "params.yaml", run["params"])
        write_text(result / "identity", own)
        left = list(run["stages"])
        while left and finished(result, left[0], own):
            record = read_json(result / RECORDS / f"{left[0]}.json")
            for file in record["outs"]:
                if not (place / file).exists():
                    link(result / file, place / file)
            self.known[self._cause(name, left[0], record["deps"])] = name, left[0]
            left.pop(0)
        return left

    def _cause(self, name: str, stage: str, read: Mapping[str, str]) -> str:
        """What a stage's result hangs on, as DVC sees it: its command, its parameters and the bytes that it reads."""
        values = self.plan["runs"][name]["values"][stage]
        return json.dumps([stage, self.plan["stages"][stage], values, read], sort_keys=True)

    def _go_on(self, name: str, todo: list[str]) -> list[Active]:
        """Start a run's next stage; none is left where other runs have had the same ones, whose results are taken."""
        while todo:
            place, described = self.work / name, self.plan["stages"][todo[0]]
            remove(place, paths(described, "outs", "metrics"))  # as DVC does
            read = digests(place, described.get("deps", []))
            twin = self.known.get(self._cause(name, todo[0], read))
            if twin is None:
                return [self._start(name, todo[0], read)]
            record = read_json(self.result / twin[0] / RECORDS / f"{twin[1]}.json")
            for folder in record["folders"]:
                (place / folder).mkdir(parents=True, exist_ok=True)
            for file in record["outs"]:
                link(self.result / twin[0] / file, place / file)
                link(place / file, self.result / name / file)
            record |= {"identity": identity(self.plan, name), "as_in": twin[0]}
            write_json(self.result / name / RECORDS / f"{todo[0]}.json", record)
            say(f"{name}: {todo[0]} as in {twin[0]}")
            todo.pop(0)
        return []

    def _start(self, name: str, stage: str, read: dict[str, str]) -> Active:
        place, described = self.work / name, self.plan["stages"][stage]
        path = self.result / name / "log" / f"{stage}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        log = open(path, "ab")  # noqa: SIM115 - closed when the stage ends
        first, *rest = shlex.split(described["cmd"])
        command = [sys.executable if first == "python" else first, *rest]
        say(f"{name}: {stage} …")
        process = subprocess.Popen(  # noqa: S603
            command, cwd=place, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        return Active(name, stage, process, log, time.monotonic(), read)

    def _end(self, ended: Active) -> bool:
        """Keep what a stage has left; whether it is all that it should leave."""
        name, stage, described = ended.run, ended.stage, self.plan["stages"][ended.stage]
        place, result, seconds = self.work / name, self.result / name, time.monotonic() - ended.started
        absent = [path for path in paths(described, "outs", "metrics") if not (place / path).exists()]
        if ended.process.returncode or absent:
            said = Path(ended.log.name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            why = said[-1] if said else f"status {ended.process.returncode}, without {', '.join(absent)}"
            say(f"{name}: {stage} {'stopped' if self.stopping else 'FAILED'} after {seconds:.0f} s: {why}")
            return False
        outs = digests(place, paths(described, "outs", "metrics"))
        for file in outs:
            link(place / file, result / file)
        write_json(
            result / RECORDS / f"{stage}.json",
            {
                "format": FORMAT,
                "identity": identity(self.plan, name),
                "stage": stage,
                "values": self.plan["runs"][name]["values"][stage],
                "deps": ended.read,
                "outs": outs,
                "folders": [path for path in paths(described, "outs") if (place / path).is_dir()],
                "code": provenance.record(self.project, stage, self.plan["runs"][name]["method"]),
                "node": self.node,
                "seconds": seconds,
                "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )
        self.known[self._cause(name, stage, ended.read)] = name, stage
        say(f"{name}: {stage} done in {seconds:.0f} s")
        return True


def say(text: str) -> None:
    """One line, at once, with the time."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


def report(outcome: Outcome, result: Path) -> None:
    """Say how a list ended.

    Raises:
        UserError: a run failed.
    """
    say(f"done: {', '.join(outcome.done) or 'nothing'}")
    for name, stages in outcome.left.items():
        say(f"left: {name} ({', '.join(stages)}); run again to go on")
    if outcome.failed:
        logs = ", ".join(str(result / name / "log" / f"{stage}.txt") for name, stage in outcome.failed.items())
        raise UserError(
            f"got {len(outcome.failed)} of {len(outcome.done) + len(outcome.left) + len(outcome.failed)} runs that "
            f"failed; expected none; see {logs}, and run again: what is done is not run again"
        )


def environment(*packages: Path) -> dict[str, str]:
    """This process's, with packages of ours first, without what tells a stage that DVC runs it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    own = [str(path.resolve()) for path in packages]
    return {**inherited, "PYTHONPATH": os.pathsep.join([*own, *filter(None, [inherited.get("PYTHONPATH")])])}


def main() -> None:
    """The command, of an unpacked bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with plan.json, project/, lib/ and files/")
    parser.add_argument("--result", type=Path, required=True, help="folder for what the runs leave")
    parser.add_argument("--minutes", type=float, help="after which all has stopped; default: no limit")
    parser.add_argument("--side-by-side", type=int, default=1, help="runs at once; 0: as many as fit into the memory")
    parser.add_argument("--began", type=float, help="when the minutes began, on the monotonic clock; default: now")
    given = parser.parse_args()
    began = time.monotonic() if given.began is None else given.began
    if given.minutes is not None and not given.minutes > 0:
        raise UserError(f"got --minutes {given.minutes}; expected more than 0")
    if given.side_by_side < 0:
        raise UserError(f"got --side-by-side {given.side_by_side}; expected 0 or more")
    folder = given.folder.resolve()
    runner = Runner(
        read_json(folder / "plan.json"), folder / "project", folder / "files", folder / "runs", given.result.resolve(),
        environment(folder / "project/src", folder / "lib"), given.side_by_side,
    )  # fmt: skip
    report(runner.run(given.minutes, began), given.result)


if __name__ == "__main__":
    run(main)
