"""Does what one machine has computed serve another? Remotes, a shared cache and experiments through git, on tiny data.

    python -m benchmarks.sharing [--until split] [--only http]

Runs the pipeline of the tests in a folder of its own, to `--until` (default: all of it), then in fresh clones:
- `folder`: push to a folder, pull into a clone; nothing may run again, every file must be the same to the byte;
- `http`: the same from a read-only HTTP server of that folder; a push to it must be refused;
- `s3`: the same through S3, by moto's server on this machine, where `moto` and `dvc-s3` are installed;
- `cache`: two clones that run the pipeline at once with one cache;
- `experiments`: `dvc exp push` and `dvc exp pull` through a bare git repository.
Each prints one JSON line, and with `--keep` stands in results/trials.json; the status is 1 if one of them failed, which
does not count those that could not be tried.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from benchmarks import trials
from tests.test_pipeline import environment, make_project, ran

BUCKET = "tumorxai"
NOT_EXACT = ("models/index", "models/pretrain_run.json", "report")  # random names, times, and pages that tell them
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


class FailedError(Exception):
    """What was shared is not what came out, in words."""


def call(project: Path, *words: str, fails: bool = False) -> str:
    """What a command says in a project.

    Raises:
        FailedError: it fails where it should not, or the other way round.
    """
    given = [sys.executable, "-m", "dvc", *words[1:]] if words[0] == "dvc" else list(words)
    own = environment(project, TUMORXAI_CACHE=str(project.parent / "downloads"), **KEYS)
    done = subprocess.run(given, cwd=project, env=own, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if (done.returncode != 0) != fails:
        raise FailedError(f"`{' '.join(words)}` ended with {done.returncode}: {done.stdout[-1500:]}")
    return done.stdout


def outputs(project: Path) -> dict[str, str]:
    """MD5 of every output that the same seed repeats exactly, as ``dvc.lock`` has it."""
    stages = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    found = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
    return {path: md5 for path, md5 in found.items() if not path.startswith(NOT_EXACT)}


def clone(whole: Path, folder: Path) -> Path:
    """A fresh clone of a project, without its cache and outputs."""
    subprocess.run(["git", "clone", "-q", str(whole), str(folder)], check=True)
    for name in ("user.email a@b.c", "user.name a"):
        subprocess.run(["git", "config", *name.split()], cwd=folder, check=True)
    return folder


def only(project: Path, *stages: str) -> None:
    """Leave nothing but some stages in the pipeline."""
    declared = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    content = {"stages": {name: declared[name] for name in stages}}
    (project / "dvc.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def cut(project: Path, last: str) -> None:
    """Take the stages after one out of the pipeline."""
    names = list(yaml.safe_load((project / "dvc.yaml").read_text())["stages"])
    only(project, *names[: names.index(last) + 1])
    subprocess.run(["git", "commit", "-qam", "cut"], cwd=project, check=True)


def same(whole: Path, project: Path) -> None:
    """Nothing is to do in a clone, and it has the outputs of the whole run."""
    repeated = ran(call(project, "dvc", "repro"))
    if repeated:
        raise FailedError(f"ran again: {', '.join(repeated)}")
    mine, other = outputs(project), outputs(whole)
    if differing := sorted(path for path in other if mine.get(path) != other[path]):
        raise FailedError(f"other bytes: {', '.join(differing)}")
    call(project, sys.executable, "-m", "tumorxai.cli", "doctor", "--verify")


def pulled(whole: Path, folder: Path, url: str, *options: tuple[str, str]) -> Path:
    """A fresh clone that has everything from a remote."""
    project = clone(whole, folder)
    call(project, "dvc", "remote", "add", "--local", "-d", "storage", url)
    for name, value in options:
        call(project, "dvc", "remote", "modify", "--local", "storage", name, value)
    call(project, "dvc", "pull")
    same(whole, project)
    return project


def push(whole: Path, url: str, *options: tuple[str, str]) -> None:
    call(whole, "dvc", "remote", "add", "--local", "-f", "-d", "storage", url)
    for name, value in options:
        call(whole, "dvc", "remote", "modify", "--local", "storage", name, value)
    call(whole, "dvc", "push")


def by_folder(whole: Path, folder: Path) -> None:
    push(whole, str(folder / "remote"))
    pulled(whole, folder / "clone", str(folder / "remote"))


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files for whoever asks; says nothing, takes nothing."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


def by_http(whole: Path, folder: Path) -> None:
    push(whole, str(folder / "remote"))
    handler = functools.partial(Quiet, directory=str(folder / "remote"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        project = pulled(whole, folder / "clone", f"http://127.0.0.1:{server.server_port}")
        new = next(path for path in (project / ".dvc/cache/files/md5").rglob("*") if path.is_file())
        gone = folder / "remote" / new.relative_to(project / ".dvc/cache")
        gone.unlink()
        call(project, "dvc", "push", fails=True)
        server.shutdown()


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """Address of an S3 on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def by_s3(whole: Path, folder: Path) -> None:
    import boto3

    with moto() as address:
        os.environ |= KEYS
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket=BUCKET)
        push(whole, f"s3://{BUCKET}/cache", ("endpointurl", address))
        pulled(whole, folder / "clone", f"s3://{BUCKET}/cache", ("endpointurl", address))


