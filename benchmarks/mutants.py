"""Would the tests notice? One operator, condition or number of a module is changed, and its tests must then fail.

    python -m benchmarks.mutants [--only split] [--sample 100] [--seed 0] [--processes 2]
    python -m benchmarks.mutants --show groups:17

Mutants are drawn from all of a part's modules, `--sample` of each part (0: all of them). Each lives in a process of its
own that was forked after the libraries were imported; no file is written. One whose tests do not end in ten times the
time of the whole code's counts as noticed. Not mutated: docstrings, annotations, decorators, and what raises or words
an error. Prints the survivors as KIND:NUMBER with the changed line; the last line is one JSON object with the score of
each part, the share that was noticed. The status is 1 if a score is below 85%.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import importlib.abc
import importlib.machinery
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
ENOUGH = 0.85
CONTEXT = multiprocessing.get_context("fork")
WARM = ("hypothesis", "matplotlib.pyplot", "numpy", "pandas", "PIL.Image", "scipy.stats", "sklearn.linear_model",
        "torch", "yaml")  # fmt: skip
# Modules of each part, and the tests that must notice.
PARTS = {
    "groups": (("dedupe/groups.py", "dedupe/candidates.py"), ("tests/dedupe", "tests/test_properties.py")),
    "split": (("split/assign.py", "split/split.py", "split/units.py"), ("tests/split", "tests/test_properties.py")),
    "statistics": (
        ("base/statistics.py", "base/jackknife.py"),
        ("tests/base/test_statistics.py", "tests/base/test_jackknife.py", "tests/test_properties.py"),
    ),
    "audit": (
        ("audit/audit.py", "audit/capture.py", "audit/subjects.py", "audit/verdict.py"),
        ("tests/audit/test_audit.py", "tests/audit/test_verdict.py", "tests/audit/test_second.py"),
    ),
}
COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
            ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is}  # fmt: skip
COMPUTED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
            ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.Mod: ast.Mult, ast.Pow: ast.Mult}  # fmt: skip


class Mutant(NamedTuple):
    """One change.

    Attributes:
        module: path below ``src/tumorxai``.
        place: of the node, among all nodes of the module in the order of ``ast.walk``.
        line: that it stands in.
        change: name of the change.
    """

    module: str
    place: int
    line: int
    change: str


def changes(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], None]]]:
    """What can be done to a node, each by name."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        yield "comparison", lambda n: n.ops.__setitem__(0, COMPARED[type(n.ops[0])]())  # type: ignore[attr-defined]
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in COMPUTED:
        yield "operator", lambda n: setattr(n, "op", COMPUTED[type(n.op)]())  # type: ignore[attr-defined]
    if isinstance(node, ast.BoolOp):
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield "and/or", lambda n: setattr(n, "op", other())
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "condition", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))  # type: ignore[attr-defined]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Invert):
        yield "sign", lambda n: setattr(n, "op", ast.UAdd())
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "truth", lambda n: setattr(n, "value", not n.value)  # type: ignore[attr-defined]
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield "number", lambda n: setattr(n, "value", n.value + 1)  # type: ignore[attr-defined]


def computing(tree: ast.Module) -> set[int]:
    """Identities of the nodes that compute, and do not only annotate, decorate, raise or word."""
    left_out: set[int] = set()
    for node in ast.walk(tree):
        apart: list[ast.AST] = []
        if isinstance(node, ast.Raise | ast.JoinedStr):
            apart.append(node)
        for name in ("annotation", "returns"):
            if isinstance(own := getattr(node, name, None), ast.AST):
                apart.append(own)
        apart += getattr(node, "decorator_list", [])
        left_out |= {id(below) for one in apart for below in ast.walk(one)}
    return {id(node) for node in ast.walk(tree)} - left_out


def mutants(part: str) -> list[Mutant]:
    """All of a part."""
    found = []
    for module in PARTS[part][0]:
        tree = ast.parse((SOURCE / "tumorxai" / module).read_text(encoding="utf-8"))
        own = computing(tree)
        for place, node in enumerate(ast.walk(tree)):
            if id(node) in own:
                found += [Mutant(module, place, node.lineno, name) for name, _ in changes(node)]  # type: ignore[attr-defined]
    return found


def mutated(mutant: Mutant) -> ast.Module:
    """The module with the change."""
    tree = copy.deepcopy(ast.parse((SOURCE / "tumorxai" / mutant.module).read_text(encoding="utf-8")))
    node = next(node for place, node in enumerate(ast.walk(tree)) if place == mutant.place)
    dict(changes(node))[mutant.change](node)
    return ast.fix_missing_locations(tree)


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module of the package its changed code, whoever imports it."""

    def __init__(self, mutant: Mutant) -> None:
        self._path = SOURCE / "tumorxai" / mutant.module
        self._name = ".".join(("tumorxai", *Path(mutant.module).with_suffix("").parts))
        self._code = compile(mutated(mutant), str(self._path), "exec")

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """That of the changed module; None for all others."""
        return importlib.machinery.ModuleSpec(name, self, origin=str(self._path)) if name == self._name else None

    def exec_module(self, module: object) -> None:
        """Run the changed code as the module."""
        module.__file__ = str(self._path)  # type: ignore[attr-defined]
        exec(self._code, module.__dict__)  # noqa: S102 - the project's own code


def noticed(part: str, mutant: Mutant | None, seconds: float) -> bool:
    """Whether the tests of a part fail, in a process of its own; True also if they do not end."""

    def child() -> None:
        os.setpgrp()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        if mutant:
            sys.meta_path.insert(0, Changed(mutant))
        options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist"]
        os._exit(int(pytest.main([*options, *(str(ROOT / name) for name in PARTS[part][1])])))

    process = CONTEXT.Process(target=child)
    process.start()
    process.join(seconds)
    ended = process.exitcode
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.join()
    return ended != 0


def tried(part: str, sample: int, seed: int, processes: int) -> dict[str, object]:
    """The score of a part."""
    started = time.monotonic()
    if noticed(part, None, 3600):
        sys.exit(f"{part}: the tests fail on the whole code")
    seconds = max(10 * (time.monotonic() - started), 60.0)
    every = mutants(part)
    chosen = random.Random(seed).sample(every, min(sample or len(every), len(every)))  # noqa: S311
    with ThreadPoolExecutor(processes) as pool:
        results = list(pool.map(lambda mutant: noticed(part, mutant, seconds), chosen))
    for mutant, found in zip(chosen, results, strict=True):
        if not found:
            line = (SOURCE / "tumorxai" / mutant.module).read_text(encoding="utf-8").splitlines()[mutant.line - 1]
            place = f"{part}:{every.index(mutant)}"
            print(f"{place} {mutant.module}:{mutant.line} {mutant.change}: {line.strip()}", flush=True)
    score = sum(results) / len(results)
    took = round(time.monotonic() - started)
    return {"mutants": len(every), "tried": len(chosen), "score": round(score, 3), "seconds": took}


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--sample", type=int, default=100, help="mutants of each part; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--show", metavar="PART:NUMBER", help="print a changed module")
    asked = parser.parse_args(given)
    if asked.show:
        part, _, number = asked.show.partition(":")
        print(ast.unparse(mutated(mutants(part)[int(number)])))
        return
    for name in WARM:
        importlib.import_module(name)
    parts = [asked.only] if asked.only else list(PARTS)
    found = {part: tried(part, asked.sample, asked.seed, asked.processes) for part in parts}
    print(json.dumps(found))
    sys.exit(any(float(str(one["score"])) < ENOUGH for one in found.values()))


if __name__ == "__main__":
    main()
