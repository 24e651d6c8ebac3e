"""What DVC records of a stage: it refuses what would be recorded wrongly."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.files import read_json
from tumorxai.inputs import identity, provenance

REPORT = "report/"
CATALOGUE = Path("details/catalogue.json")


def paths(stage: Mapping[str, Any], *kinds: str) -> list[str]:
    """Paths that a stage of ``dvc.yaml`` lists, without their options."""
    return [next(iter(item)) if isinstance(item, dict) else item for kind in kinds for item in stage.get(kind, [])]


def _overlap(one: str, other: str) -> bool:
    """Whether two paths are the same or one lies in the other."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def after(stages: Mapping[str, Any], name: str) -> list[str]:
    """Names of the stages that hang on a stage, directly or through others."""
    found: list[str] = []
    todo = [name]
    while todo:
        made = paths(stages.get(todo.pop(), {}), "outs", "metrics")
        for other, stage in stages.items():
            if other not in found and any(_overlap(dep, out) for dep in paths(stage, "deps") for out in made):
                found.append(other)
                todo.append(other)
    return found


def values(root: Path, keys: Iterable[str]) -> dict[str, Any]:
    """Values of some dotted keys of ``params.yaml``, as ``dvc.yaml`` names them; None where there is none."""
    path = root / "params.yaml"
    content = config.mapping(path) if path.exists() else {}
    found: dict[str, Any] = {}
    for key in keys:
        value: Any = content
        for part in key.replace("${method}", str(content.get("method"))).split("."):
            value = value.get(part) if isinstance(value, dict) else None
        found[key] = value
    return found


def _drop_reports(root: Path, stages: Mapping[str, Any], name: str) -> None:
    """Remove the pages that hang on a stage: if the run fails, none may stand there that tells of another run.

    DVC's cache keeps them; a run that ends as one before gets them back.
    """
    for other in after(stages, name):
        for path in paths(stages[other], "outs"):
            if path.startswith(REPORT):
                (root / path).unlink(missing_ok=True)


_confirm: list[Callable[[], None]] = []  # of the stage that runs in this process


def confirm() -> None:
    """Look whether the running stage's parameters are still those that it began with; nothing outside of a stage.

    A stage calls this itself before it throws away what it would need to go on.

    Raises:
        UserError: they were edited.
    """
    for look in _confirm:
        look()


def guarded(main: Callable[[], None], name: str, root: Path = Path()) -> None:
    """Call a stage's ``main`` between two looks at what DVC records of it only when it has ended.

    Raises:
        UserError: its code or packages are others than the run began with, its parameters were edited under it, or what
            it reads is not of this run.
    """
    stages = identity.pipeline(root)
    keys = stages.get(name, {}).get("params", [])
    before, method = values(root, keys), str(values(root, ["method"])["method"])
    if now := provenance.changed(root, name, method):
        raise UserError(
            f"{name}: got {', '.join(now)} changed since `dvc repro` began; expected code and packages that stay as "
            "they are while it runs; run `dvc repro` again"
        )

    def look() -> None:
        if edited := [key for key, value in values(root, keys).items() if value != before[key]]:
            raise UserError(
                f"{name}: got {', '.join(edited)} edited in params.yaml while it ran; expected them to stay, for DVC "
                "would record this result under the new values; put them back, or run `dvc repro` again for the new"
            )

    if not stages.get(name, {}).get("always_changed"):
        _drop_reports(root, stages, name)
    _confirm.append(look)
    try:
        by_hand(main, name, root)
        look()
    finally:
        _confirm.pop()
    if now := provenance.changed(root, name, method):
        print(
            f"note: {', '.join(now)} changed while {name} ran; its result is recorded as of the code before, and the "
            "next `dvc repro` runs it again",
            file=sys.stderr,
        )


def by_hand(main: Callable[[], None], name: str, root: Path = Path()) -> None:
    """Call a stage's ``main`` outside of DVC, which then records nothing: what it reads must still be of this run.

    Raises:
        UserError: it is not, see :func:`tumorxai.inputs.identity.checked`.
    """
    identity.checked(main, root, paths(identity.pipeline(root).get(name, {}), "deps"))


def reminding(main: Callable[[], None], name: str, root: Path = Path()) -> None:
    """Call a stage's ``main``; a mistake that ends it names the classes that ``catalogue`` left out as well.

    Raises:
        UserError: whatever ended it.
    """
    try:
        main()
    except UserError as error:
        left_out = []
        if name in after(identity.pipeline(root), "catalogue") and (root / CATALOGUE).exists():
            with contextlib.suppress(UserError):  # a damaged file must not hide the mistake
                left_out = read_json(root / CATALOGUE).get("classes_left_out", [])
        if not left_out:
            raise
        raise UserError(f"{error} (left out before, for data.taxonomy has no place: {', '.join(left_out)})") from None
