"""The experiment's parameters: one frozen, typed tree read from ``params.yaml``.

Every field states its unit, range and default here and nowhere else. Unknown keys are refused. A method's own
hyper-parameters are declared in its file under ``methods/`` and checked when that method is loaded; what a method is
stands there as well, and :func:`about` reads it.

The defaults are what a laptop does with a few thousand real images. They fill ``params.yaml`` when a preset is applied
(:func:`preset`), never when a stage runs: DVC would not see them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from tumorxai.errors import UserError, known
from tumorxai.explain.methods import METHODS as EXPLANATIONS

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]

METHODS = Path(__file__).parent / "methods"
BLOCKS = METHODS / "blocks.yaml"  # what the methods' blocks of params.yaml hold by default
KAGGLE_SLUG = re.compile(r"[\w-]+/[\w.-]*\w", re.ASCII)


class Block(BaseModel):
    """A frozen block of parameters that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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

    @property
    def source(self) -> str:
        """Authors, year and paper; empty where there is none."""
        return ", ".join(str(part) for part in (self.authors, self.year, self.paper) if part)

    @property
    def link(self) -> str:
        """Address of the paper; empty where there is none."""
        kind, _, number = self.paper.partition(":")
        return f"https://{'arxiv.org/abs' if kind == 'arXiv' else 'doi.org'}/{number}" if number else ""


class PathSource(Block):
    """A user's own data: a folder, or a zip, of class folders."""

    path: Annotated[str, Field(min_length=1)]  # absolute, or relative to the project's folder
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")] | None = None  # defaults to the folder's or zip's name


class Phantom(Block):
    """The embedded default source: real anatomy, simulated lesions."""

    patients: Annotated[int, Field(ge=4)] = 240
    slices: Annotated[int, Field(ge=1, le=9)] = 2  # neighbouring slices of each patient
    sequences: Annotated[int, Field(ge=1, le=3)] = 2  # of T1, T1C+ and T2, for each patient
    copies: Fraction = 0.15  # planted copies, as a share of the original images
    seed: Annotated[int, Field(ge=0)] = 0


class Data(Block):
    """Which images enter, and how they are packed."""

    sources: Annotated[list[str | PathSource], Field(min_length=1)] = ["phantom"]
    taxonomy: Literal["four_class", "seventeen", "six_group", "native"] = "four_class"
    image_size: Annotated[int, Field(ge=16, le=1024)] = 64  # side of the packed square, pixels
    channels: Literal[1, 3] = 1  # grey or colour
    fit: Literal["pad", "stretch"] = "pad"  # pad keeps the aspect ratio, black around; stretch does not
    phantom: Phantom = Phantom()

    @model_validator(mode="after")
    def _sources_known(self) -> Data:
        for source in self.sources:
            if isinstance(source, str) and source != "phantom" and not KAGGLE_SLUG.fullmatch(source):
                raise ValueError(
                    f"got source {source!r}; expected `phantom`, `OWNER/SLUG` of a Kaggle data set or `path: …` of "
                    "your own folder or zip; correct data.sources"
                )
        return self


class Dedupe(Block):
    """What counts as a copy."""

    distance: Annotated[int, Field(ge=0, le=10)] = 4  # largest Hamming distance of two 64-bit pHashes, bits
    orientations: Literal[1, 8] = 8  # 8 also finds flipped and rotated copies
    confirm: bool = True  # hold each candidate pair against the pixels themselves
    slack: Annotated[int, Field(ge=0, le=6)] = 4  # bits beyond `distance` at which a pair is still held against them
    similarity: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.58  # least correlation of the edges of near copies
    strict: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.9  # the same for turned copies and for those within the slack
    conflicts: Literal["drop", "keep", "majority"] = "drop"  # one image under two labels
    giant: Annotated[int, Field(ge=2)] = 50  # groups of at least this many images are flagged