def one_cache(whole: Path, folder: Path) -> None:
    projects = [clone(whole, folder / name) for name in ("one", "other")]
    for project in projects:
        (project / "dvc.lock").unlink()
        call(project, "dvc", "cache", "dir", "--local", str(folder / "cache"))
    failed: list[FailedError] = []

    def run(project: Path) -> None:
        try:
            call(project, "dvc", "repro")
        except FailedError as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(project,)) for project in projects]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    for project in projects:
        same(whole, project)


def experiments(whole: Path, folder: Path) -> None:
    bare = folder / "bare.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(whole), str(bare)], check=True)
    mine, yours = clone(bare, folder / "mine"), clone(bare, folder / "yours")
    for project in (mine, yours):
        call(project, "dvc", "remote", "add", "--local", "-d", "storage", str(folder / "remote"))
    call(mine, "dvc", "exp", "run", "--name", "shared", "-S", "seed=1")
    wanted = outputs(mine)
    call(mine, "dvc", "exp", "push", "origin", "shared")
    call(yours, "dvc", "exp", "pull", "origin", "shared")
    call(yours, "dvc", "exp", "apply", "shared")
    if repeated := ran(call(yours, "dvc", "repro")):
        raise FailedError(f"ran again: {', '.join(repeated)}")
    if outputs(yours) != wanted:
        raise FailedError("other outputs than those of the experiment")


WAYS: dict[str, Callable[[Path, Path], None]] = {
    "folder": by_folder,
    "http": by_http,
    "s3": by_s3,
    "cache": one_cache,
    "experiments": experiments,
}


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--until", metavar="STAGE", help="run the pipeline to this stage alone")
    parser.add_argument("--only", choices=WAYS, action="append")
    parser.add_argument("--keep", action="store_true", help="write results/trials.json")
    asked = parser.parse_args(given)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="tumorxai-sharing-") as name:
        folder = Path(name)
        (folder / "whole").mkdir()
        whole = make_project(folder / "whole")
        if asked.until:
            cut(whole, asked.until)
        started = time.monotonic()
        call(whole, "dvc", "repro")
        subprocess.run(["git", "add", "-A"], cwd=whole, check=True)
        subprocess.run(["git", "commit", "-qm", "run"], cwd=whole, check=True)
        print(
            json.dumps({"event": "run", "seconds": round(time.monotonic() - started), "outputs": len(outputs(whole))})
        )
        for way in asked.only or WAYS:
            row: dict[str, Any] = {"event": way}
            if way == "s3" and not all(map(importlib.util.find_spec, ("moto", "dvc_s3", "boto3"))):
                print(json.dumps(row | {"tried": False, "said": "moto and dvc-s3 are not installed"}), flush=True)
                continue
            started, place = time.monotonic(), folder / way
            place.mkdir()
            try:
                WAYS[way](whole, place)
                row["good"] = True
            except FailedError as error:
                row |= {"good": False, "said": str(error)}
            failed += not row["good"]
            print(json.dumps(row | {"seconds": round(time.monotonic() - started)}), flush=True)
            shutil.rmtree(place)
            if asked.keep:
                trials.write("sharing", {way: ["yes" if row["good"] else "no", round(time.monotonic() - started)]})
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
