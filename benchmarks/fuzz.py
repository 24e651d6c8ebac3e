"""Damage what is read, and count what comes of it: taken, left out, refused in words, or a fault of ours.

    python -m benchmarks.fuzz [--images 5000] [--archives 500] [--params 1000] [--stage-files 500] [--seed 0]
    python -m benchmarks.fuzz --only image:1234567

Each case is drawn by a number of its own, which is printed where it goes wrong, and which `--only` repeats. It runs in
a process that may compute for 10 seconds, and take 2 GB more than it starts with. Files between stages are damaged in
copies of a finished run (made here if `--run` names none), and a stage that reads them is started on them; `--other`
names a second run, whose files take the place of the first one's. Prints what went wrong; the last line is one JSON
object, which goes to results/trials.json as well with `--keep`. The status is 1 after a traceback, a crash or a hang.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import yaml
from benchmarks import mutations, trials
from tqdm import tqdm

from tumorxai import config
from tumorxai.archives import packing
from tumorxai.archives.archives import UnreadableError
from tumorxai.archives.images import Fit, pack
from tumorxai.catalogue.listing import list_archive
from tumorxai.errors import UserError, told

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 10.0
WAITED = 10  # times as long for the process to get them
MEMORY = 2 * 2**30  # bytes beyond what the process has when it starts
BAD = ("TRACEBACK", "CRASH", "HANG")
# The stages that read what others have written, and are over in seconds.
STAGES = ("dedupe", "patients", "split", "audit", "views", "embed", "linear", "frozen", "baselines", "scores",
          "robustness", "review", "search", "report")  # fmt: skip
CONTEXT = multiprocessing.get_context("fork")
Outcome = tuple[str, str]  # what came of it, and in which words


def of_image(draw: random.Random, folder: Path) -> Outcome:
    """A damaged image among whole ones, the way of a folder of the user's own."""
    name, data = mutations.image(draw)
    for place, content in ((f"glioma/{name}", data), ("glioma/whole.png", mutations.images()[0][1]),
                           ("healthy/whole.png", mutations.images()[1][1])):  # fmt: skip
        (folder / "in" / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / place).write_bytes(content)
    packing.zip_folder(folder / "in", folder / "out.zip")
    return _taken(folder / "out.zip", name.partition(".")[0])


def of_archive(draw: random.Random, folder: Path) -> Outcome:
    """A damaged archive, as it lies where the user says."""
    (folder / "in.zip").write_bytes(mutations.archive(draw))
    packing.zip_zip(folder / "in.zip", folder / "out.zip")
    return _taken(folder / "out.zip", "")


def _taken(archive: Path, name: str) -> Outcome:
    """Whether every image whose name begins so gets into a catalogue."""
    found = list_archive(archive, "local/x", None)
    reasons = [reason for path, _, reason in found.refused if Path(path).name.startswith(name)]
    reasons += [reason for path, reason in found.left_out if Path(path).name.startswith(name)]
    for one in found.candidates:
        packed = pack(one.task, Fit(32, 1, "pad"))
        reasons += [packed] if isinstance(packed, str) else []
    return ("quarantined", "; ".join(reasons)) if reasons else ("accepted", "")


def of_params(draw: random.Random, folder: Path) -> Outcome:
    """Damaged parameters."""
    (folder / "params.yaml").write_bytes(mutations.params((ROOT / "params.yaml").read_text(encoding="utf-8"), draw))
    config.load(folder / "params.yaml")
    return "accepted", ""


KINDS: dict[str, Callable[[random.Random, Path], Outcome]] = {
    "image": of_image,
    "archive": of_archive,
    "params": of_params,
}


def judged(work: Callable[[], Outcome]) -> Outcome:
    """What came of it."""
    try:
        return work()
    except UnreadableError as error:
        return "quarantined", str(error)
    except UserError as error:
        return "refused", str(error)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        if isinstance(error, Exception) and not isinstance(error, MemoryError) and (own := told(error)):
            return "refused", str(own)
        return "TRACEBACK", traceback.format_exc()


def limit() -> None:
    """Keep this process to MEMORY more than it has."""
    has = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (has + MEMORY, has + MEMORY))


def serve(pipe: Connection) -> None:
    """The process that may crash: it is told a kind and a number, and answers with the outcome."""
    limit()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    while True:
        kind, seed = pipe.recv()
        with tempfile.TemporaryDirectory() as folder:
            draw, place = random.Random(seed), Path(folder)  # noqa: S311
            pipe.send(judged(lambda: KINDS[kind](draw, place)))  # noqa: B023


