"""Which commit and which preset a run is of, said truthfully: with what was changed and not committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tumorxai import config
from tumorxai.inputs import git

# What a result hangs on. What a run writes (dvc.lock, metrics) differs from the commit during every run.
INPUTS = ("src", "stages", "params.yaml", "dvc.yaml", "requirements.lock", "pyproject.toml")


@dataclass(frozen=True)
class Origin:
    """Where a run comes from.

    Attributes:
        commit: first 12 digits of the checked-out commit; None without git or a repository.
        files: of INPUTS, that differ from the commit or are not in it.
        params: parameters that differ from the commit's: dotted name, value there, value here.
        preset: name of the preset in force.
        unlike: parameters that differ from that preset's, likewise; None where there is no preset of that name.
    """

    commit: str | None
    files: list[str]
    params: list[tuple[str, str, str]]
    preset: str
    unlike: list[tuple[str, str, str]] | None

    @property
    def commit_words(self) -> str:
        """The commit, and whether the run is of just that."""
        if self.commit is None:
            return "unknown, not in a git repository"
        if not self.files:
            return self.commit
        others = [name for name in self.files if name != "params.yaml"]
        said = "; ".join([*_words(self.params), *others]) or "in what this run does not read"
        return f"{self.commit} with uncommitted changes ({said})"

    @property
    def preset_words(self) -> str:
        """The preset, and whether the parameters are still its own."""
        if self.unlike is None:
            return f"{self.preset} (no preset of that name)"
        return f"{self.preset}, changed ({'; '.join(_words(self.unlike))})" if self.unlike else self.preset


def _words(differing: list[tuple[str, str, str]]) -> list[str]:
    """What each difference is, without paths and addresses."""
    return [
        f"{key} changed" if key.split(".")[-1] in config.PRIVATE else f"{key}: {there} -> {here}"
        for key, there, here in differing
    ]


def origin(root: Path) -> Origin:
    """Look at the project's folder.

    Args:
        root: with ``params.yaml`` and ``presets/``.

    Raises:
        UserError: the preset in force is not valid.
    """
    here = _tree(root / "params.yaml")
    preset = root / "presets" / f"{here.get('preset')}.yaml"
    checked_out = commit(root)
    asked = ("status", "--porcelain", "--no-renames", "--untracked-files=all", "-z", "--", *INPUTS)
    changed = git.ask(root, *asked) if checked_out else ""
    above = (git.ask(root, "rev-parse", "--show-prefix") or "").strip()  # where the project is a repository's subfolder
    committed = git.ask(root, "show", "HEAD:./params.yaml") if checked_out else None
    return Origin(
        checked_out,
        sorted(entry[3:].removeprefix(above) for entry in (changed or "").split("\0") if len(entry) > 3),
        differences(_tree(committed), here) if committed else [],
        str(here.get("preset")),
        differences(config.preset(preset), here) if preset.is_file() else None,
    )


def commit(root: Path) -> str | None:
    """First 12 digits of the checked-out commit; None without git or a repository."""
    return (git.ask(root, "rev-parse", "HEAD") or "").strip()[:12] or None


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Dotted names and both values of what two sets of parameters say otherwise; methods not in force are left out."""
    one, other = ({name: str(value) for name, value in config.flatten(tree)} for tree in (there, here))
    method = f"methods.{here.get('method')}."
    return [
        (key, one.get(key, "absent"), other.get(key, "absent"))
        for key in dict.fromkeys([*other, *one])
        if one.get(key) != other.get(key) and (key.startswith(method) or not key.startswith("methods."))
    ]


def _tree(source: Path | str) -> dict[str, Any]:
    """The mapping in a file, where there is one, or in a text."""
    if isinstance(source, Path):
        return config.mapping(source) if source.is_file() else {}
    found = config.parse(source, "params.yaml of the commit")
    return found if isinstance(found, dict) else {}
