"""Presets: named, complete sets of parameters that become the current experiment.

``presets/NAME.yaml`` is merged into ``params.yaml``, whose comments stay, so that a run is a visible diff.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tumorxai import config
from tumorxai.errors import known
from tumorxai.files import write_text


def _merge(into: Any, new: Any) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif into.get(key) != value:
            into[key] = value


def described(presets: Path) -> dict[str, str]:
    """What stands on top of each preset, up to the first full stop, by name."""
    texts = {file.stem: file.read_text(encoding="utf-8") for file in sorted(presets.glob("*.yaml"))}
    comments = {
        name: text[: text.find("\npreset:")].replace("\n#", "").removeprefix("# ") for name, text in texts.items()
    }
    return {name: re.split(r"\.(?: |$)", comment)[0] for name, comment in comments.items()}


def apply(name: str, presets: Path = Path("presets"), params: Path = Path("params.yaml")) -> None:
    """Merge a preset into the parameters.

    Raises:
        UserError: there is no such preset, or it is not valid.
    """
    path = presets / f"{known('preset', name, described(presets))}.yaml"
    config.load(path)
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    current = yaml.load(params.read_text(encoding="utf-8"))
    new = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    for method, settings in new.pop("methods", {}).items():  # what a method's block leaves out is the paper's value
        if current["methods"].get(method) != settings:
            current["methods"][method] = settings
    _merge(current, new)
    text = io.StringIO()
    yaml.dump(current, text)
    write_text(params, text.getvalue())
    config.load(params)