def spent(process: int) -> float:
    """Seconds that a process has computed; infinite once it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("inf")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def answers(pipe: Connection, process: int, seconds: float) -> bool:
    """Wait for an answer until a process has computed for so long, or has waited WAITED times as long for it."""
    begun, started = spent(process), time.monotonic()
    while not pipe.poll(0.5):
        if spent(process) - begun > seconds or time.monotonic() - started > WAITED * seconds:
            return pipe.poll()
    return True


class Victim:
    """A process to try files in; one that hangs or crashes is replaced."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._pipe, other = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=serve, args=(other,), daemon=False)
        self._process.start()
        other.close()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()

    def ask(self, kind: str, seed: int) -> Outcome:
        """The outcome of one case."""
        self._pipe.send((kind, seed))
        try:
            if answers(self._pipe, self._process.pid or 0, SECONDS):
                found: Outcome = self._pipe.recv()
                return found
            outcome = "HANG", f"not over after {SECONDS:g} s"
        except EOFError:
            self._process.join()
            outcome = "CRASH", f"ended by {self._process.exitcode}"
        self.close()
        self._start()
        return outcome


def finished(folder: Path, seed: int) -> Path:
    """A finished run of the pipeline on tiny data."""
    from tests.test_pipeline import ONE_AFTER_THE_OTHER, environment, make_project

    folder.mkdir(parents=True)
    project = make_project(folder)
    content = yaml.safe_load((project / "params.yaml").read_text())
    (project / "params.yaml").write_text(yaml.safe_dump(content | {"seed": seed}, sort_keys=False))
    stages = list(yaml.safe_load(Path("dvc.yaml").read_text())["stages"])
    subprocess.run(
        [sys.executable, "-c", ONE_AFTER_THE_OTHER, *stages], cwd=project, check=True, stdout=subprocess.DEVNULL,
        env=environment(project, TUMORXAI_CACHE=str(folder / ".cache")),
    )  # fmt: skip
    return project


def stage_of(name: str) -> dict[str, Any]:
    """A stage of ``dvc.yaml``."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][name]
    return found


def below(run: Path, paths: Sequence[Any]) -> list[Path]:
    """Files that entries of ``dvc.yaml`` stand for, relative to a run."""
    names = [run / (next(iter(each)) if isinstance(each, dict) else each) for each in paths]
    files = [file for path in names for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [file.relative_to(run) for file in files if file.is_file()]


def files_of(run: Path, stage: str) -> list[Path]:
    """Files of a run that a stage reads and another has written, but for pictures."""
    read = [path for path in below(run, stage_of(stage)["deps"]) if path.suffix != ".png"]
    return [
        path for path in read if path.parts[0] in ("data", "models", "details", "plots") and "inputs" not in path.parts
    ]


def results(run: Path, stage: str) -> dict[Path, bytes]:
    """What a stage has computed; not the index, whose files are never twice the same."""
    own = stage_of(stage)
    made = below(run, [*own.get("outs", []), *own.get("metrics", [])])
    return {
        path: (run / path).read_bytes()
        for path in made
        if path.suffix in (".json", ".csv", ".npy") and "index" not in path.parts
    }


def of_stage_file(draw: random.Random, folder: Path, run: Path, other: Path | None) -> Outcome:
    """A stage on a run of which one file is damaged, or is another run's."""
    stage = draw.choice(STAGES)
    path = draw.choice(files_of(run, stage))
    shutil.copytree(
        run, folder, copy_function=os.link, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git", ".dvc")
    )
    before = (run / path).read_bytes()
    foreign = other is not None and draw.random() < 0.3
    after = (other / path).read_bytes() if other and foreign else mutations.damaged(
        before, draw, (run / draw.choice(files_of(run, stage))).read_bytes()
    )  # fmt: skip
    (folder / path).unlink()
    if draw.random() > 0.03:  # else it is missing
        (folder / path).write_bytes(after)
    os.chdir(folder)
    sys.argv = [f"stages/{stage}.py"]
    what = f"{stage} on {'the other run' if foreign else 'a damaged'} {path}"
    said = judged(lambda: (runpy.run_path(f"stages/{stage}.py")["main"](), ("accepted", ""))[1])
    if said[0] == "accepted" and after != before:
        said = (
            ("accepted, same results" if results(folder, stage) == results(run, stage) else "accepted, OTHER results"),
            "",
        )
    return said[0], f"{what}: {said[1]}"


