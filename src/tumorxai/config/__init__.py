"""The experiment's parameters: one frozen, typed tree read from ``params.yaml``.

Every field states its unit, range and default in :mod:`tumorxai.config.blocks` and nowhere else. Unknown keys are
refused. A method's own hyper-parameters are declared in its file under ``methods/`` and checked when that method is
loaded; what a method is stands there as well, and :func:`about` reads it.

The defaults are what a laptop does with a few thousand real images. They fill ``params.yaml`` when a preset is applied
(:func:`preset`), never when a stage runs: DVC would not see them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from tumorxai.config.blocks import (
    Audit,
    Block,
    Calibration,
    Count,
    CountOrZero,
    Data,
    Dedupe,
    Explain,
    Foreign,
    Fraction,
    Frozen,
    Hnsw,
    Labels,
    Linear,
    Model,
    NotNegative,
    Optimizer,
    PathSource,
    Phantom,
    Positive,
    Pretrain,
    Quantisation,
    Report,
    Review,
    Robustness,
    Search,
    Share,
    Split,
    Train,
)
from tumorxai.config.reading import mapping, parse
from tumorxai.errors import UserError

__all__ = [  # the parameters' types and what reads them
    "About",
    "Audit",
    "Block",
    "Calibration",
    "Count",
    "CountOrZero",
    "Data",
    "Dedupe",
    "Explain",
    "Foreign",
    "Fraction",
    "Frozen",
    "Hnsw",
    "Labels",
    "Linear",
    "Model",
    "NotNegative",
    "Optimizer",
    "Params",
    "PathSource",
    "Phantom",
    "Positive",
    "Pretrain",
    "Quantisation",
    "Report",
    "Review",
    "Robustness",
    "Search",
    "Share",
    "Split",
    "Train",
    "about",
    "describe",
    "flatten",
    "load",
    "mapping",
    "method_blocks",
    "method_names",
    "parse",
    "preset",
]

PRIVATE = {"sources", "url", "weights", "init"}  # last parts of the names whose values may be paths or addresses
METHODS = Path(__file__).parents[1] / "methods"
BLOCKS = METHODS / "blocks.yaml"  # what the methods' blocks of params.yaml hold by default


class About(Block):
    """What a method is, for readers and for the checks; each method's file states it once, as ``ABOUT``.

    No stage computes with it: it is left out of what :mod:`tumorxai.inputs.provenance` sees of the file.
    """

    title: Annotated[str, Field(min_length=1)]  # as its authors write it
    authors: str = ""
    year: int | None = None
    paper: Annotated[str, Field(pattern=r"^((arXiv|doi):\S+)?$")] = ""
    uses_labels: bool = False  # does its loss read the labels of the training side?
    trains: bool = True  # false: the encoder is taken as it is
    vit: bool = False  # does it take plain vision transformers alone?

    @property
    def source(self) -> str:
        """Authors, year and paper; empty where there is none."""
        return ", ".join(str(part) for part in (self.authors, self.year, self.paper) if part)

    @property
    def link(self) -> str:
        """Address of the paper; empty where there is none."""
        kind, _, number = self.paper.partition(":")
        return f"https://{'arxiv.org/abs' if kind == 'arXiv' else 'doi.org'}/{number}" if number else ""


class Params(Block):
    """The whole of ``params.yaml``."""

    preset: str = ""
    method: str = "simclr"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: Data = Data()
    dedupe: Dedupe = Dedupe()
    split: Split = Split()
    audit: Audit = Audit()
    model: Model = Model()
    pretrain: Pretrain = Pretrain()
    methods: dict[str, dict[str, Any]] = Field(default_factory=lambda: method_blocks())
    linear: Linear = Linear()
    frozen: Frozen = Frozen()
    finetune: Train = Train()
    supervised: Train = Train()
    labels: Labels = Labels()
    calibration: Calibration = Calibration()
    robustness: Robustness = Robustness()
    foreign: Foreign = Foreign()
    review: Review = Review()
    explain: Explain = Explain()
    report: Report = Report()
    search: Search = Search()

    @model_validator(mode="after")
    def _method_exists(self) -> Params:
        known = method_names()
        if self.method not in known:
            raise ValueError(f"got method {self.method!r}; expected one of {', '.join(known)}")
        if unknown := sorted(set(self.methods) - set(known)):
            raise ValueError(f"got a block methods.{unknown[0]}; expected one of {', '.join(known)}; correct its name")
        if self.method not in self.methods:
            raise ValueError(
                f"got no block methods.{self.method}; add one, empty for the paper's values: `{self.method}: {{}}`"
            )
        if self.pretrain.init is not None and not about(self.method).trains:
            raise ValueError(
                f"got pretrain.init {self.pretrain.init!r} with method {self.method}, which trains nothing and has its "
                f"own methods.{self.method}.weights; expected one of the two; set pretrain.init to null"
            )
        if about(self.method).uses_labels and self.split.label_fraction < 1:
            raise ValueError(
                f"got split.label_fraction {self.split.label_fraction:g} with method {self.method}, which learns from "
                "all training labels; expected 1, or it would be compared with fewer labels than it saw; lower "
                "split.train instead and set split.unlabelled to rest"
            )
        return self


def method_names() -> list[str]:
    """Names of the files under ``methods/``: the methods that can be asked for."""
    return sorted(path.stem for path in METHODS.glob("*.py") if not path.stem.startswith("_"))


def method_blocks() -> dict[str, dict[str, Any]]:
    """The block of every method where no preset sets it; empty, for the paper's values, where ``BLOCKS`` has none."""
    blocks: dict[str, dict[str, Any]] = yaml.safe_load(BLOCKS.read_text(encoding="utf-8"))
    return blocks | {name: {} for name in method_names() if name not in blocks}


