"""Is this machine ready for a run? Every check says what it found and what to do; none needs torch to be there."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from tumorxai.errors import UserError

PYTHON = ((3, 11), (3, 13))  # oldest and newest
ENOUGH, LITTLE = 10.0, 1.0  # free disk, GB: below, a warning and a failure


@dataclass(frozen=True)
class Check:
    """One line of the doctor's.

    Attributes:
        name: what was looked at.
        state: ``ok``; ``warn``: some things will not work; ``fail``: a run will not work.
        found: what there is.
        advice: what to do, empty where nothing is to be done.
    """

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def examine(root: Path) -> list[Check]:
    """Look at everything that a run needs.

    Args:
        root: the project's folder.
    """
    checks: dict[str, Callable[[], Check]] = {
        "split": lambda: _split(root),
        "python": _python,
        "packages": _packages,
        "torch": _torch,
        "gpu": _gpu,
        "git": lambda: _git(root),
        "dvc": lambda: _dvc(root),
        "params": lambda: _params(root),
        "kaggle": lambda: _kaggle(root),
        "mirror": lambda: _mirror(root),
        "versions": lambda: _versions(root),
        "disk": lambda: _disk(root),
    }
    found = []
    for name, check in checks.items():
        try:
            found.append(check())
        except Exception as error:  # a broken package must not hide what the other checks find
            found.append(
                Check(name, "fail", f"{type(error).__name__}: {error}", "repair the installation: `make setup`")
            )
    return found


def _split(root: Path) -> Check:
    """The verdict on the split of the run that is there."""
    from tumorxai.audit.verdict import LEAKING
    from tumorxai.files import read_json

    try:
        verdict = read_json(root / "details" / "leakage.json")["verdict"]
        said = f"{verdict['level']}. {verdict['sentence']}"
    except FileNotFoundError:
        return Check("split", "ok", "not audited yet")
    except (ValueError, KeyError, TypeError):
        return Check("split", "warn", "details/leakage.json holds no verdict", "run `dvc repro audit`")
    if verdict["level"] == LEAKING:
        return Check(
            "split", "warn", said, "believe no score of this run; set split.protocol to one that keeps them apart"
        )
    return Check("split", "ok", said)


def _python() -> Check:
    version, (oldest, newest) = sys.version_info[:2], PYTHON
    said = sys.version.split()[0]
    if oldest <= version <= newest:
        return Check("python", "ok", said)
    span = " to ".join(".".join(map(str, one)) for one in PYTHON)
    return Check("python", "fail", said, f"install Python {span} and run `make PYTHON=python3.12 setup`")


def _packages() -> Check:
    from packaging.requirements import Requirement

    wrong, count = [], 0
    for text in metadata.requires("tumorxai") or []:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"no {requirement.name}")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version}, expected {requirement.specifier}")
    if wrong:
        return Check("packages", "fail", "; ".join(wrong), "run `make setup`")
    return Check("packages", "ok", f"{count} of {count}")


def _torch() -> Check:
    try:
        import torch
    except Exception as error:  # a missing shared library is an OSError, a clash of versions anything
        return Check("torch", "fail", f"cannot be imported ({error})", "run `make setup`")
    return Check("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")


def _gpu() -> Check:
    card = shutil.which("nvidia-smi") is not None
    try:
        import torch

        if torch.cuda.is_available():
            names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
            said = ", ".join(f"{one.name}, {one.total_memory / 2**30:.0f} GiB" for one in names)
            return Check("gpu", "ok", said)
    except Exception as error:
        return Check(
            "gpu", "warn", f"not known, for torch does not work ({type(error).__name__})", "repair torch first"
        )
    if card:
        return Check(
            "gpu", "warn", "there is one that torch does not reach", "install a CUDA build of torch: pytorch.org"
        )
    return Check("gpu", "ok", "none; the demo and small data need none")


def _git(root: Path) -> Check:
    if not shutil.which("git"):
        return Check("git", "fail", "not installed", "install git: DVC's experiments are commits")

    def ask(*words: str) -> str | None:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)  # noqa: S603, S607
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "--short", "HEAD")
    if commit is None:
        return Check("git", "fail", f"no commit in {root.resolve()}", "clone the project, or run `git init` and commit")
    changed = len((ask("status", "--porcelain") or "").splitlines())
    return Check("git", "ok", f"commit {commit}" + (f", {changed} files changed" if changed else ""))


def _dvc(root: Path) -> Check:
    try:
        version = metadata.version("dvc")
    except metadata.PackageNotFoundError:
        return Check("dvc", "fail", "not installed", "run `make setup`")
    noted = root / ".dvc" / "tmp" / "rwlock"  # which DVC writes in place, so that a kill can leave half of it
    try:
        json.loads(noted.read_text(encoding="utf-8") if noted.exists() else "{}")
    except (OSError, ValueError):
        return Check("dvc", "fail", f"{noted} is damaged", f"remove {noted} while no `dvc` runs in this folder")
    if not shutil.which("dvc"):
        return Check("dvc", "warn", f"{version}, not on the path", "run `source .venv/bin/activate`")
    if not (root / ".dvc").is_dir() or not (root / "dvc.yaml").is_file():
        return Check("dvc", "fail", f"{version}, but no pipeline in {root.resolve()}", "run from the project's folder")
    return Check("dvc", "ok", version)


def _params(root: Path) -> Check:
    from tumorxai import config
    from tumorxai.pretrain import settings

    try:
        params = config.load(root / "params.yaml")
        settings.check(params, root)
    except UserError as error:
        return Check("params", "fail", " ".join(str(error).split()), "correct params.yaml, or `tumorxai preset demo`")
    return Check("params", "ok", f"preset {params.preset}, method {params.method}")


def _slugs(root: Path) -> list[str]:
    """The data sets that the parameters want from Kaggle or a mirror."""
    from tumorxai import config

    try:
        wanted = config.load(root / "params.yaml").data.sources
    except UserError:  # its own check says so
        return []
    return [source for source in wanted if isinstance(source, str) and source != "phantom"]


def _from_kaggle(root: Path) -> list[str]:
    """Names of their archives."""
    from tumorxai.archives.sources import archive_name

    return [archive_name(slug) for slug in _slugs(root)]


def _cached(name: str) -> Path:
    from tumorxai.archives.places import cached

    return cached("archives") / name


def _key() -> tuple[str, str]:
    """Where a key is, without looking into it further than needed, and what is wrong with it."""
    if os.environ.get("KAGGLE_API_TOKEN"):
        return "KAGGLE_API_TOKEN", ""
    if os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY"):
        return "KAGGLE_USERNAME and KAGGLE_KEY", ""
    folders = [os.environ.get("KAGGLE_CONFIG_DIR"), "~/.kaggle", "~/.config/kaggle"]
    for folder in (Path(each).expanduser() for each in folders if each):
        for name in ("kaggle.json", "access_token"):
            file = folder / name
            if not file.is_file():
                continue
            if stat.S_IMODE(file.stat().st_mode) & 0o077:
                return str(file), f"others can read it: run `chmod 600 {file}`"
            if name == "kaggle.json":
                try:
                    content = json.loads(file.read_text(encoding="utf-8"))
                    whole = isinstance(content, dict) and {"username", "key"} <= content.keys()
                except (OSError, ValueError):
                    whole = False
                if not whole:
                    return str(file), "it holds no username and key: download it again from kaggle.com/settings"
            return str(file), ""
    return "", ""


def _kaggle(root: Path) -> Check:
    place, wrong = _key()
    if wrong:
        return Check("kaggle", "warn", f"a key in {place}", wrong)
    if place:
        return Check("kaggle", "ok", f"a key in {place}")
    missing = [name for name in _from_kaggle(root) if not _cached(name).is_file()]
    if not missing:
        return Check("kaggle", "ok", "no key, and none is needed for data.sources")
    if os.environ.get("TUMORXAI_MIRROR"):
        return Check("kaggle", "ok", "no key; archives come from the mirror")
    advice = "put a key into ~/.kaggle/kaggle.json, or set TUMORXAI_MIRROR to a folder of OWNER--SLUG.zip files"
    return Check("kaggle", "fail", f"no key for {', '.join(missing)}", advice)


def _mirror(root: Path) -> Check:
    set_to = os.environ.get("TUMORXAI_MIRROR")
    if not set_to:
        return Check("mirror", "ok", "TUMORXAI_MIRROR is not set")
    folder = Path(set_to)
    if not folder.is_absolute() or not folder.is_dir():
        return Check("mirror", "fail", f"no folder {folder}", "set TUMORXAI_MIRROR to an absolute path, or unset it")
    missing = [name for name in _from_kaggle(root) if not (folder / name).is_file()]
    if missing:
        return Check("mirror", "fail", f"{folder} lacks {', '.join(missing)}", "add them, or change data.sources")
    return Check("mirror", "ok", f"{folder}, {len(list(folder.glob('*.zip')))} archives")


def _versions(root: Path) -> Check:
    """Which version of each data set was fetched, and whether Kaggle has a newer one; asked with a key alone."""
    from tumorxai.archives.sources import archive_name
    from tumorxai.fetch import kaggle
    from tumorxai.files import read_json

    slugs = _slugs(root)
    if not slugs:
        return Check("versions", "ok", "no data set from Kaggle in data.sources")
    try:
        records = read_json(root / "data" / "fetched.json")
    except FileNotFoundError:
        return Check("versions", "ok", "nothing fetched yet")
    except ValueError as error:
        return Check("versions", "warn", f"data/fetched.json is damaged ({error})", "run `dvc repro fetch`")
    said, old = [], []
    reachable = bool(_key()[0])
    for slug in slugs:
        entry = records.get(slug)
        if not isinstance(entry, dict):
            said.append(f"{slug}: not fetched yet")
            continue
        number = entry.get("version")
        version = kaggle.Version(number, entry.get("published")) if isinstance(number, int) else None
        line = f"{slug}: {version or 'version not known'}"
        if entry.get("from") != "kaggle":
            said.append(f"{line}, from a mirror")
            continue
        newest = kaggle.newest(slug) if reachable else None
        reachable = newest is not None  # who was silent once is not waited for again
        if newest is None:
            line += ", Kaggle not asked" if not _key()[0] else ", no answer from Kaggle"
        elif version is None or newest.number > version.number:
            line += f", newest {newest}"
            if version:
                old.append(kaggle.renewal(_cached(archive_name(slug))))
        else:
            line += ", the newest"
        said.append(line)
    return Check(
        "versions", "warn" if old else "ok", "; ".join(said), "for the newest, " + "; ".join(old) if old else ""
    )


def _disk(root: Path) -> Check:
    free = shutil.disk_usage(root).free / 1e9
    if free >= ENOUGH:
        return Check("disk", "ok", f"{free:.0f} GB free")
    state: Literal["warn", "fail"] = "warn" if free >= LITTLE else "fail"
    advice = "free some: DVC keeps every result; `dvc gc --workspace` removes what the current files do not need"
    return Check("disk", state, f"{free:.1f} GB free", advice)
