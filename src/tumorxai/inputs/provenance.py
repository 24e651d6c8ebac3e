"""The code and the packages that each stage computes with, as one small file a stage that DVC sees as its input.

DVC hashes a listed file when a stage ends, so that code edited while it runs is recorded as the code that made its
output (treeverse/dvc issue 11058), and it does not look at installed packages at all. So the stage ``inputs``, which
runs at every ``dvc repro``, writes down what each stage is about to compute with, and the stages depend on that.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import re
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from tumorxai.files import read_json, write_json

PACKAGE = "tumorxai"
RECORDS = Path("data/inputs/code")  # STAGE.json
INSTALLED = Path(__file__).resolve().parents[2]  # what holds the package that runs
# What these say reaches a stage through its parameters, or changes no result, and they would rerun everything.
APART = {
    f"{PACKAGE}/{name}.py"
    for name in ("__init__", "config/__init__", "config/blocks", "config/reading", "errors", "files")
}
APART |= {f"{PACKAGE}/inputs/{name}.py" for name in ("__init__", "identity", "provenance", "stage")}
# What it says of the sources in use is an input of its own, data/inputs/layouts.json, and their notes are the report's.
SOURCES = f"{PACKAGE}/archives/sources.yaml"
APART |= {SOURCES}
# Packages that compute, by the name that they are imported by; others format, draw or serve.
COMPUTING = {
    "cv2": "opencv-python-headless",
    "h5py": "h5py",
    "lightly": "lightly",
    "lightning_fabric": "lightning-fabric",
    "nibabel": "nibabel",
    "nilearn": "nilearn",
    "numpy": "numpy",
    "PIL": "pillow",
    "pydicom": "pydicom",
    "pytorch_grad_cam": "grad-cam",
    "qdrant_client": "qdrant-client",
    "qdrant_edge": "qdrant-edge-py",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "timm": "timm",
    "torch": "torch",
    "torchvision": "torchvision",
}


@cache
def _read(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Dotted names that a file imports, anywhere in it, and the strings in it that may name files."""
    names: set[str] = set()
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":  # a template may take in another file
        return frozenset(), frozenset(re.findall(r"""["']([\w.-]+)["']""", text))
    strings: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.add(node.value)
    return frozenset(names), frozenset(strings)