def about(name: str) -> About:
    """What the method ``name`` is, read off its file without running it: that would load torch.

    Raises:
        UserError: the file does not say it.
    """
    path = METHODS / f"{name}.py"
    wanted = "expected `ABOUT = config.About(title=…)` on a line of its own, its fields written out"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ABOUT":
            break
    else:
        raise UserError(f"got no ABOUT in {path}; {wanted}; add it")
    try:
        fields = {each.arg or "**": ast.literal_eval(each.value) for each in getattr(node.value, "keywords", ())}
        return About.model_validate(fields)
    except ValidationError as error:
        raise UserError(describe(error, f"{path}, ABOUT,")) from None
    except ValueError:
        raise UserError(f"got an ABOUT in {path} that must be computed; {wanted}; correct it") from None


def shortened(text: str, most: int = 200) -> str:
    """At most so many characters of a text that somebody else has written."""
    return text if len(text) <= most else f"{text[:most]}…"


def describe(error: ValidationError, where: str) -> str:
    """One line per mistake: where it stands, what arrived and what was expected."""
    lines = []
    for item in error.errors(include_url=False):
        key = shortened(".".join(str(part) for part in item["loc"]))
        if item["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown parameter; remove it or correct its spelling")
        elif item["type"] == "missing":
            lines.append(f"{key}: missing; add it")
        elif item["type"] == "value_error":
            lines.append(f"{key}: {item['ctx']['error']}" if key else str(item["ctx"]["error"]))
        else:
            got = shortened(repr(item["input"]))
            lines.append(f"{key}: got {got}; {item['msg'][0].lower()}{item['msg'][1:]}")
    return f"{where} is not valid:\n  " + "\n  ".join(lines)


def load(path: Path | str = "params.yaml") -> Params:
    """Read and check the parameters.

    Raises:
        UserError: the file is missing, is no YAML, or a value is unknown or out of range.
    """
    path = Path(path)
    content = mapping(path)
    # A default would be in force without standing where DVC looks.
    absent = [f"{name}: missing; add it" for name in _absent(Params, content)]
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise UserError("\n  ".join([describe(error, str(path)), *absent])) from None
    if absent:
        raise UserError("\n  ".join([f"{path} is not valid:", *absent]))
    return params


def _absent(block: type[Block], content: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of what a block of parameters leaves out."""
    for name, field in block.model_fields.items():
        kind = field.annotation
        if name not in content:
            yield prefix + name
        elif isinstance(kind, type) and issubclass(kind, Block) and isinstance(content[name], Mapping):
            yield from _absent(kind, content[name], f"{prefix}{name}.")


def preset(path: Path) -> dict[str, Any]:
    """All values of a preset, in the order of the fields: the defaults, and over them what its file sets.

    A method's block is taken as a whole, so that what it leaves out is the paper's value and no default of
    ``BLOCKS``. Numbers stay as they are written, 2 or 2.0: DVC's cache tells the two apart.

    Args:
        path: ``presets/NAME.yaml``, which need not state its name.

    Raises:
        UserError: the file is missing, is no YAML, or a value is unknown or out of range.
    """
    own = {"preset": path.stem} | mapping(path)
    if own["preset"] != path.stem:
        raise UserError(
            f"{path}: got preset {own['preset']!r}; expected {path.stem!r}, the file's name; remove the line"
        )
    values = _over(Params().model_dump(), own)
    try:
        Params.model_validate(values)
    except ValidationError as error:
        raise UserError(describe(error, str(path))) from None
    return values


def _over(defaults: dict[str, Any], own: dict[str, Any], whole: bool = False) -> dict[str, Any]:
    """Defaults with values over them, block by block; ``whole``: the blocks in it are replaced, not filled up."""
    merged = dict(defaults)
    for key, value in own.items():
        fill = not whole and isinstance(value, dict) and isinstance(defaults.get(key), dict)
        merged[key] = _over(defaults[key], value, whole=key == "methods") if fill else value
    return merged


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested parameters; an empty mapping is a value."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
