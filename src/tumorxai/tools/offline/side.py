"""A copy of the project beside the project, which shares DVC's cache: other parameters are tried there.

What is computed there is taken from the cache by a later run here, and nothing here is touched.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.files import DAY
from tumorxai.inputs.stage import after, paths
from tumorxai.tools import project
from tumorxai.tools.presets import apply

FOLDER = Path(".tumorxai")  # ignored by git; DVC does not look into a project within a project
OUTSIDE = {"data/inputs/sources.json", "data/inputs/foreign.json"}  # who reads these reads archives as well


@contextmanager
def copy(root: Path) -> Iterator[Path]:
    """Make the copy, and remove it.

    Raises:
        UserError: the folder is no project of DVC's.
    """
    for name in ("dvc.yaml", "params.yaml", ".dvc"):
        if not (root / name).exists():
            raise UserError(f"got {root} without {name}; expected a project; run from its folder, or name it by --root")
    (root / FOLDER).mkdir(exist_ok=True)
    for left in (root / FOLDER).glob("side-*"):  # of a process that was killed
        if time.time() - left.stat().st_mtime > DAY:
            shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix="side-", dir=root / FOLDER)).resolve()
    try:
        for name in (*project.FILES, "src", "data/inputs"):
            if (root / name).is_dir():
                shutil.copytree(root / name, made / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif (root / name).exists():
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / name, made / name)
        _link_rest(root, made)
        _share_cache(root, made)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _link_rest(root: Path, made: Path) -> None:
    """Let the copy see what else lies in the project and no stage writes: images, weights and tables of the user's."""
    written = {Path(out) for stage in pipeline(made).values() for out in paths(stage, "outs", "metrics")}
    for folder in (Path(), Path("data")):
        for entry in (root / folder).iterdir() if (root / folder).is_dir() else ():
            own = folder / entry.name
            made_here = any(out == own or own in out.parents for out in written)
            if not (made_here or entry.name.startswith(".") or entry.name == "dvc.lock" or (made / own).exists()):
                (made / own).parent.mkdir(exist_ok=True)
                (made / own).symlink_to(entry.resolve())


def _share_cache(root: Path, made: Path) -> None:
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)  # it would print between our lines, and into our JSON
    with Repo(str(root)) as own:
        folder, settings = str(own.cache.legacy.path), dict(own.config["cache"])
    with Repo.init(str(made), no_scm=True) as repo, repo.config.edit("repo") as edited:
        edited["core"] |= {"analytics": False, "check_update": False}
        edited["cache"]["dir"] = folder
        if kinds := settings.get("type"):
            edited["cache"]["type"] = ",".join(kinds)


def pipeline(root: Path) -> dict[str, Any]:
    """The stages of ``dvc.yaml``, each before those that hang on it."""
    stages: dict[str, Any] = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name: stages[name] for name in sorted(stages, key=lambda name: -len(after(stages, name)))}


def at_home(stages: dict[str, Any]) -> set[str]:
    """Stages that run where the data are: up to pretraining, those that read archives, and what hangs on these."""
    before = {name for name in stages if "pretrain" in after(stages, name)}
    outside = {name for name in stages.keys() - before if OUTSIDE & set(paths(stages[name], "deps"))}
    return before | outside | {name for one in outside for name in after(stages, one)}


def away(stages: dict[str, Any], targets: Sequence[str]) -> list[str]:
    """Stages that can run without DVC for the sake of ``targets``, in order.

    Raises:
        UserError: a target is none, or none of them can.
    """
    home = at_home(stages)
    for target in targets:
        if target not in stages:
            raise UserError(f"got the stage {target!r}; expected one of {', '.join(stages)}")
        if target in home and "pretrain" not in after(stages, target):
            raise UserError(
                f"got the stage {target}, which reads the archives; expected stages that follow from packed images; "
                "leave it out, and let `dvc repro` run it at home afterwards"
            )
    found = [name for name in stages if name not in home and {name, *after(stages, name)} & set(targets)]
    if not found:
        raise UserError(f"got {', '.join(targets)}; expected a stage that trains, such as pretrain or finetune")
    return found


def set_params(made: Path, preset: str | None, settings: Sequence[str]) -> config.Params:
    """Make a preset, or what stands there, with changes as by ``dvc exp run -S`` the copy's parameters.

    Raises:
        UserError: they are not valid.
    """
    from dvc.exceptions import InvalidArgumentError
    from dvc.utils.hydra import apply_overrides

    if preset is not None:
        apply(preset, made / "presets", made / "params.yaml")
    try:
        apply_overrides(made / "params.yaml", list(settings))
    except InvalidArgumentError as error:
        raise UserError(
            f"got {' '.join(settings)} ({error.__cause__ or error}); expected KEY=VALUE of params.yaml"
        ) from None
    return config.load(made / "params.yaml")


def dvc(made: Path, *arguments: str) -> str:
    """What DVC prints in a project on standard output.

    Raises:
        UserError: it fails; what it says on standard error is shown.
    """
    paths = [str(made / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=made, env=environment, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise UserError(f"`dvc {' '.join(arguments)}` has failed; what it said stands above; correct it and run again")
    return done.stdout


def bring_data(made: Path, stages: dict[str, Any]) -> None:
    """Run what runs at home up to pretraining, or take it from DVC's cache.

    Raises:
        UserError: a stage fails.
    """
    before = {name for name in stages if "pretrain" in after(stages, name)}
    dvc(made, "repro", "--quiet", *(name for name in before if not set(after(stages, name)) & before))


def changed(made: Path, names: Sequence[str]) -> list[str]:
    """Which of some stages ``dvc repro`` would run."""
    status: dict[str, Any] = json.loads(dvc(made, "status", "--json", *names).splitlines()[-1])
    return [name for name in names if name in status]


def weights(params: config.Params) -> list[str]:
    """Files of weights, besides published ones by their name, that a run starts from."""
    given = (params.methods[params.method].get("weights"), params.pretrain.init)
    return [str(name) for name in given if name and name != "hub"]


def from_hub(params: config.Params) -> bool:
    """Whether a run starts from weights that a model hub has."""
    named = params.pretrain.init, params.methods[params.method].get("weights")
    return "hub" in named or (params.method == "pretrained" and not named[1])


def take_weights(root: Path, made: Path, params: config.Params) -> list[str]:
    """Put a run's own weights where its parameters say, in the copy; their paths.

    Raises:
        UserError: one is not there.
    """
    found = weights(params)
    for name in found:
        file = root / Path(name).expanduser()
        if not file.is_file():
            raise UserError(f"got no {name}, which the parameters name as weights; expected the file; put it there")
        place = made / Path(name).expanduser()  # an absolute path is the same in the copy
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    return found