def apart(work: Callable[[], Outcome], seconds: float) -> Outcome:
    """The outcome of work in a process of its own."""
    pipe, other = CONTEXT.Pipe()

    def child() -> None:
        os.setpgrp()
        limit()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        other.send(judged(work))
        os._exit(0)

    process = CONTEXT.Process(target=child)
    process.start()
    other.close()
    try:
        found: Outcome = (
            pipe.recv() if answers(pipe, process.pid or 0, seconds) else ("HANG", f"not over after {seconds:g} s")
        )
    except EOFError:
        process.join()
        found = "CRASH", f"ended by {process.exitcode}"
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # and the processes that it has started
    process.kill()
    process.join()
    return found


def stage_case(seed: int, run: Path, other: Path | None, slowest: float) -> Outcome:
    with tempfile.TemporaryDirectory(dir=run.parent) as folder:
        draw = random.Random(seed)  # noqa: S311
        return apart(lambda: of_stage_file(draw, Path(folder), run, other), SECONDS + slowest)


def warmed(run: Path) -> float:
    """Seconds of the slowest stage on whole files, after everything has been imported that the stages import."""
    for stage in STAGES:
        runpy.run_path(f"stages/{stage}.py", run_name="warm")
    slowest = 0.0
    for stage in STAGES:
        with tempfile.TemporaryDirectory(dir=run.parent) as folder:
            shutil.copytree(
                run, folder, copy_function=os.link, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git", ".dvc")
            )

            def work(stage: str = stage, folder: str = folder) -> Outcome:
                os.chdir(folder)
                sys.argv = [f"stages/{stage}.py"]
                runpy.run_path(f"stages/{stage}.py")["main"]()
                own = results(Path(), stage) == results(run, stage)
                return ("accepted", "") if own else ("TRACEBACK", "other results on the same files")

            started = time.monotonic()
            outcome, said = apart(work, 600)
            slowest = max(slowest, time.monotonic() - started)
            if outcome != "accepted":
                raise UserError(f"{stage}: got {outcome} on whole files; expected it to run ({said})")
    return slowest


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=0)
    parser.add_argument("--archives", type=int, default=0)
    parser.add_argument("--params", type=int, default=0)
    parser.add_argument("--stage-files", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", metavar="KIND:NUMBER", help="image, archive, params or stage-file, and the case's number"
    )
    parser.add_argument("--run", type=Path, help="a finished run")
    parser.add_argument("--other", type=Path, help="another one, of other images or another seed")
    parser.add_argument("--log", type=Path, help="file to write every case to, one JSON object a line")
    parser.add_argument("--keep", action="store_true", help="write results/trials.json")
    asked = parser.parse_args(given)
    numbers = random.Random(asked.seed)  # noqa: S311
    counts = {"image": asked.images, "archive": asked.archives, "params": asked.params, "stage-file": asked.stage_files}
    cases = [(kind, numbers.randrange(2**31)) for kind, count in counts.items() for _ in range(count)]
    if asked.only:
        kind, _, number = asked.only.partition(":")
        cases = [(kind, int(number))]
    found: dict[str, Counter[str]] = {}
    bad: list[dict[str, Any]] = []
    mutations.images()
    with tempfile.TemporaryDirectory() as folder, open(asked.log or os.devnull, "w") as log:
        victim, run, other, slowest = Victim(), asked.run, asked.other, 0.0
        if any(kind == "stage-file" for kind, _ in cases):
            run = (run or finished(Path(folder, "run"), 0)).resolve()
            other = other and other.resolve()
            slowest = warmed(run)
        for kind, seed in tqdm(cases, unit="case", disable=None):
            started = time.monotonic()
            outcome, said = stage_case(seed, run, other, slowest) if kind == "stage-file" else victim.ask(kind, seed)
            found.setdefault(kind, Counter())[outcome] += 1
            row = {
                "case": f"{kind}:{seed}",
                "outcome": outcome,
                "said": said,
                "s": round(time.monotonic() - started, 2),
            }
            print(json.dumps(row), file=log, flush=True)
            if outcome in BAD:
                bad.append(row)
                print(f"{outcome} {kind}:{seed}\n{said}", flush=True)
            elif asked.only:
                print(f"{outcome}: {said}")
        victim.close()
    if asked.keep:
        trials.write("damage", trials.damage({kind: dict(own) for kind, own in found.items()}))
    print(
        json.dumps(
            {kind: dict(sorted(own.items())) for kind, own in found.items()} | {"bad": [row["case"] for row in bad]}
        )
    )
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
