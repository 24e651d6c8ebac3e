"""Kill the pipeline at random moments, let `dvc repro` go on, and compare its metrics with an undisturbed run's.

    python -m benchmarks.chaos [--kills 50] [--each] [--demo] [--seed 0]

Runs in a folder of its own: on tiny data as the tests do, or with `--demo` on the parameters of this folder. A kill is
SIGKILL to `dvc repro` and to all that it has started. When all kills are done `dvc repro` runs to its end: metrics,
and every file that `dvc.lock` names but the index, must be those of the undisturbed run; no temporary file and no lock
may be left. `--each` then runs every stage by itself with a full disk (no file may grow beyond 1 kB), with outputs in
folders that may only be read, with its workers killed, and with Ctrl-C after a moment: it must end in one message, and
without harm to what was there. Each event is one JSON line; the last line sums up, and goes to results/trials.json with
`--keep`. The status is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from benchmarks import trials
from tests.test_pipeline import environment, make_project

from tumorxai.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
NOT_EXACT = ("models/index", "models/pretrain_run.json", "report")  # random names, times, and pages that tell them
TROUBLES = ("full disk", "read-only", "worker killed", "Ctrl-C")
ROOM = 1000  # bytes that a file may have on the full disk


def said(**event: Any) -> None:
    print(json.dumps(event), flush=True)


def repro(project: Path, log: Path) -> subprocess.Popen[bytes]:
    """`dvc repro`, in a process group of its own."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"], cwd=project, stdout=stream, stderr=subprocess.STDOUT,
            start_new_session=True, env=environment(project, TUMORXAI_CACHE=str(project.parent / "downloads")),
        )  # fmt: skip


def to_the_end(project: Path, log: Path) -> None:
    if repro(project, log).wait():
        raise UserError(f"got a `dvc repro` that failed; expected it to end; its last words: {log.read_text()[-2000:]}")


def outputs(project: Path) -> dict[str, str]:
    """MD5 of every output that the same seed repeats exactly, as ``dvc.lock`` has it."""
    stages = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    found = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
    return {path: md5 for path, md5 in found.items() if not path.startswith(NOT_EXACT)}


def left_over(project: Path) -> list[str]:
    """Temporary files, and outputs that DVC notes as being read or written by a process that lives.

    It keeps notes of readers that were killed until somebody writes what they read; these hold nobody up.
    """
    own = [path for path in project.rglob(".*.tmp*") if ".dvc/cache" not in str(path) and ".git/" not in str(path)]
    noted = project / ".dvc/tmp/rwlock"
    held = json.loads(noted.read_text() or "{}") if noted.exists() else {}
    holders = {path: by if isinstance(by, list) else [by] for kind in held.values() for path, by in kind.items()}
    alive = [path for path, by in holders.items() if any(Path(f"/proc/{one['pid']}").exists() for one in by)]
    return sorted([*(str(path.relative_to(project)) for path in own), *alive])


def damaged_lock(project: Path) -> bool:
    """Whether a kill has hit DVC while it wrote the list of what is in use, which it then cannot read; removes it."""
    noted = project / ".dvc/tmp/rwlock"
    try:
        json.loads(noted.read_text())
    except FileNotFoundError:
        return False
    except ValueError:
        noted.unlink()
        return True
    return False


def running(log: Path, begun: int) -> str:
    """The stage that the last lines of the log are of."""
    names = [line.split("'")[1] for line in log.read_text()[begun:].splitlines() if line.startswith("Running stage")]
    return names[-1] if names else ""


def kill_often(whole: Path, folder: Path, kills: int, draw: random.Random, seconds: float) -> tuple[int, int]:
    """Kill runs at random moments, each going on where the one before it was killed; see how each that ends has ended.

    A run that has ended begins again from nothing.

    Returns:
        How many runs have ended, and how many of them like the undisturbed one.
    """
    wanted, done, ended, same, number = outputs(whole), 0, 0, 0, 0
    while True:
        project, log = folder / f"cut{number}", folder / f"cut{number}.log"
        if not project.exists():
            shutil.copytree(folder / "start", project, symlinks=True)
        if damaged_lock(project):  # as docs/troubleshooting.md says
            said(event="DVC's list of what is in use was damaged, and removed", run=number)
        begun = log.stat().st_size if log.exists() else 0
        process = repro(project, log)
        if done < kills:
            delay = draw.uniform(0.02, 0.6) * seconds
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(delay)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                done += 1
                said(event="kill", number=done, after_s=round(delay, 2), run=number, stage=running(log, begun))
                continue
        status = process.wait()
        own = outputs(project) if not status else {}
        other = sorted(path for path in wanted.keys() | own.keys() if own.get(path) != wanted.get(path))
        left = left_over(project)
        good = not status and not other and not left
        ended, same, number = ended + 1, same + good, number + 1
        words = log.read_text()[-1500:] if status else ""
        said(event="end", run=number - 1, status=status, others=other, left=left, **({"said": words} if words else {}))
        if done >= kills:
            return ended, same


