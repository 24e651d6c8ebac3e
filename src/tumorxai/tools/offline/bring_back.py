"""What a runner has left, taken into DVC's cache as if its stages had run here, or refused.

Each run's data are made here again, by DVC, in a copy of the project. Only what was computed from the same bytes, the
same parameters and the same code is taken. A later `dvc repro`, `dvc exp run` or `make papers` finds it in the cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.files import read_json, sha256
from tumorxai.inputs import provenance
from tumorxai.inputs.stage import paths, values
from tumorxai.tools.offline import side
from tumorxai.tools.offline.records import FORMAT, RECORDS, link, remove

AGAIN = "copy the result folder again"


@dataclass
class Brought:
    """What became of a result folder.

    Attributes:
        taken: stages that went into the cache, by run.
        refused: why, by run.
        here: the run whose parameters are the project's: its files lie in the project now.
        notes: packages of other versions, by run.
    """

    taken: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    here: str | None = None
    notes: dict[str, str] = field(default_factory=dict)


def bring(root: Path, folder: Path, other_versions: bool = False) -> Brought:
    """Take in all runs of a result folder.

    Args:
        root: the project's folder.
        folder: that a runner has written.
        other_versions: take what was computed with other versions of packages than those here, too.

    Raises:
        UserError: it is no such folder.
    """
    runs = sorted(path.parent.parent for path in folder.glob(f"*/{RECORDS}/*.json"))
    if not runs:
        raise UserError(f"got {folder} without a run that has ended a stage; expected the result folder of a runner")
    brought = Brought()
    current = dict(config.flatten(config.mapping(root / "params.yaml")))
    with side.copy(root) as made:
        stages = side.pipeline(made)
        for run in dict.fromkeys(runs):
            try:
                text = _params(run)
                (made / "params.yaml").write_text(text, encoding="utf-8")
                params = config.load(made / "params.yaml")
                side.take_weights(root, made, params)
                side.bring_data(made, stages)
                taken, notes = _check(made, stages, run, params.method, other_versions)
                _put(made, stages, run, taken)
                brought.taken[run.name] = taken
                if notes:
                    brought.notes[run.name] = notes
                if dict(config.flatten(config.mapping(made / "params.yaml"))) == current:
                    side.bring_data(root, stages)
                    _check(root, stages, run, params.method, other_versions)
                    _put(root, stages, run, taken)
                    brought.here = run.name
            except UserError as error:
                brought.refused[run.name] = str(error)
    return brought


def _params(run: Path) -> str:
    path = run / "params.yaml"
    if not path.is_file():
        raise UserError(f"got no {path}; expected the run's parameters; {AGAIN}")
    return path.read_text(encoding="utf-8")


def _check(
    made: Path, stages: Mapping[str, Any], run: Path, method: str, other_versions: bool
) -> tuple[list[str], str | None]:
    """Look at all that a run has left, before any of it is taken; its stages, and a word on versions.

    Raises:
        UserError: something does not fit; what was got, what was expected, and what to do.
    """
    known: dict[str, str] = {}  # SHA-256 of what the stages before have left, by path
    taken, versions = [], set[str]()
    for name, stage in stages.items():
        path = run / RECORDS / f"{name}.json"
        if not path.exists():
            continue
        record = read_json(path)
        if record.get("format") != FORMAT:
            raise UserError(
                f"{path}: got format {record.get('format')}; expected {FORMAT}; bring it back by the release"
            )
        _check_outputs(run, name, stage, record)
        _check_values(made, name, stage, record)
        _check_read(made, name, stage, record, known)
        versions |= set(_check_code(made, name, method, record, other_versions))
        known |= record["outs"]
        taken.append(name)
    return taken, ", ".join(sorted(versions)) or None


def _check_outputs(run: Path, name: str, stage: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Are the outputs the ones that ``dvc.yaml`` names, with the bytes that the runner saw?"""
    listed = paths(stage, "outs", "metrics")
    for out in listed:
        if out not in record["outs"] and out not in record["folders"]:
            raise UserError(f"{name}: got no {out}; expected it, by dvc.yaml; make a new bundle and run that")
    for file, wanted in record["outs"].items():
        if not any(Path(file).is_relative_to(out) for out in listed):
            raise UserError(
                f"{name}: got {file}; expected {', '.join(listed)}; run it again with this project's bundle"
            )
        found = sha256(run / file) if (run / file).is_file() else "no file"
        if found != wanted:
            raise UserError(f"{run / file}: got {found}; expected the SHA-256 {wanted}; {AGAIN}")


