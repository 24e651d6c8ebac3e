"""What a revision's ``dvc.lock`` says of a file: which stage wrote it, from what, with which parameters.

A revision's ``params.yaml`` says what was asked for; only the lock says what was run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.inputs.identity import tree_digest

Hash = tuple[str, str]  # its kind, ``md5`` or that of DVC 2, and its digits; no digits: the file is not there
Listing = Callable[[str], Mapping[str, str] | None]


def as_text(tree: Mapping[str, Any]) -> dict[str, str]:
    """Dotted names of nested parameters, and their values as YAML writes them."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in config.flatten(tree)}


@dataclass(frozen=True)
class Stage:
    """A stage as it was run last.

    Attributes:
        name: in ``dvc.yaml``.
        deps: what it read, by path.
        outs: what it wrote, by path.
        params: the parameters that it read, flat.
    """

    name: str
    deps: dict[str, Hash]
    outs: dict[str, Hash]
    params: dict[str, str]


def _hashes(entries: Any) -> dict[str, Hash]:
    return {each["path"]: (each.get("hash", "md5-dos2unix"), str(each.get("md5", ""))) for each in entries or []}


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


class Lock:
    """The stages of a ``dvc.lock``.

    Args:
        stages: by name.
        listing: digests of the files of a folder by their paths in it, from the folder's digest; None: not known.
    """

    def __init__(self, stages: Mapping[str, Stage], listing: Listing) -> None:
        self.stages = dict(stages)
        self._listing = listing
        self._changed: dict[str, tuple[str, ...]] = {}

    @classmethod
    def parse(cls, text: str, pipeline: str | None, listing: Listing) -> Lock:
        """Read a lock.

        Args:
            text: of ``dvc.lock``.
            pipeline: text of the ``dvc.yaml`` beside it, None without one. DVC leaves stages in the lock that have
                been renamed or removed; they wrote files that others write now.
            listing: see the class.

        Raises:
            UserError: the text is no lock of DVC 2 or 3.
        """
        try:
            content = yaml.safe_load(text)
            declared = yaml.safe_load(pipeline) if pipeline is not None else None
            stages = {}
            for name, entry in content["stages"].items():
                if declared is not None and str(name).partition("@")[0] not in declared["stages"]:
                    continue
                params: dict[str, str] = {}
                for file, values in (entry.get("params") or {}).items():
                    flat = as_text(values or {})
                    params |= flat if file == "params.yaml" else {f"{file}:{key}": flat[key] for key in flat}
                stages[name] = Stage(name, _hashes(entry.get("deps")), _hashes(entry.get("outs")), params)
        except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
            raise UserError(
                f"dvc.lock: got {type(error).__name__} on reading it, no lock of DVC's; expected the stages that DVC "
                "recorded; run `dvc repro`, or `git checkout dvc.lock`"
            ) from None
        return cls(stages, listing)

    def producer(self, path: str) -> Stage | None:
        """The stage that wrote a file or folder, itself or the folder that it lies in."""
        return next((one for one in self.stages.values() if any(_within(path, out) for out in one.outs)), None)

    def out(self, path: str) -> tuple[str, Hash] | None:
        """Path and hash of the output that a path is or lies in."""
        stage = self.producer(path)
        return next(((out, own) for out, own in stage.outs.items() if _within(path, out)), None) if stage else None

    def hash(self, path: str) -> Hash | None:
        """What a path is now, by the stage that wrote it; None: no stage did, or the folder's list is not at hand."""
        if (found := self.out(path)) is None:
            return None
        out, own = found
        if path == out:
            return own
        if (files := self._listing(own[1])) is None:
            return None
        inner = path[len(out.rstrip("/")) + 1 :]
        if inner in files:
            return "md5", files[inner]
        below = {name[len(inner) + 1 :]: files[name] for name in files if name.startswith(inner + "/")}
        return "md5", tree_digest(below) if below else ""

    def parents(self, stage: Stage) -> list[Stage]:
        """The stages whose outputs a stage reads."""
        return [
            one
            for one in self.stages.values()
            if one is not stage
            and any(_within(dep, out) or _within(out, dep) for dep in stage.deps for out in one.outs)
        ]

    def changed(self, stage: Stage) -> tuple[str, ...]:
        """Names of the stages that wrote something else since ``stage``, or a stage before it, read it.

        Not empty: what the stage wrote belongs to another state of the project, and the revision has merely kept it.
        """
        if stage.name in self._changed:
            return self._changed[stage.name]
        self._changed[stage.name] = ()  # ends a circle, which no pipeline has and an edited file may have
        found = []
        for path, read in stage.deps.items():
            by, now = self.producer(path), self.hash(path)
            # Hashes of two kinds do not compare: a lock that DVC 2 began and DVC 3 went on with.
            if by is not None and by is not stage and now is not None and now[0] == read[0] and now != read:
                found.append(by.name)
        if not found:
            found = [name for parent in self.parents(stage) for name in self.changed(parent)]
        self._changed[stage.name] = tuple(dict.fromkeys(found))
        return self._changed[stage.name]

    def _upstream(self, stage: Stage) -> list[Stage]:
        """A stage and all stages before it, the nearest first."""
        queue, seen = [stage], {stage.name}
        for one in queue:  # grows
            fresh = [parent for parent in self.parents(one) if parent.name not in seen]
            seen |= {parent.name for parent in fresh}
            queue += fresh
        return queue

    def read(self, stage: Stage) -> dict[str, Hash]:
        """All that a stage and the stages before it have read, by path."""
        return {path: own for one in reversed(self._upstream(stage)) for path, own in one.deps.items()}

    def params(self, stage: Stage) -> dict[str, str]:
        """What a stage and all stages before it were run with, flat.

        Where a stage before has read another value of the same parameter (someone ran one stage alone), that one is
        called ``STAGE:KEY``.
        """
        found: dict[str, str] = {}
        for one in self._upstream(stage):
            for key, value in one.params.items():
                if found.setdefault(key, value) != value:
                    found[f"{one.name}:{key}"] = value
        return found