def full_disk() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))


@contextlib.contextmanager
def read_only(project: Path) -> Iterator[bool]:
    """The project's folder as a disk that may only be read, if this process may mount one."""
    done = subprocess.run(["mount", "--bind", "-o", "ro", str(project), str(project)], capture_output=True)
    try:
        yield not done.returncode
    finally:
        if not done.returncode:
            subprocess.run(["umount", str(project)], check=True)


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    """Processes that a process has started and that are still there."""
    with contextlib.suppress(OSError):
        return [int(one) for one in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    return []


def alone(project: Path, stage: str, trouble: str, seconds: float) -> tuple[int, str]:
    """A stage's script by itself: its status, and what it says at the end."""
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            [sys.executable, f"stages/{stage}.py"], cwd=project, stdout=words, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=full_disk if trouble == "full disk" else None,
            env=environment(project, TUMORXAI_CACHE=str(project.parent / "downloads")),
        )  # fmt: skip
        if trouble == "Ctrl-C":
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
        while trouble == "worker killed" and process.poll() is None:  # as the system does where memory runs out
            for one in workers(process):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            time.sleep(0.01)
        status = process.wait()
        words.seek(0)
        return status, words.read().decode(errors="replace")


def each_stage(whole: Path, draw: random.Random) -> tuple[int, int]:
    """Every stage in every trouble: how many were tried, and how many ended in words and without harm."""
    tried, well = 0, 0
    for stage in yaml.safe_load((whole / "dvc.yaml").read_text())["stages"]:
        for trouble in TROUBLES:
            files, started = contents(whole), time.monotonic()
            with read_only(whole) if trouble == "read-only" else contextlib.nullcontext(True) as possible:
                if not possible:
                    said(event=trouble, stage=stage, tried=False)
                    continue
                status, words = alone(whole, stage, trouble, draw.uniform(1, 8))
            after, left = contents(whole), left_over(whole)
            # A stage that ends well has its own names for the index's files; one that fails must leave those before.
            lost = sorted(path for path in files.keys() - after.keys() if status or not path.startswith(NOT_EXACT))
            other = sorted(path for path in after if after[path] != files.get(path) and not path.startswith(NOT_EXACT))
            good = "Traceback" not in words and not lost and not other and not left
            tried, well = tried + 1, well + good
            last = words.strip().splitlines()[-1][:300] if words.strip() else ""
            row = {"status": status, "seconds": round(time.monotonic() - started, 1), "good": good, "lost": lost}
            row |= {"others": other, "left": left, "said": words[-2000:] if "Traceback" in words else last}
            said(event=trouble, stage=stage, **row)
    return tried, well


def contents(project: Path) -> dict[str, int]:
    """Hash of every file of the pipeline, by path."""
    found = {}
    for folder in ("data", "models", "details", "metrics", "plots", "report"):
        for path in (project / folder).rglob("*"):
            if path.is_file():
                found[str(path.relative_to(project))] = hash(path.read_bytes())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--each", action="store_true", help="then trouble every stage by itself")
    parser.add_argument("--demo", action="store_true", help="the parameters of this folder, not those of the tests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="write results/trials.json")
    asked = parser.parse_args()
    draw = random.Random(asked.seed)  # noqa: S311
    with tempfile.TemporaryDirectory(prefix="tumorxai-chaos-") as name:
        folder = Path(name)
        (folder / "start").mkdir()
        start = make_project(folder / "start")
        if asked.demo:
            shutil.copy(ROOT / "params.yaml", start)
        subprocess.run([sys.executable, "-m", "dvc", "config", "cache.type", "copy"], cwd=start, check=True)
        whole = folder / "whole"
        shutil.copytree(start, whole, symlinks=True)
        started = time.monotonic()
        to_the_end(whole, folder / "whole.log")
        seconds = time.monotonic() - started
        said(event="undisturbed", seconds=round(seconds, 1), outputs=len(outputs(whole)), left=left_over(whole))
        ended, same = kill_often(whole, folder, asked.kills, draw, seconds)
        tried, well = each_stage(whole, draw) if asked.each else (0, 0)
    if asked.keep:
        row = [asked.kills, ended, same, tried or None, well if tried else None]
        trials.write("kills", {"those of the demo" if asked.demo else "those of the tests, tiny": row})
    said(kills=asked.kills, runs=ended, identical=same, troubles=tried, told_in_words=well)
    sys.exit(ended != same or tried != well)


if __name__ == "__main__":
    main()
