"""The parameter ``preset`` only names: changed alone (``dvc exp run -S preset=…``) it names what does not run."""

from __future__ import annotations

from pathlib import Path

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.inputs import git


def check(root: Path) -> None:
    """Refuse a preset's name that was changed since the commit, if not one value has followed it.

    Args:
        root: the project's folder.

    Raises:
        UserError: of all values in which the preset differs from the committed parameters, none is in force.
    """
    here = config.mapping(root / "params.yaml")
    try:
        committed = config.parse(git.ask(root, "show", "HEAD:./params.yaml") or "", "params.yaml of the commit")
    except UserError:  # then there is nothing to compare with
        return
    file = root / "presets" / f"{here['preset']}.yaml"
    if not isinstance(committed, dict) or committed.get("preset") == here["preset"] or not file.is_file():
        return
    trees = config.preset(file), committed, here
    own, before, now = ({name: str(value) for name, value in config.flatten(tree)} for tree in trees)
    meant = [key for key, value in own.items() if key != "preset" and before.get(key) != value]
    if meant and all(now.get(key) != own[key] for key in meant):
        name = here["preset"]
        raise UserError(
            f"got preset {name} with none of the {len(meant)} values in which it differs from the committed "
            f"{committed.get('preset')}, such as {meant[0]} {own[meant[0]]}; expected its values, and `preset` is only "
            f"their name; run `tumorxai preset {name} && dvc exp run`, with `-S` for what shall differ from it"
        )
