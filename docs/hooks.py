"""Pages that mkdocs makes out of the code, so that they cannot disagree with it: parameters and commands."""

from __future__ import annotations

import inspect
import io
import json
import re
import tokenize
from collections.abc import Iterator
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
import typer
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel

from tumorxai import cli, config
from tumorxai import methods as pretraining
from tumorxai.base import glossary, protocols
from tumorxai.explain import methods as explanations
from tumorxai.inputs import provenance
from tumorxai.networks import encoders, unchanged

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the results."""
    files.append(File.generated(config, "reference/parameters.md", content=parameters()))
    files.append(File.generated(config, "reference/commands.md", content=commands()))
    files.append(File.generated(config, "reference/code.md", content=code()))
    files.append(File.generated(config, "reference/heatmaps.md", content=heatmaps()))
    files.append(File.generated(config, "reference/scores.md", content=scores()))
    files.append(File.generated(config, "reference/views.md", content=unchanged_views()))
    files.append(File.generated(config, "howto/hardware.md", content=hardware()))
    for page in sorted(path for path in (ROOT / "results").iterdir() if path.suffix in (".md", ".png")):
        files.append(File.generated(config, f"results/{page.name}", abs_src_path=str(page)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """In the repository ``results/`` lies beside ``docs/``, on the site within it."""
    return re.sub(r"\]\(\.\./((?:\.\./)*results/)", r"](\1", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Wide tables scroll, from the keyboard as well: each stands in a box that can be reached by it and has a name."""
    return re.sub(r"<table>.*?</table>", _scrolling, html, flags=re.DOTALL)


def _scrolling(table: re.Match[str]) -> str:
    heads = [re.sub(r"<[^>]+>", "", head).strip() for head in re.findall(r"<th[^>]*>(.*?)</th>", table[0], re.DOTALL)]
    name = "Table: " + ", ".join(head for head in heads if head) if any(heads) else "Table"
    named = name.replace('"', "&quot;")
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{named}">{table[0]}</div>'


def on_post_page(output: str, **_: Any) -> str:
    """The theme's search dialog has no name, which screen readers read out."""
    return output.replace('role="dialog">', 'role="dialog" aria-label="Search">')


def comments(block: type[BaseModel]) -> dict[str, str]:
    """What the code says beside each field of a class, or of the class that it comes from: its unit and meaning."""
    (above,) = block.__bases__
    lines, _ = inspect.getsourcelines(block)
    inherited = comments(above) if above.__module__.startswith("tumorxai.") else {}
    found, name = dict[str, str](), ""
    pattern = re.compile(r"    (\w+): ")
    said = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(inspect.cleandoc("".join(lines))).readline)
        if token.type == tokenize.COMMENT and token.line.split("#")[0].strip()
    }
    for number, line in enumerate(lines, start=1):
        match = pattern.match(line)
        name = match.group(1) if match else name
        if number in said and said[number] != "fmt: skip" and name in block.model_fields:
            found[name] = f"{found.get(name, '')} {said[number]}".strip()
    return inherited | found


