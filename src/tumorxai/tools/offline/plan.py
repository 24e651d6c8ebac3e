"""A list of runs, each with its parameters, its stages and the files that these read: all that a runner needs.

The data are made at home, by DVC, in a copy of the project (:mod:`tumorxai.tools.offline.side`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tumorxai import config
from tumorxai.errors import UserError, known
from tumorxai.inputs.stage import paths, values
from tumorxai.report.origin import commit
from tumorxai.tools.offline import side
from tumorxai.tools.offline.records import FORMAT, files_of, keep

NAME = re.compile(r"[\w.+-]{1,100}")  # of a run: a folder everywhere
DEFAULT = ("scores",)  # what a run that names no stages is for, with all that it needs


@dataclass(frozen=True)
class Asked:
    """A run that is wanted.

    Attributes:
        name: of it.
        preset: that it is of; None: the project's parameters as they are.
        settings: changes, as for ``dvc exp run -S``.
        stages: that are wanted, with what they need.
    """

    name: str
    preset: str | None
    settings: tuple[str, ...]
    stages: tuple[str, ...]


def of_paper(described: Mapping[str, Any], only: Sequence[str] = (), settings: Sequence[str] = ()) -> list[Asked]:
    """The runs of ``papers/NAME.yaml``, each with its own changes, the list's and those given.

    Raises:
        UserError: there is no such run.
    """
    names = [known("run", name, described["runs"]) for name in only] or list(described["runs"])
    shared = described.get("set", [])
    return [
        Asked(
            name,
            described["preset"],
            (*shared, *described["runs"][name]["set"], *settings),
            tuple(described["stages"]),
        )
        for name in names
    ]


def of_settings(settings: Sequence[str], stages: Sequence[str] = DEFAULT) -> list[Asked]:
    """Every combination of ``KEY=VALUE,VALUE``, named by what differs, as ``dvc exp run --queue -S`` makes them.

    Raises:
        UserError: a setting is none.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps

    try:
        swept = [each["params.yaml"] for each in get_hydra_sweeps({"params.yaml": list(settings)})]
    except (DvcException, ValueError) as error:
        raise UserError(f"got {' '.join(settings)} ({error}); expected KEY=VALUE or KEY=VALUE,VALUE") from None
    except Exception as error:  # hydra's own
        raise UserError(f"got {' '.join(settings)} ({error}); expected KEY=VALUE or KEY=VALUE,VALUE") from None
    differing = [number for number in range(len(settings)) if len({combined[number] for combined in swept}) > 1]
    found = []
    for combined in swept:
        values = [combined[number].partition("=")[2] for number in differing]
        name = re.sub(r"[^\w.+-]+", "-", "-".join(values)).strip("-") or "run"
        found.append(Asked(name, None, tuple(combined), tuple(stages)))
    if len({one.name for one in found}) < len(found) or not all(NAME.fullmatch(one.name) for one in found):
        found = [Asked(f"run{n}", None, one.settings, one.stages) for n, one in enumerate(found)]
    return found


def prepare(root: Path, asked: Iterable[Asked], files: Path, offline: bool) -> dict[str, Any]:
    """Make the data of all runs, by DVC or out of its cache, and say what is to be run on them.

    Args:
        root: the project's folder, which is left as it is.
        asked: the runs.
        files: folder to write what the runs read to, each under its SHA-256.
        offline: whether they are run elsewhere, so that nothing may be read from this machine or a model hub.

    Returns:
        The plan, JSON: ``stages`` (of ``dvc.yaml``, in order) and ``runs`` by name, with ``params`` (the text of
        ``params.yaml``), ``stages``, ``values`` (of the parameters that each stage reads) and ``inputs`` (SHA-256 by
        path).

    Raises:
        UserError: parameters or stages are not valid, or a stage at home fails.
    """
    runs: dict[str, Any] = {}
    used: dict[str, Any] = {}
    with side.copy(root) as made:
        before = (made / "params.yaml").read_bytes()
        stages = side.pipeline(made)
        for one in asked:
            (made / "params.yaml").write_bytes(before)
            params = side.set_params(made, one.preset, one.settings)
            names = side.away(stages, one.stages)
            if offline:
                _check_offline(one.name, params)
            own = side.take_weights(root, made, params)
            side.bring_data(made, stages)
            made_there = {path for name in names for path in paths(stages[name], "outs", "metrics")}
            read = [path for name in names for path in paths(stages[name], "deps") if path not in made_there]
            inputs = {}
            for path in dict.fromkeys([*read, *(name for name in own if not Path(name).expanduser().is_absolute())]):
                for file in files_of(made, path):
                    inputs[file] = keep(made / file, files)
            runs[one.name] = {
                "preset": one.preset,
                "settings": list(one.settings),
                "method": params.method,
                "params": (made / "params.yaml").read_text(encoding="utf-8"),
                "stages": names,
                "values": {name: values(made, stages[name].get("params", [])) for name in names},
                "inputs": inputs,
            }
            used |= {name: stages[name] for name in names}
    order = {name: used[name] for name in stages if name in used}
    return {"format": FORMAT, "commit": commit(root), "stages": order, "runs": runs}


def _check_offline(name: str, params: config.Params) -> None:
    if side.from_hub(params):
        raise UserError(f"{name}: got weights from a model hub; expected a file, for the node has no network; name it")
    for file in side.weights(params):
        if Path(file).expanduser().is_absolute() or ".." in Path(file).parts:
            raise UserError(
                f"{name}: got the weights {file}; expected a path within the project, for the node has no other; copy "
                "the file to data/ and name it so"
            )