class Split(Block):
    """How the sides are drawn. Fractions below or equal to 1 are shares, integers above 1 are image counts."""

    protocol: Literal["grouped", "official", "random"] = "grouped"
    train: NotNegative = 0.7
    unlabelled: NotNegative | Literal["rest"] = 0.0  # rest: every image that the other sides leave
    validation: NotNegative = 0.15
    test: NotNegative = 0.15
    external: list[str] = []  # sources that are the whole test side; copies of their images are dropped
    label_fraction: Share = 1.0  # share of the training labels that supervised stages may use

    @model_validator(mode="after")
    def _sides_fit(self) -> Split:
        sides = {name: getattr(self, name) for name in ("train", "unlabelled", "validation", "test")}
        if self.unlabelled == "rest":
            del sides["unlabelled"]
        shares = {name: value for name, value in sides.items() if 0 < value <= 1}
        counts = {name: value for name, value in sides.items() if value > 1}
        if shares and counts:
            raise ValueError(
                f"got shares {shares} and counts {counts}; expected one kind; give all as shares or all as counts"
            )
        if any(value != int(value) for value in counts.values()):
            raise ValueError(
                f"got counts {counts}; expected whole numbers of images; round them, or give shares below 1"
            )
        if shares and sum(shares.values()) > 1 + 1e-9:
            raise ValueError(
                f"got shares {shares} that sum to {sum(shares.values()):g}; expected at most 1; lower one of them"
            )
        if not sides["train"] or not sides["test"]:
            raise ValueError(f"got train {sides['train']:g} and test {sides['test']:g}; expected both above 0")
        return self


class Audit(Block):
    """The leakage audit."""

    canary_size: Annotated[int, Field(ge=4, le=128)] = 32  # side of the pixel nearest neighbour's images, pixels


class Model(Block):
    """The encoder that every stage shares."""

    backbone: str = "resnet10t"  # any timm name, firildak_cnn or firildak_cnn_relu
    small_stem: bool = False  # a ResNet's stem with stride 1, no max-pooling: SimCLR's CIFAR variant (appendix B.9)


class Optimizer(Block):
    """The optimiser of a self-supervised method."""

    name: str  # any timm optimiser: lars, sgd, adam, adamw, ...
    lr: Positive  # peak learning rate for a batch of 256 images; scales linearly with the batch
    weight_decay: NotNegative
    momentum: Fraction | None = None  # of lars and sgd; None leaves the optimiser's own


class Pretrain(Block):
    """The self-supervised loop."""

    epochs: Count = 30
    batch_size: Annotated[int, Field(ge=2)] = 64  # images of one optimiser step, over all processes; each gives views
    accumulate: Count = 1  # parts that a batch is taken in, one after another, to save memory
    warmup_epochs: NotNegative = 2
    clip_norm: NotNegative = 0.0  # largest gradient norm; 0 switches clipping off
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"  # auto: bf16 on a GPU that has it, else fp32
    devices: Count = 1
    nodes: Count = 1
    compile: bool = False  # torch.compile the encoder
    checkpoint_epochs: Count = 5  # epochs between checkpoints
    on_collapse: Literal["stop", "warn"] = "stop"  # what follows when the features collapse
    collapse_patience: Count = 3  # epochs in a row with a signal below its bound that count as a collapse
    transductive: bool = False  # let pretraining see the test images (without labels)

    @model_validator(mode="after")
    def _parts_fit(self) -> Pretrain:
        if self.batch_size % self.accumulate or self.batch_size // self.accumulate < 2:
            raise ValueError(
                f"got batch_size {self.batch_size} with accumulate {self.accumulate}; expected equal parts of at least "
                "2 images; change one of them"
            )
        return self


class Linear(Block):
    """Logistic regression on frozen embeddings; its strength is chosen on the validation side."""

    penalties: Annotated[list[Positive], Field(min_length=1)] = [1e-4, 1e-3, 0.01, 0.1, 1.0]  # inverse strengths C
    max_iter: Count = 300


class Frozen(Block):
    """The other protocols on frozen embeddings, and how often they are repeated."""

    neighbours: Annotated[list[Count], Field(min_length=1)] = [1, 5, 10, 20, 50]  # candidates; validation chooses
    temperature: Positive = 0.07  # of the neighbours' weights: exp(cosine / temperature)
    shots: list[Count] = [1, 5, 10, 20]  # labelled images of each class
    shot_draws: Count = 100  # of each number of shots
    fractions: list[Share] = [0.01, 0.05, 0.1, 0.25, 1.0]  # of the training labels, for linear evaluation
    draws: Count = 5  # of each fraction


class Train(Block):
    """End-to-end training of a classifier: the recipe of ``finetune`` and of ``supervised``."""

    epochs: Count = 40
    batch_size: Annotated[int, Field(ge=2)] = 64
    lr: Positive = 1e-3  # peak learning rate of AdamW for the head
    backbone_lr: Positive = 1e-3  # and for the encoder's last layer
    layer_decay: Share = 1.0  # factor on the rate from each layer of the encoder to the one below it; 1: all alike
    weight_decay: NotNegative = 0.05
    warmup_epochs: NotNegative = 2
    patience: Count = 15  # epochs without a better validation score before stopping


