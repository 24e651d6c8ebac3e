"""Nothing that is read can run code: no pickle, and every reader that knows pickles is told to refuse them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for name in ("src", "stages", "benchmarks") for path in sorted((ROOT / name).rglob("*.py"))]
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "shelve"}
CALLS = {"read_pickle", "to_pickle", "unsafe_load", "full_load", "unsafe_load_all", "full_load_all", "eval", "exec"}
OWN = {"benchmarks/mutants.py": "exec"}  # runs the project's own code, changed
# What refuses pickles only when asked to, and how it is asked.
ASKED = {
    ("torch", "load"): ("weights_only", True),
    ("np", "load"): ("allow_pickle", False),
    ("np", "save"): ("allow_pickle", False),
}


def faults(tree: ast.AST) -> Iterator[str]:
    """What of a module could unpickle, or run a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            owner = called.value.id if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) else ""
            given = {each.arg: each.value for each in node.keywords}
            if name in CALLS and not (name == "eval" and isinstance(called, ast.Attribute)):  # network.eval()
                yield name
            if (owner, name) in ASKED:
                word, wanted = ASKED[owner, name]
                said = given.get(word)
                if not (isinstance(said, ast.Constant) and said.value is wanted):
                    yield f"{owner}.{name} without {word}={wanted}"
            if (owner, name) == ("yaml", "load"):
                yield "yaml.load"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_can_bring_code_with_it(path: Path) -> None:
    own = OWN.get(str(path.relative_to(ROOT)))
    assert [fault for fault in faults(ast.parse(path.read_text(encoding="utf-8"))) if fault != own] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "np.load(path)",
        "pd.read_pickle(path)",
        "yaml.load(text)",
        "eval(text)",
    ],
)
def test_the_test_finds_them(text: str) -> None:
    assert list(faults(ast.parse(text)))


def test_no_pickle_lies_in_the_repository() -> None:
    endings = {".pkl", ".pickle", ".pt", ".pth", ".joblib", ".ckpt"}
    skipped = {".git", ".venv", ".dvc", ".tumorxai", "build", "node_modules"}
    found = [path for path in ROOT.rglob("*") if path.suffix in endings and not skipped & set(path.parts)]
    assert found == []
