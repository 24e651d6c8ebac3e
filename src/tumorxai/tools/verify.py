"""Are the bytes those that were recorded? DVC compares times and sizes, and restores from its cache what lies there.

Every output that ``dvc.lock`` records is read and hashed, in the workspace and in DVC's cache: one flipped bit shows.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from tqdm import tqdm

from tumorxai.errors import UserError

BLOCK = 2**20  # bytes read at once


class Wrong(NamedTuple):
    """A file that is not what was recorded.

    Attributes:
        path: of the file, relative to the project's folder where it lies in it.
        found: what is there instead.
        advice: what to do.
    """

    path: str
    found: str
    advice: str


class Recorded(NamedTuple):
    """An output as ``dvc.lock`` has it."""

    path: str
    md5: str
    cached: bool


def recorded(root: Path) -> list[Recorded]:
    """Outputs of all stages.

    Raises:
        UserError: there is no ``dvc.lock``, or it is none.
    """
    path = root / "dvc.lock"
    try:
        stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
        declared = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        found = {
            out["path"]: out["md5"] for name in declared for out in stages.get(name, {}).get("outs", ()) if "md5" in out
        }
    except FileNotFoundError as error:
        raise UserError(
            f"got no {error.filename}; expected a pipeline that has run; run from the project's folder"
        ) from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        raise UserError(
            f"got a {path} that is no lock of DVC's; expected one; `git checkout {path}` or run again"
        ) from None
    kept = set(_not_cached(declared))
    return [Recorded(name, md5, name not in kept) for name, md5 in found.items()]


def _not_cached(stages: dict[str, Any]) -> Iterator[str]:
    for stage in stages.values():
        for out in (*stage.get("outs", ()), *stage.get("metrics", ()), *stage.get("plots", ())):
            if isinstance(out, dict):
                yield from (name for name, options in out.items() if (options or {}).get("cache") is False)


def cache(root: Path) -> Path:
    """DVC's cache of a project."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], cwd=root, text=True, stdout=subprocess.PIPE, check=False
    )
    return (root / (done.stdout.strip() or ".dvc/cache")) / "files" / "md5"


def verify(root: Path) -> list[Wrong]:
    """Hash what ``dvc.lock`` records.

    Args:
        root: the project's folder.

    Returns:
        What is wrong; a file that is only missing from the cache is not, since a remote may have it.

    Raises:
        UserError: there is nothing recorded.
    """
    store, outs = cache(root), recorded(root)
    wrong: list[Wrong] = []
    for out in tqdm(outs, "checking", unit="output", disable=None):
        entries = _entries(store, out.md5) if out.md5.endswith(".dir") else [(out.path, out.md5)]
        damaged = [_object(store, md5) for _, md5 in entries] if out.cached else []
        wrong += [
            Wrong(
                str(path),
                "other bytes than its name says",
                f"remove it, then `dvc pull` or `dvc repro --force` makes {out.path} again",
            )
            for path in damaged
            if path is not None
        ]
        place = root / out.path
        if not place.exists():
            wrong.append(Wrong(out.path, "nothing", "`dvc checkout` or `dvc repro` brings it back"))
        elif (_tree(place) if place.is_dir() else _md5(place)) != out.md5:
            wrong.append(
                Wrong(
                    out.path,
                    "other bytes than dvc.lock records",
                    f"remove it, then `dvc checkout {out.path}`; or run `dvc repro` if it was changed on purpose",
                )
            )
    return wrong


def _object(store: Path, md5: str) -> Path | None:
    """Where the cache has a file, if its bytes are others than its name says."""
    path = store / md5[:2] / md5[2:]
    return path if path.is_file() and _md5(path) != md5.removesuffix(".dir") else None


def _entries(store: Path, md5: str) -> list[tuple[str, str]]:
    """A folder's own entry in the cache, and those of its files."""
    path = store / md5[:2] / md5[2:]
    own = [("", md5)]
    try:
        return own + [(entry["relpath"], entry["md5"]) for entry in json.loads(path.read_bytes())]
    except (OSError, ValueError, KeyError, TypeError):  # missing, or damaged, which the hash will say
        return own


def _md5(path: Path) -> str:
    found = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            found.update(block)
    return found.hexdigest()


def _tree(folder: Path) -> str:
    """The hash by which DVC knows a folder: of the list of its files and their hashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    listed = [{"md5": _md5(path), "relpath": name} for name, path in sorted(zip(names, files, strict=True))]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"