class Labels(Block):
    """Label efficiency of end-to-end training: fine-tuning and supervised training on fractions of the labels."""

    fractions: list[Share] = []  # of the training labels; none switches it off
    draws: Count = 3  # of each fraction, each also with another seed
    steps: Count = 300  # least optimiser steps of one training: where labels are few, an epoch repeats them


class Calibration(Block):
    """Whether the probabilities can be believed."""

    bins: Annotated[int, Field(ge=2, le=100)] = 10  # of equally many test images
    sensitivity: Share = 0.95  # wanted among the cases that are decided; sets the threshold on the validation side


class Robustness(Block):
    """Damaged test images."""

    images: Count = 256  # most test images that are damaged
    grades: Annotated[list[Annotated[int, Field(ge=1, le=5)]], Field(min_length=1)] = [1, 2, 3, 4, 5]  # of each kind


class Foreign(Block):
    """Images that the encoder was not made for."""

    neighbours: Count = 10  # the distance to the training embeddings is that to the k-th nearest
    images: Count = 200  # most images of each kind
    sources: list[str | PathSource] = []  # of images that are no MRI, beside the synthetic ones; named as data.sources


class Review(Block):
    """Galleries of the worst errors and of labels that are likely wrong."""

    rows: Count = 8  # of each gallery
    neighbours: Count = 4  # nearest training images drawn beside each
    folds: Annotated[int, Field(ge=2, le=20)] = 5  # out of which each image's label is predicted


def _explanation(name: str) -> str:
    try:
        return known("method of explanation", name, EXPLANATIONS)
    except UserError as error:
        raise ValueError(str(error)) from None


Explanation = Annotated[
    str, AfterValidator(_explanation), WithJsonSchema({"type": "string", "enum": list(EXPLANATIONS)})
]


class Explain(Block):
    """Heat-maps of the trained classifiers, and what they are worth."""

    classifiers: Annotated[list[Literal["finetuned", "linear"]], Field(min_length=1)] = ["finetuned", "linear"]
    methods: Annotated[list[Explanation], Field(min_length=1)] = [
        "grad_cam", "grad_cam_plus_plus", "layer_cam", "eigen_cam", "vit_cx", "occlusion",
    ]  # fmt: skip
    layer: str | None = None  # module of the encoder that CAMs are read off; null finds it
    images: Count = 8  # test images drawn in the picture grid
    scored: Count = 256  # most test images with a lesion mask that localisation is scored on
    perturbed: Annotated[int, Field(ge=2)] = 48  # test images for faithfulness, stability and sanity
    steps: Annotated[int, Field(ge=2)] = 16  # of deletion and insertion
    removals: Annotated[int, Field(ge=3)] = 24  # random sets of cells removed for sensitivity-n
    draws: Count = 2  # of noise for max-sensitivity
    stages: Count = 3  # in which the encoder's weights are randomised, after the head's
    random_labels: Annotated[int, Field(ge=0)] = 1000  # training images whose labels are drawn at random; 0 skips it
    masks: Annotated[int, Field(ge=1)] | None = 16  # most masks of ViT-CX for an image; null for no limit
    windows: Annotated[int, Field(ge=1, le=64)] = 6  # of occlusion, on a side

    @model_validator(mode="after")
    def _each_once(self) -> Explain:
        for name in ("classifiers", "methods"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"got {name} {values}; expected each at most once")
        return self


class Hnsw(Block):
    """A server's approximate index, a graph of neighbours (Malkov and Yashunin 2020); the embedded search is exact."""

    m: Annotated[int, Field(ge=4, le=128)] = 16  # edges of a case
    ef_construct: Annotated[int, Field(ge=4, le=4096)] = 100  # candidates looked at when a case is added
    ef: Annotated[int, Field(ge=1, le=4096)] = 100  # and when a question is asked


class Quantisation(Block):
    """A server's smaller copy of the embeddings, 1 byte for each of their values, which is searched first."""

    kind: Literal["none", "int8"] = "none"
    quantile: Annotated[float, Field(ge=0.5, le=1.0)] = 0.99  # share of the values that the 256 steps cover
    oversampling: Annotated[float, Field(ge=1.0, le=100.0)] = 2.0  # candidates compared by the whole embeddings


class Report(Block):
    """What the report cannot measure itself."""

    watts: Positive | None = None  # power that the machine draws while training, as you state it, W; null: no estimate


