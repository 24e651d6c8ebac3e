"""The documentation: links lead somewhere, commands and parameters exist, the site builds and fetches nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import typer
import yaml
from dvc.cli.parser import get_main_parser
from pydantic import BaseModel
from torch import nn

from tumorxai import cli, config
from tumorxai.base import glossary, protocols
from tumorxai.networks import views
from tumorxai.tools import presets

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = [*sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "results").glob("*.md"))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *WRITTEN]
GENERATED = {
    ROOT / f"docs/reference/{name}.md" for name in ("parameters", "commands", "scores", "code", "heatmaps", "views")
}
GENERATED.add(ROOT / "docs/howto/hardware.md")
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
PROGRAMS = ("make", "dvc", "tumorxai", "python", "torchrun", "fabric")


def ids(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def lines(page: Path) -> Iterator[str]:
    """Every shell command of a page: those of its blocks, and those in its sentences."""
    text = page.read_text(encoding="utf-8")
    for language, block in FENCE.findall(text):
        if language in ("sh", "bash"):
            yield from block.replace("\\\n", " ").splitlines()
    for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
        if code.split()[0] in PROGRAMS and " " in code:
            yield code
        elif code.startswith("-S "):
            yield f"dvc exp run {code}"


def commands(page: Path) -> Iterator[list[str]]:
    for line in lines(page):
        line = re.sub(r"\s>\s*\S+", "", line.split(" #")[0])  # nor where it is written to
        if "…" in line or "..." in line:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        words: list[str] = []
        for token in [*lexer, "&&"]:
            if set(token) <= set(";&|"):
                if words and words[0] == "exec":
                    words = words[1:]
                if words and words[0] in PROGRAMS:
                    yield words
                words = []
            else:
                words.append(token)


def has(key: str) -> bool:
    """Is there such a parameter, or block of parameters?"""
    names, block = key.split("."), config.Params
    if names[0] == "methods" and len(names) > 1:
        if names[1] not in config.method_names():
            return names[1] == "NAME"
        names, block = names[2:], import_module(f"tumorxai.methods.{names[1]}").Config
    for depth, name in enumerate(names):
        if name not in block.model_fields:
            return False
        inner: Any = block.model_fields[name].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return depth == len(names) - 1
        block = inner
    return True


def check_dvc(arguments: list[str]) -> None:
    parsed = get_main_parser().parse_args(arguments)
    for override in getattr(parsed, "set_param", None) or []:
        key = override.split("=")[0].lstrip("+~")
        assert key == "KEY" or has(key), f"no parameter {key}"
    for target in getattr(parsed, "targets", None) or []:
        if arguments[0] in ("repro", "exp") and target != "STAGE":
            assert target in STAGES, f"no stage {target}"


def check_make(arguments: list[str]) -> None:
    for word in arguments:
        name, equals, value = word.partition("=")
        if not equals:
            assert name in TARGETS, f"no target {name}"
        elif name == "NAME":
            assert value == "NAME" or (ROOT / f"presets/{value}.yaml").exists(), f"no preset {value}"


def check_tumorxai(arguments: list[str]) -> None:
    group = typer.main.get_group(cli.app)
    if arguments[0].startswith("-"):
        group.make_context("tumorxai", arguments)
        return
    assert arguments[0] in group.commands, f"no subcommand {arguments[0]}"
    if "-h" not in arguments and "--help" not in arguments:
        group.commands[arguments[0]].make_context(arguments[0], arguments[1:])


def check_files(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1]), f"no module {arguments[1]}"
    for word in arguments:
        if re.fullmatch(r"[\w/]+\.py", word):
            assert (ROOT / word).exists(), f"no file {word}"


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_every_command_exists(page: Path) -> None:
    checks = {"dvc": check_dvc, "make": check_make, "tumorxai": check_tumorxai}
    for program, *arguments in commands(page):
        if arguments:
            checks.get(program, check_files)(arguments)


def test_the_commands_are_found() -> None:
    found = [command for page in PAGES for command in commands(page)]
    for program in ("make", "dvc", "tumorxai", "python"):
        assert sum(command[0] == program for command in found) >= 4, program


@pytest.mark.parametrize(
    ("check", "line"),
    [
        (check_dvc, "exp run -S methods.byol.size=1"),
        (check_dvc, "exp run -S methods.simclr.heat=1"),
        (check_dvc, "repro pretraining"),
        (check_make, "dmo"),
        (check_make, "preset NAME=nothing"),
        (check_tumorxai, "foretell x.png"),
        (check_files, "benchmarks/nothing.py"),
    ],
)
def test_what_does_not_exist_is_noticed(check: Any, line: str) -> None:
    with pytest.raises(AssertionError):
        check(shlex.split(line))


def test_an_unknown_option_is_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        check_tumorxai(["predict", "x.png", "--loud"])


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_every_parameter_exists(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for code in re.findall(r"`([^`\n]+)`", text):
        match = re.match(r"([a-z_]+)\.[a-z_.]+[a-z](?=[:=]|$)", code)
        file = code.endswith((".py", ".yaml", ".json", ".csv", ".safetensors"))
        if match and match.group(1) in config.Params.model_fields and not file:
            assert has(match.group(0)), code


# Files that a reader or a user meets, as text.
SHOWN = [*PAGES, ROOT / "notebooks/demo.ipynb", *(p for p in (ROOT / "src").rglob("*") if p.suffix in (".py", ".j2"))]


def installs(text: str) -> Iterator[str]:
    """What a text has installed of this project, as far as a line holds it; a string's parts are put together."""
    joined = re.sub(r'"\s*\n\s*f?"', "", text)
    for line in re.findall(r"(?:uv )?pip install [^`\n]*", joined):
        if "tumorxai" in line or ".[" in line:
            yield line.split("#")[0].strip()


