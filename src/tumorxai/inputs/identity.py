"""Are the files that are read those of this run? ``dvc.lock`` says what every stage has left; here it is compared.

DVC compares as well, but only when it runs the stages before: what is run alone or by hand, what reads a finished run,
and a file that is put in place meanwhile would go by it.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tumorxai.errors import UserError

LOCK = "dvc.lock"


class Made(NamedTuple):
    """An output: the stage that has written it, and DVC's name of its content."""

    stage: str
    digest: str


def digest(content: bytes) -> str:
    """DVC's name of a content: its MD5, as 32 hexadecimal digits."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def file_digest(path: Path) -> str:
    """The same of a file, which is not held in memory."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def tree_digest(files: Mapping[str, str]) -> str:
    """DVC's name of a folder, from the digests of its files by their paths in it."""
    entries = [{"md5": files[path], "relpath": path} for path in sorted(files)]
    return digest(json.dumps(entries, sort_keys=True).encode()) + ".dir"


def on_disk(path: Path) -> str:
    """DVC's name of a file or folder as it lies there."""
    if not path.is_dir():
        return file_digest(path)
    files = [each for each in path.rglob("*") if each.is_file()]
    return tree_digest({each.relative_to(path).as_posix(): file_digest(each) for each in files})


def pipeline(root: Path) -> dict[str, Any]:
    """The stages that ``dvc.yaml`` declares, by name; none where there is no such file."""
    path = root / "dvc.yaml"
    return dict(_yaml(path.read_text(encoding="utf-8"))["stages"]) if path.exists() else {}


def _yaml(text: str) -> Any:
    """Python's own loader takes half a second for a lock, in every stage; another is there if PyYAML was built so."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text).get_single_data()


def _stages(root: Path) -> dict[str, Any]:
    """The stages as they were run last; none where nothing is recorded.

    DVC leaves stages in the lock that have been renamed or removed; they wrote files that others write now.

    Raises:
        UserError: the lock is none.
    """
    try:
        text = (root / LOCK).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    declared = pipeline(root)
    try:
        stages = {str(name): one for name, one in _yaml(text)["stages"].items()}
        return {name: {kind: _digests(one.get(kind)) for kind in ("deps", "outs")} for name, one in stages.items()
                if not declared or name.partition("@")[0] in declared}  # fmt: skip
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{root / LOCK}: got {type(error).__name__} on reading it, no lock of DVC's; expected the stages that DVC "
            "recorded; run `dvc repro`, or `git checkout dvc.lock`"
        ) from None


def _digests(entries: Any) -> dict[str, str]:
    """Of files and folders by path; those of DVC 2, which hashed texts otherwise, are left out."""
    return {each["path"]: each["md5"] for each in entries or [] if each.get("hash") == "md5" and each.get("md5")}


def _of(outs: Iterable[str], paths: Iterable[str]) -> list[str]:
    """The outputs that some paths name, themselves or as folders around them."""
    return [out for out in outs if any(out == path or out.startswith(f"{path.rstrip('/')}/") for path in paths)]


def check(root: Path, paths: Iterable[str]) -> None:
    """Refuse files that are others than the stages before have left.

    Args:
        root: the project's folder. Where it has no ``dvc.lock``, nothing is known.
        paths: of files and folders relative to it; those that are not there are for their reader to miss.

    Raises:
        UserError: a file is another.
    """
    stages = _stages(root)
    outs = {out: Made(name, own) for name, one in stages.items() for out, own in one["outs"].items()}
    for out in _of(outs, paths):
        if (root / out).exists() and on_disk(root / out) != outs[out].digest:
            raise UserError(
                f"{root / out}: got other bytes than the stage {outs[out].stage} has left, so that it may be of "
                f"another run; expected what {LOCK} records; run `dvc repro` (what stages leave that you run by hand "
                f"is recorded nowhere: to go on from it by hand, move {LOCK} away)"
            )


def check_run(root: Path, paths: Iterable[str]) -> None:
    """The same, and refuse files of which some have been made from others that are no longer there: half a new run.

    Raises:
        UserError: a file is another, or older than what it was made from.
    """
    stages = _stages(root)
    now = {out: Made(name, own) for name, one in stages.items() for out, own in one["outs"].items()}
    wanted = [out for out in _of(now, paths) if (root / out).exists()]
    todo = {now[out].stage for out in wanted}
    seen: set[str] = set()
    while todo - seen:
        name = (todo - seen).pop()
        seen.add(name)
        for dep, read in stages[name]["deps"].items():
            if dep not in now:
                continue
            todo.add(now[dep].stage)
            if now[dep].digest != read:
                raise UserError(
                    f"{root}: got what {name} made of an older {dep} than the one that {now[dep].stage} has left "
                    "since; expected files of one run; run `dvc repro`"
                )
    check(root, wanted)


def checked(main: Callable[[], None], root: Path, paths: Iterable[str]) -> None:
    """Call a stage's ``main`` on files that are of this run, and that stay as they are meanwhile.

    Args:
        main: of the stage.
        root: the project's folder.
        paths: that it reads.

    Raises:
        UserError: a file is another than the stages before have left, or was replaced.
    """
    named = list(paths)
    before = state(root / path for path in named)
    check(root, named)
    main()
    if now := changed(before):
        raise UserError(
            f"got {', '.join(map(str, now))} replaced while a stage read it; expected files that stay as they are, for "
            "this result may be of both; run `dvc repro` again"
        )


State = dict[Path, tuple[int, int, int]]


def state(paths: Iterable[Path]) -> State:
    """What tells that a file was replaced or written to, of files and of all in folders; of what is there."""
    found: State = {}
    for path in paths:
        for each in (path, *(path.rglob("*") if path.is_dir() else ())):
            with suppress(FileNotFoundError):
                about = each.stat()
                if not stat.S_ISREG(about.st_mode):
                    continue
                found[each] = about.st_ino, about.st_size, about.st_mtime_ns
    return found


def changed(before: State) -> list[Path]:
    """Which of the files are no longer as they were."""
    return [path for path, known in before.items() if state([path]).get(path) != known]
