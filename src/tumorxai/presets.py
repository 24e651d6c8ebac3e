"""Presets: named, complete sets of parameters that become the current experiment.

``python -m tumorxai.presets NAME`` merges ``presets/NAME.yaml`` into ``params.yaml`` and keeps that file's comments, so
that a run is a visible diff.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tumorxai import config
from tumorxai.errors import UserError, run
from tumorxai.files import write_text


def _merge(into: Any, new: Any) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif into.get(key) != value:
            into[key] = value


def apply(name: str, presets: Path = Path("presets"), params: Path = Path("params.yaml")) -> None:
    """Merge a preset into the parameters.

    Raises:
        UserError: there is no such preset, or it is not valid.
    """
    path = presets / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in presets.glob("*.yaml")))
        raise UserError(f"got preset {name!r}; expected one of {known}; run `make preset NAME=…`")
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


if __name__ == "__main__":
    run(lambda: apply(sys.argv[1] if len(sys.argv) > 1 else ""))