def test_nothing_is_installed_from_where_it_is_not() -> None:
    """No package is published: from a clone, which stays the code that runs, or from a wheel of it."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = {*tables["project"]["optional-dependencies"], "{name}"}
    found = [(path.name, line) for path in SHOWN for line in installs(path.read_text("utf-8"))]
    assert len(found) > 4
    for name, line in found:
        extra = re.search(r"\[(.+)\]", line)
        assert extra is None or extra[1] in extras, (name, line)
        clone = re.fullmatch(r"uv pip install --editable '\.\[.+\]'", line)
        wheel = re.fullmatch(r"uv pip install '?dist/tumorxai-\S+\.whl(\[\w+\])?'?", line)
        assert clone or wheel, (name, line)


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists() or path in GENERATED, link
        if anchor and path.exists() and not anchor.startswith("tumorxai."):  # those are mkdocs' to check
            assert anchor in anchors(path), link


def test_the_menu_leads_to_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- [^\n]+: ([\w/.-]+\.md)$", text.partition("\nnav:\n")[2], flags=re.MULTILINE)
    pages = {str(path.relative_to(ROOT / "docs")) for path in GENERATED | set((ROOT / "docs").rglob("*.md"))}
    pages |= {f"results/{path.name}" for path in (ROOT / "results").glob("*.md")}
    assert sorted(listed) == sorted(pages)


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_example_of_a_method_learns(tmp_path: Path) -> None:
    blocks = dict(FENCE.findall((ROOT / "docs/howto/new-method.md").read_text(encoding="utf-8")))
    (tmp_path / "align.py").write_text(blocks["python"])
    example = module_of(tmp_path / "align.py")
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 8))
    method = example.Method(encoder, 8, example.Config(), 0)
    images = torch.randint(0, 256, (16, 1, 32, 32), dtype=torch.uint8)
    drawn = [views.draw(images, view, views.side(view, 32)) - 0.5 for view in method.views()]
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-4)
    losses = []
    for _ in range(20):
        losses.append(method.loss(drawn, torch.zeros(16, dtype=torch.long), 0.0))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
        method.after_step(0.0)
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_the_example_of_a_method_passes_the_tests_that_its_page_names(tmp_path: Path) -> None:
    text = (ROOT / "docs/howto/new-method.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"`python -m pytest ([\w/.]+)`", text)
    for name in ("src", "tests", "presets", "stages", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "pyproject.toml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "src/tumorxai/methods/align.py").write_text(dict(FENCE.findall(text))["python"])
    presets.apply("demo", tmp_path / "presets", tmp_path / "params.yaml")
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("\nmethods:\n", "\nmethods:\n  align: {}\n"))
    run = [sys.executable, "-m", "pytest", named, "-k", "align", "-p", "no:xdist", "-p", "no:cacheprovider"]
    env = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(run, cwd=tmp_path, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout
    assert int(passed[1]) > 5


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    return module_of(ROOT / "docs/hooks.py")


def leaves(block: type[BaseModel], prefix: str) -> Iterator[str]:
    """Dotted names of all fields that hold a value."""
    for name, field in block.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_reference_holds_every_parameter_with_its_range_and_meaning(hooks: ModuleType) -> None:
    found = re.findall(r"^\| `([\w.]+)` \| (.*) \|$", hooks.parameters(), flags=re.MULTILINE)
    rows = {key: [cell.strip() for cell in re.split(r"(?<!\\)\|", cells)] for key, cells in found if "." in key}
    blocks = {name: field.annotation for name, field in config.Params.model_fields.items() if name != "methods"}
    blocks |= {f"methods.{name}": import_module(f"tumorxai.methods.{name}").Config for name in config.method_names()}
    wanted = [key for name, own in blocks.items() if hasattr(own, "model_fields") for key in leaves(own, f"{name}.")]
    assert sorted(rows) == sorted(wanted)
    assert len(rows) > 400
    for name, block in yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")).items():
        for key in block if isinstance(block, dict) and name != "methods" else []:
            assert any(row == f"{name}.{key}" or row.startswith(f"{name}.{key}.") for row in rows), key
    lacking = [
        key
        for key, (words, _, meaning) in rows.items()
        if len(meaning) < 5 or "fmt:" in meaning or not words or "anything" in words
    ]
    assert lacking == []
    assert rows["dedupe.distance"][:2] == ["whole number ≥ 0 ≤ 10", "`4`"]
    assert rows["split.protocol"][:2] == ["`patients`, `grouped`, `official`, `random`", "`patients`"]
    assert rows["data.phantom.seed"][0] == "whole number ≥ 0 < 4,294,967,296"
    assert rows["methods.simclr.temperature"] == ["number > 0", "`0.1`", "tau of Eq. 1"]
    assert rows["methods.swav.local_crop"][0] == "list of 2: number > 0 ≤ 1"
    assert rows["methods.byol.optimizer.lr"][0] == "number > 0"


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("    a: int = 1", ""),
        ("    a: list[int] = [\n        1,\n    ]  # fmt: skip", ""),
        ("    a: int = 1  # pixels", "pixels"),
    ],
)
def test_a_parameter_without_a_meaning_has_none_in_the_reference(
    hooks: ModuleType, tmp_path: Path, line: str, meaning: str
) -> None:
    path = tmp_path / "made.py"
    path.write_text(f"from tumorxai.config import Block\n\n\nclass Made(Block):\n{line}\n")
    assert hooks.comments(module_of(path).Made).get("a", "") == meaning


def test_the_page_of_costs_names_every_recorded_time(hooks: ModuleType) -> None:
    page = hooks.hardware()
    times = 0
    for path in (ROOT / "results").glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        for name, run in content.get("runs", {}).items():
            if "minutes" in run:
                times += 1
                line = next(line for line in page.splitlines() if f"[{path.stem}](" in line and f"`{name}`" in line)
                assert f"| {run['minutes']:.0f} | {run['hardware']} |" in line
        if content.get("record", {}).get("took"):
            times += 1
            assert f"| {content['record']['took']} | {content['record']['hardware']} |" in page
    presets_part, rest = page.split("## Single runs")
    assert rest.count("](../../results/") == times > 10
    for path in (ROOT / "presets").glob("*.yaml"):
        assert re.search(rf"^\| `{path.stem}` \| \S.* \|$", presets_part, flags=re.MULTILINE), path
    assert "| `demo` | 7.4 minutes on 2 cores, setting up included (" in presets_part
    (disk,) = re.findall(r"take ([\d,]+) MB of disk", presets_part)
    assert 10 < int(disk.replace(",", "")) < 10_000


def test_the_reference_holds_every_method_protocol_and_score(hooks: ModuleType) -> None:
    page = hooks.parameters()
    for name in config.method_names():
        assert f"| `{name}` | {config.about(name).title} |" in page
    page = hooks.scores()
    for own in (*glossary.TABLE, *protocols.TABLE):
        assert f"| `{own.key}` | {own.title} |" in page


@pytest.mark.slow
def test_the_reference_holds_the_views_of_every_preset(hooks: ModuleType) -> None:
    page = hooks.unchanged_views()
    for name in config.method_names():
        assert (f"| `{name}`, view 1" in page) == config.about(name).trains
    firildak = page.split("## firildak\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `\w+`, view 1, 2 \| (.+) \|$", firildak, flags=re.MULTILINE)
    assert len(rows) == 4
    for row in rows:
        crop, mirror, *others, both = row.split(" | ")
        assert crop == "100"
        assert set(others) == {"100"}
        assert mirror == both != "100"


def test_the_reference_holds_every_command(hooks: ModuleType) -> None:
    page = hooks.commands()
    group = typer.main.get_group(cli.app)
    for name, command in group.commands.items():
        assert f"### tumorxai {name}\n" in page
        for option in (found for parameter in command.params for found in parameter.opts if found.startswith("--")):
            assert option in page.split(f"### tumorxai {name}\n")[1].split("\n##")[0]
    for stage in STAGES:
        assert f"| `{stage}` | " in page
    for target in TARGETS:
        assert f"| `make {target}` | " in page