def allowed(schema: dict[str, Any], defs: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "$ref" in schema:
        return allowed(defs[schema["$ref"].rsplit("/", 1)[-1]], defs)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(allowed(one, defs) for one in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema["type"]
    if kind == "array" and "prefixItems" in schema:
        each = list(dict.fromkeys(allowed(one, defs) for one in schema["prefixItems"]))
        return f"list of {len(schema['prefixItems'])}: {'; '.join(each)}"
    if kind == "array":
        least = " (at least one)" if schema.get("minItems") else ""
        return f"list{least} of: {allowed(schema['items'], defs)}"
    if kind in ("integer", "number"):
        return " ".join([{"integer": "whole number", "number": "number"}[kind], *_range(schema)])
    if kind == "object":
        names = ", ".join(f"`{name}`" for name in schema.get("properties", {}))
        return f"a block of {names}" if names else "a block"
    return {"boolean": "`true`, `false`", "string": "text", "null": "`null`"}.get(kind, str(kind))


def _range(schema: dict[str, Any]) -> list[str]:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return [f"{sign} {_number(schema[key])}" for key, sign in words.items() if key in schema]


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def rows(block: type[BaseModel], prefix: str) -> Iterator[str]:
    """Rows of a table for the fields of a block and the blocks in it."""
    schema, said = block.model_json_schema(), comments(block)
    for name, field in block.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from rows(kind, f"{prefix}{name}.")
            continue
        default = "" if field.is_required() else f"`{_plain(field.get_default(call_default_factory=True))}`"
        words = allowed(schema["properties"][name], schema.get("$defs", {}))
        cells = (f"`{prefix}{name}`", words, default, said.get(name, ""))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _plain(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return text


def table(block: type[BaseModel], prefix: str) -> str:
    """A block's fields as a Markdown table."""
    head = "| key | allowed | default | meaning |\n|---|---|---|---|\n"
    return head + "\n".join(rows(block, prefix)) + "\n"


def parameters() -> str:
    """The page of all parameters, read off ``config/blocks.py`` and each method's ``Config``."""
    parts = [
        "# Parameters",
        "`params.yaml` holds the current experiment, every value of it. `tumorxai preset NAME` writes it from the "
        "defaults below and what `presets/NAME.yaml` changes of them; a method's block that no preset names is that of "
        "`src/tumorxai/methods/blocks.yaml`, not the paper's values below. `dvc exp run -S KEY=VALUE` changes one "
        "parameter for one experiment. This page is generated from the code.",
        "## At the top",
        "| key | allowed | meaning |\n|---|---|---|\n"
        "| `preset` | text | name of the preset, for readers: changed alone, it is refused |\n"
        f"| `method` | {', '.join(f'`{name}`' for name in config.method_names())} | how the encoder is pretrained |\n"
        "| `seed` | whole number ≥ 0 | of everything that is drawn |",
    ]
    for name, field in config.Params.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            parts += [f"## {name}", inspect.getdoc(kind) or "", table(kind, f"{name}.")]
    parts += ["## methods", methods()]
    for name in config.method_names():
        module = import_module(f"tumorxai.methods.{name}")
        said = (inspect.getdoc(module) or "").splitlines()[0]
        parts += [f"## methods.{name}", said, table(module.Config, f"methods.{name}.")]
    return "\n\n".join(parts) + "\n"


def code() -> str:
    """The page of which file reruns which stages, read off the imports as the stage ``inputs`` reads them."""
    parts = [
        "# Code and stages",
        "Which stages run again when a file changes (and then those that depend on their outputs, if these come out "
        "otherwise). This page is generated from the code; `method` is the active one's file. "
        "[What else counts](../explanation/reruns.md).",
    ]
    concerned: dict[str, list[str]] = {}
    for stage in sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "inputs"):
        for path in provenance.files(ROOT, stage, "simclr"):
            concerned.setdefault(path.as_posix().removeprefix("src/tumorxai/"), []).append(stage)
    by_folder: dict[str, list[str]] = {}
    for name, stages in sorted(concerned.items()):
        folder, _, file = name.rpartition("/")
        by_folder.setdefault(folder or "the top", []).append(f"| `{file}` | {', '.join(stages)} |")
    for folder, lines in by_folder.items():
        if folder != "stages":  # each script is its own stage's
            parts += [f"## {folder}", "| file | stages |\n|---|---|\n" + "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def methods() -> str:
    """What each method is, as its file says, as a Markdown table."""
    lines = ["| `method` | | paper | learns from |", "|---|---|---|---|"]
    for name in config.method_names():
        about = config.about(name)
        paper = f"[{about.source}]({about.link})" if about.link else about.source
        seen = "images and labels" if about.uses_labels else "images" if about.trains else "nothing: taken as it is"
        lines.append(f"| `{name}` | {about.title} | {paper} | {seen} |")
    return "\n".join(lines)


def scores() -> str:
    """The page of the protocols of evaluation and of the scores, read off their tables."""
    made = "\n".join(f"| `{own.key}` | {own.title} | `{own.stage}` |" for own in protocols.TABLE)
    told = "\n".join(
        f"| `{own.key}` | {own.title} | {own.meaning} | {'per cent' if own.percent else ''} | "
        f"{'higher' if own.higher else 'lower'} | {'yes' if own.of_class else ''} |"
        for own in glossary.TABLE
    )
    parts = [
        "# Protocols and scores",
        "What stands in `details/PROTOCOL.json` under `test`. This page is generated from the code.",
        "## Protocols",
        f"| key | | made by the stage |\n|---|---|---|\n{made}",
        "## Scores",
        f"| key | | | shown in | better | for each class |\n|---|---|---|---|---|---|\n{told}",
    ]
    return "\n\n".join(parts) + "\n"


def hardware() -> str:
    """The page of how long recorded runs took and on what, read off presets, ``dvc.lock`` and ``results/*.json``."""
    single, whole = [], []
    for path in sorted((ROOT / "results").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        page = f"[{path.stem}](../../results/{path.stem}.md)"  # as from docs/: see on_page_markdown
        for name, run in content.get("runs", {}).items():
            if {"minutes", "hardware"} <= run.keys():
                cells = (run["train_images"], run["epochs"], f"{run['minutes']:.0f}", run["hardware"])
                single.append(f"| {page} | `{name}` | {' | '.join(map(str, cells))} |")
        record = content.get("record", {})
        if record.get("took"):
            whole.append(f"| {page} | {record['took']} | {record['hardware']} |")
    parts = [
        "# What a run costs",
        "No GPU is needed for the demo or for a few thousand small images; published recipes at full length want one. "
        "[Run on a GPU or a cluster](gpu.md) says how. Below is how long the runs on the pages of results took, and on "
        "what: other machines, and other work on the same one, give other times, and what was not run has none. This "
        "page is generated from `presets/*.yaml`, `dvc.lock` and `results/*.json`.",
        "## Presets",
        "What each preset says of itself.",
        "| preset | cost |\n|---|---|\n" + "\n".join(_costs()),
        f"The outputs that `dvc.lock` records, the demo's as committed, take {_outputs() / 1e6:,.0f} MB of disk, and "
        "as much again in DVC's cache where the file system cannot share them; "
        "[the environment](../install.md#a-clone) takes far more. How much memory the demo needs was not recorded.",
        "## Single runs",
        "From the start of the pipeline to its last stage; stages in DVC's cache cost none, so that a run beside an "
        "earlier one of the same data is shorter.",
        "| page | run | training images | epochs of pretraining | minutes | hardware |\n|---|---|---|---|---|---|\n"
        + "\n".join(single),
        "## Whole pages",
        "| page | took | hardware |\n|---|---|---|\n" + "\n".join(whole),
        "## What decides it",
        "- `pretrain.epochs`, `data.image_size` (the time goes with its square) and `model.backbone`; then training "
        "from end to end, twice: `finetune.epochs`, `supervised.epochs`.\n"
        "- `labels.fractions` trains two networks for each fraction and draw; it is off by default.\n"
        "- `explain.methods`: methods of many passes, such as Score-CAM, take far longer than the others.\n"
        "- Memory: the pack is read from disk as it is needed; a batch of views and the network's activations are what "
        "fills a GPU. `pretrain.accumulate` takes a batch in parts.",
    ]
    return "\n\n".join(parts) + "\n"


def _costs() -> Iterator[str]:
    """One row for each preset: the sentence of its comment that begins with *Cost*."""
    for path in sorted((ROOT / "presets").glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        said = " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))
        cost = re.search(r"\bCost\b.+?(?=\.(?: |$))", said)
        if cost is None:
            raise ValueError(f"got no sentence on the cost in {path}; expected one that begins with *Cost*")
        linked = re.sub(r"results/(\w+)\.md", r"[\1](../../results/\1.md)", cost[0].removeprefix("Cost: "))
        yield f"| `{path.stem}` | {linked} |"


def _outputs() -> int:
    """Bytes of all outputs that ``dvc.lock`` records, each content once, as DVC's cache keeps it."""
    stages = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"].values()
    return sum({out["md5"]: out["size"] for stage in stages for out in stage.get("outs", [])}.values())


def unchanged_views() -> str:
    """The page of what share of each preset's views stays as the image is, drawn and counted."""
    parts = [
        "# Views that stay as the image is",
        "Per cent of the views in which an augmentation alone changes no pixel by half a grey level, and of the whole "
        "views (*all*), for each preset's methods at its own image size; of images of random pixels, which show every "
        "change. 100: it is off. A weak change is none: at 64 px most draws of a blur are. Small crops never are the "
        "image. This page is generated from the code; [what the papers do](../views.md).",
    ]
    for path in sorted((ROOT / "presets").glob("*.yaml")):
        params = config.Params(**config.preset(path))
        own = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("methods", {})
        names = config.method_names() if path.stem == "demo" else sorted({params.method, *own})
        lines = list(_unchanged(params, [name for name in names if config.about(name).trains]))
        if lines:
            head = f"| method | {' | '.join([*unchanged.OFF, 'all'])} |"
            parts += [f"## {path.stem}", f"{head}\n|---|{'---|' * (len(unchanged.OFF) + 1)}\n" + "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _unchanged(params: config.Params, names: list[str]) -> Iterator[str]:
    """One row of the table for each different view of each method."""
    size = params.data.image_size
    generator = torch.Generator().manual_seed(0)
    count = max(64, min(512, 2**21 // size**2))  # large images cost more
    images = torch.randint(0, 256, (count, 1, size, size), dtype=torch.uint8, generator=generator)
    for name in names:
        encoder = encoders.build(
            config.Model(backbone="test_vit" if config.about(name).vit else "test_resnet"), 1, size
        )
        recipes = pretraining.load(name, encoder, 8, params.methods[name], 2).views()
        for view in dict.fromkeys(recipes):
            which = ", ".join(str(i) for i, other in enumerate(recipes, start=1) if other == view)
            cells = [f"{100 * value:.0f}" for value in unchanged.shares(view, images).values()]
            yield f"| `{name}`, view {which} | {' | '.join(cells)} |"


def heatmaps() -> str:
    """The page of all heat-map methods, which is their table."""
    head = "# Heat-map methods\n\nThis page is generated from the code. [What they are worth](../explanations.md).\n\n"
    return head + explanations.markdown()


def commands() -> str:
    """The page of all commands: of ``tumorxai``, of the Makefile and of the pipeline."""
    group = typer.main.get_group(cli.app)
    parts = ["# Commands", "This page is generated from the code.", "## tumorxai", group.help or ""]
    for name, command in group.commands.items():
        parts += [f"### tumorxai {name}", command.help or "", _usage(name, command)]
    targets = re.findall(
        r"^([a-z-]+):.*##\s*(.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    made = "\n".join(f"| `make {name}` | {does} |" for name, does in targets)
    parts += ["## make", f"| command | |\n|---|---|\n{made}"]
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    parts += [
        "## Stages of the pipeline",
        "`dvc repro STAGE` brings a stage, and what it needs, up to date.",
        "| stage | |\n|---|---|\n" + "\n".join(f"| `{name}` | {stage['desc']} |" for name, stage in stages.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _usage(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=f"tumorxai {name}")
    usage = f"```text\n{command.get_usage(context)}\n```"
    lines = []
    for parameter in command.params:
        record = parameter.get_help_record(context) if parameter.param_type_name == "option" else None
        if record:
            lines.append(f"| `{record[0]}` | {record[1]} |".replace("\n", " "))
    options = "| option | |\n|---|---|\n" + "\n".join(lines) if lines else ""
    return f"{usage}\n\n{options}"