class Search(Block):
    """Similar cases."""

    neighbours: Annotated[int, Field(ge=1, le=100)] = 5  # cases drawn for a query, and the k of the main scores
    k: Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1)] = [
        1,
        3,
        5,
        10,
        20,
        50,
    ]  # of the curves
    queries: Count = 6  # test images drawn in the picture grid
    url: str = ""  # of a Qdrant server, with its port; empty: an embedded index. The key is in QDRANT_API_KEY
    timeout: Annotated[int, Field(ge=1, le=3600)] = 30  # of one request to the server, seconds
    hnsw: Hnsw = Hnsw()
    quantisation: Quantisation = Quantisation()

    @model_validator(mode="after")
    def _address(self) -> Search:
        if not self.url:
            return self
        try:
            parts = urlsplit(self.url)
            whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            parts, whole = urlsplit(""), False
        if parts.username is not None or parts.password is not None or parts.query:
            raise ValueError(
                "got a search.url with a user, a password or a query (not repeated here); expected the address alone; "
                "put the key into the environment variable QDRANT_API_KEY"
            )
        if not whole:
            raise ValueError(
                f"got search.url {self.url!r}; expected http:// or https://, a host and a port, such as "
                "http://localhost:6333; or leave it empty for the embedded index"
            )
        return self


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
        if self.method not in self.methods:
            raise ValueError(
                f"got no block methods.{self.method}; add one, empty for the paper's values: `{self.method}: {{}}`"
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


def describe(error: ValidationError, where: str) -> str:
    """One line per mistake: where it stands, what was got and what was expected."""
    lines = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown parameter; remove it or correct its spelling")
        elif item["type"] == "missing":
            lines.append(f"{key}: missing; add it")
        elif item["type"] == "value_error":
            lines.append(f"{key}: {item['ctx']['error']}" if key else str(item["ctx"]["error"]))
        else:
            lines.append(f"{key}: got {item['input']!r}; {item['msg'][0].lower()}{item['msg'][1:]}")
    return f"{where} is not valid:\n  " + "\n  ".join(lines)


def _mapping(path: Path) -> dict[str, Any]:
    """What a YAML file holds; nothing where it holds comments alone."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"got no {path}; expected the parameters there; run from the project's folder") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{path}: got {type(content).__name__}; expected a mapping of parameters")
    return content or {}


def load(path: Path | str = "params.yaml") -> Params:
    """Read and check the parameters.

    Raises:
        UserError: the file is missing, is no YAML, or a value is unknown or out of range.
    """
    path = Path(path)
    content = _mapping(path)
    # A default would be in force without standing where DVC looks.
    absent = [f"{name}: missing; add it" for name in Params.model_fields if name not in content]
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise UserError("\n  ".join([describe(error, str(path)), *absent])) from None
    if absent:
        raise UserError("\n  ".join([f"{path} is not valid:", *absent]))
    return params


def preset(path: Path) -> dict[str, Any]:
    """All values of a preset, in the order of the fields: the defaults, and over them what its file sets.

    A method's block is taken as a whole, so that what it leaves out is the paper's value and no default of
    ``BLOCKS``. Numbers stay as they are written, 2 or 2.0: DVC's cache tells the two apart.

    Args:
        path: ``presets/NAME.yaml``, which need not state its name.

    Raises:
        UserError: the file is missing, is no YAML, or a value is unknown or out of range.
    """
    own = {"preset": path.stem} | _mapping(path)
    if own["preset"] != path.stem:
        raise UserError(
            f"{path}: got preset {own['preset']!r}; expected {path.stem!r}, the file's name; remove the line"
        )
    values = _over(Params().model_dump(), own)
    try:
        checked = Params.model_validate(values)
    except ValidationError as error:
        raise UserError(describe(error, str(path))) from None
    for name in checked.methods:
        if name not in method_names():
            raise UserError(
                f"{path} is not valid:\n  methods.{name}: no such method; expected one of {', '.join(method_names())}"
            )
    return values


def _over(defaults: dict[str, Any], own: dict[str, Any], whole: bool = False) -> dict[str, Any]:
    """Defaults with values over them, block by block; ``whole``: the blocks in it are replaced, not filled up."""
    merged = dict(defaults)
    for key, value in own.items():
        fill = not whole and isinstance(value, dict) and isinstance(defaults.get(key), dict)
        merged[key] = _over(defaults[key], value, whole=key == "methods") if fill else value
    return merged


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values, as text, of nested parameters."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