def _modules(source: Path, names: Iterable[str]) -> Iterator[Path]:
    """Files of the project that Python runs for imported names: modules, and the packages that they lie in."""
    for name in names:
        parts = name.split(".")
        if parts[0] == PACKAGE:
            places = [source.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
            yield from (place.with_suffix(".py") for place in places)
            yield from (place / "__init__.py" for place in places)


def code_root(root: Path) -> Path:
    """What holds the package: the project's own ``src``, or, as after ``tumorxai init``, where it is installed."""
    own = root / "src"
    return own if (own / PACKAGE).is_dir() else INSTALLED


def _place(root: Path, name: Path) -> Path:
    """Where a file lies that :func:`files` names."""
    return code_root(root) / name.relative_to("src") if name.parts[0] == "src" else root / name


def files(root: Path, stage: str, method: str) -> list[Path]:
    """Every file that a stage's result hangs on: its script, what that imports, and files named beside these.

    A string ``MODULE:NAME`` counts as an import: the table of explanations names its functions so.

    Args:
        root: the project's folder.
        stage: name of a script in ``stages/``.
        method: the active method, whose file alone of those in ``methods/`` counts.

    Returns:
        Paths relative to ``root``, sorted; of the package ``src/tumorxai/…``, wherever it is installed, so that the
        same code is the same input.
    """
    # Only in a project of its own code can dvc.yaml have the report depend on this file.
    apart = APART - {SOURCES} if stage == "report" and code_root(root) != root / "src" else APART
    return _reached(root, root / "stages" / f"{stage}.py", method, apart)


def _reached(root: Path, start: Path, method: str, apart: Set[str]) -> list[Path]:
    """The files that one hangs on, itself included; see :func:`files`."""
    source = code_root(root)
    methods = source / PACKAGE / "methods"
    todo, seen = [start], set[Path]()
    while todo:
        path = todo.pop()
        left_out = path.is_relative_to(source) and path.relative_to(source).as_posix() in apart
        if path in seen or left_out or not path.is_file():
            continue
        names, strings = _read(path)
        if path.name == "__init__.py" and not names and len(strings) <= 1:  # no more than what the package is
            continue
        seen.add(path)
        todo += _modules(source, names)
        todo += [path.with_name(text) for text in strings if re.fullmatch(r"[\w.-]+\.\w+", text)]
        todo += _modules(
            source, [text.partition(":")[0] for text in strings if re.fullmatch(rf"{PACKAGE}[\w.]+:\w+", text)]
        )
        if path == methods / "__init__.py":  # it imports a method by its name
            todo.append(methods / f"{method}.py")
    return sorted(
        "src" / path.relative_to(source) if path.is_relative_to(source) else path.relative_to(root) for path in seen
    )


def _computing(path: Path) -> bytes:
    """The content of a file, but without a method's ABOUT, which data/inputs/method.json has."""
    content = path.read_bytes()
    if path.parent.name != "methods":
        return content
    lines = content.splitlines(keepends=True)
    for node in ast.parse(content).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ABOUT":
            first = node.lineno - 1
            first -= first > 0 and not lines[first - 1].strip()  # the empty line before it goes with it
            return b"".join(lines[:first] + lines[node.end_lineno :])
    return content


def imported(root: Path, used: Iterable[Path]) -> set[str]:
    """Dotted names that some files import, the project's own and others', anywhere in them."""
    return {name for path in used for name in _read(_place(root, path))[0]}


def packages(root: Path, used: Iterable[Path]) -> dict[str, str]:
    """Versions of the packages that compute, among those that some files import.

    A build's own mark, such as ``+cpu``, is left out: the same release of torch is one and the same input. A package of
    an extra that is not installed is left out as well, so that installing it reruns what can read more by it.
    """
    tops = {name.split(".")[0] for name in imported(root, used)}
    found = sorted(COMPUTING[name] for name in tops & COMPUTING.keys())
    versions = {}
    for name in found:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name).split("+")[0]
    return versions


def record(root: Path, stage: str, method: str) -> dict[str, Any]:
    """What a stage computes with: SHA-256 of each file (see :func:`files`, ABOUT apart), version of each package."""
    return _record(root, files(root, stage, method))


def running(module: str, method: str = "") -> dict[str, Any]:
    """The same of the package that runs, from one of its modules on: whoever calls that, from whatever folder.

    Args:
        module: its dotted name, as ``__name__`` has it.
        method: the active method; none of ``methods/`` counts without one.
    """
    start = INSTALLED.joinpath(*module.split(".")).with_suffix(".py")
    return _record(INSTALLED, _reached(INSTALLED, start, method, APART))


def _record(root: Path, used: list[Path]) -> dict[str, Any]:
    hashes = {path.as_posix(): hashlib.sha256(_computing(_place(root, path))).hexdigest() for path in used}
    return {"files": hashes, "packages": packages(root, used)}


def write(root: Path, method: str) -> None:
    """Write the record of every stage under ``RECORDS``."""
    names = {script.stem for script in (root / "stages").glob("*.py")} - {"inputs"}
    for name in sorted(names):
        write_json(root / RECORDS / f"{name}.json", record(root, name, method))
    for old in (root / RECORDS).glob("*.json"):  # of a stage that is no more
        if old.stem not in names:
            old.unlink()


def changed(root: Path, stage: str, method: str) -> list[str]:
    """Files and packages that are no longer as the last record of a stage has them; none without a record."""
    path = root / RECORDS / f"{stage}.json"
    if not path.exists():
        return []
    before, now = read_json(path), record(root, stage, method)
    return sorted(
        name
        for kind in ("files", "packages")
        for name in before[kind].keys() | now[kind].keys()
        if before[kind].get(name) != now[kind].get(name)
    )
