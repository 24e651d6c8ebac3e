"""Folders as tests compare them, and projects whose stages take no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tumorxai.tools.offline.records import keep

ROOT = Path(__file__).resolve().parents[3]


def content(folder: Path) -> dict[str, bytes]:
    """Bytes of all files in a folder, by their paths in it."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
    }


def project(folder: Path, scripts: dict[str, str]) -> Path:
    """A folder with stages and nothing else."""
    for name, text in scripts.items():
        path = folder / "stages" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("dvc.yaml", "presets/none.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("stages: {}\n")
    return folder


def plan(files: Path, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Runs of two stages, ``first`` and ``second``, whose parameters are JSON, which is YAML."""
    seed = files / "seed"
    files.mkdir(parents=True, exist_ok=True)
    seed.write_text("3")
    stages = {
        "first": {"cmd": "python stages/first.py", "deps": ["data/in.txt"], "outs": ["out/one.txt"]},
        "second": {
            "cmd": "python stages/second.py", "deps": ["out/one.txt"], "outs": [{"out/two": {"cache": True}}],
            "metrics": [{"metrics/two.json": {"cache": False}}],
        },
    }  # fmt: skip
    described = {
        name: {
            "preset": None, "settings": [], "method": "simclr", "params": json.dumps(params) + "\n",
            "stages": list(stages), "values": dict.fromkeys(stages, params),
            "inputs": {"data/in.txt": keep(seed, files)},
        }
        for name, params in runs.items()
    }  # fmt: skip
    return {"format": 1, "commit": None, "stages": stages, "runs": described}