def _check_values(made: Path, name: str, stage: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Was it computed with the parameters that the run's ``params.yaml`` has?"""
    wanted = json.loads(json.dumps(values(made, stage.get("params", []))))
    got = record["values"]
    differing = sorted(key for key in wanted.keys() | got.keys() if wanted.get(key) != got.get(key))
    if differing:
        raise UserError(
            f"{name}: got a result of other {', '.join(differing)} than its params.yaml has; expected the same; {AGAIN}"
        )


def _check_read(
    made: Path, name: str, stage: Mapping[str, Any], record: Mapping[str, Any], known: Mapping[str, str]
) -> None:
    """Was it computed from the bytes that the stages before have here, or left there?"""
    own = (provenance.RECORDS / f"{name}.json").as_posix()  # of code and packages: looked into on its own
    listed = paths(stage, "deps")
    for file, got in record["deps"].items():
        if file == own:
            continue
        wanted = known.get(file) or (sha256(made / file) if (made / file).is_file() else None)
        if got != wanted or not any(Path(file).is_relative_to(dep) for dep in listed):
            raise UserError(
                f"{name}: got a result of {file} with the SHA-256 {got}; expected {wanted or 'no such file'}; the data "
                "or a stage before are others here: make a new bundle and run that"
            )
    if absent := [dep for dep in listed if not any(Path(file).is_relative_to(dep) for file in record["deps"])]:
        raise UserError(f"{name}: got a result without {', '.join(absent)}; expected it read; make a new bundle")


def _check_code(made: Path, name: str, method: str, record: Mapping[str, Any], other_versions: bool) -> Iterator[str]:
    """Was it computed by the code that is here? Packages of other versions, in words.

    Raises:
        UserError: by other code, or by packages of other versions, and these were not allowed.
    """
    here, there = provenance.record(made, name, method), record["code"]
    files, packages = (
        sorted(key for key in here[kind].keys() | there[kind].keys() if here[kind].get(key) != there[kind].get(key))
        for kind in ("files", "packages")
    )
    if files:
        raise UserError(
            f"{name}: got a result of other code ({', '.join(files)}); expected the code that is here; "
            "check out the commit that the bundle was made from, or make a new bundle and run that"
        )
    words = [
        f"{key} {there['packages'].get(key, 'absent')} (here {here['packages'].get(key, 'absent')})" for key in packages
    ]
    if words and not other_versions:
        raise UserError(
            f"{name}: got a result of {', '.join(words)}; expected the versions that are here; `--other-versions` "
            "takes it, and DVC will then record it as of the versions here"
        )
    yield from words


def _put(root: Path, stages: Mapping[str, Any], run: Path, taken: list[str]) -> None:
    """Put outputs into a project and have DVC record them.

    Raises:
        UserError: DVC does not take them for what the stages would leave.
    """
    for name in taken:
        record = read_json(run / RECORDS / f"{name}.json")
        remove(root, paths(stages[name], "outs", "metrics"))
        for path in record["folders"]:
            (root / path).mkdir(parents=True)
        for file in record["outs"]:
            link(run / file, root / file, copied=True)
    side.dvc(root, "commit", "--quiet", "--force", *taken)
    if left := side.changed(root, taken):
        raise UserError(
            f"got {', '.join(left)} not recorded by DVC; expected all of {', '.join(taken)}; run `dvc status`"
        )


def lines(brought: Brought) -> list[str]:
    """For readers."""
    said = [f"{name}: {', '.join(stages)}" for name, stages in brought.taken.items()]
    said += [f"{name}: computed with {text}" for name, text in brought.notes.items()]
    if brought.here:
        said.append(f"{brought.here} has the project's parameters: its files lie here now; `dvc repro` does the rest")
    elif brought.taken:
        said.append("`dvc exp run -S …` or `make papers` with the same settings takes them from DVC's cache")
    return said
