"""The blocks of ``params.yaml``: every field with its unit, range and default, here and nowhere else."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from tumorxai.errors import UserError, known
from tumorxai.explain.methods import METHODS as EXPLANATIONS

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
MANY = 1_000_000  # of what is counted: a bound, so that a slip of the keyboard is no run without an end
Count = Annotated[int, Field(ge=1, le=MANY)]
CountOrZero = Annotated[int, Field(ge=0, le=MANY)]
AtLeastTwo = Annotated[int, Field(ge=2, le=MANY)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]

KAGGLE_SLUG = re.compile(r"[\w-]+/[\w.-]*\w", re.ASCII)


class Block(BaseModel):
    """A frozen block of parameters; refuses unknown keys, ``true`` and ``"1"`` as numbers, and what is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class PathSource(Block):
    """A user's own data: a folder, or a zip, of class folders."""

    path: Annotated[str, Field(min_length=1)]  # absolute, or relative to the project's folder
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")] | None = None  # defaults to the folder's or zip's name


class Phantom(Block):
    """The embedded default source: real anatomy, simulated lesions."""

    patients: Annotated[int, Field(ge=4, le=100_000)] = 240  # simulated, of all classes together
    slices: Annotated[int, Field(ge=1, le=9)] = 2  # neighbouring slices of each patient
    sequences: Annotated[int, Field(ge=1, le=3)] = 2  # of T1, T1C+ and T2, for each patient
    copies: Fraction = 0.15  # planted copies, as a share of the original images
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0  # of what is drawn for the images


class Data(Block):
    """Which images enter, and how they are packed."""

    sources: Annotated[list[str | PathSource], Field(min_length=1)] = ["phantom"]  # phantom, OWNER/SLUG, {path: …}
    taxonomy: Literal["four_class", "seventeen", "six_group", "native"] = "four_class"  # native: each folder
    image_size: Annotated[int, Field(ge=16, le=1024)] = 64  # side of the packed square, pixels
    channels: Literal[1, 3] = 1  # grey or colour
    fit: Literal["pad", "stretch"] = "pad"  # pad keeps the aspect ratio, black around; stretch does not
    slices: Count | Literal["all"] = 4  # of each DICOM or NIfTI volume, evenly spaced over its middle half
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
    orientations: Literal[1, 8] = 8  # 8 also finds flipped copies and those turned by right angles
    confirm: bool = True  # hold each candidate pair against the pixels themselves
    slack: Annotated[int, Field(ge=0, le=6)] = 4  # bits beyond `distance` at which a pair is still held against them
    similarity: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.65  # least correlation of the edges of copies in place
    strict: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.84  # the same for copies moved, cut, scaled, rotated or turned
    limit: CountOrZero = 30_000  # most different images compared each with all; beyond, by hashes only
    conflicts: Literal["drop", "keep", "majority"] = "drop"  # one image under two labels
    giant: AtLeastTwo = 50  # groups of at least this many images are flagged


class Split(Block):
    """How the sides are drawn. Fractions below or equal to 1 are shares, integers above 1 are image counts."""

    protocol: Literal["patients", "grouped", "official", "random"] = "patients"  # what is kept on one side
    train: NotNegative = 0.7  # images to learn from with their labels, share or number
    unlabelled: NotNegative | Literal["rest"] = 0.0  # rest: every image that the other sides leave
    validation: NotNegative = 0.15  # images to choose settings by, share or number; 0: none
    test: NotNegative = 0.15  # images to score on, share or number
    folds: Annotated[int, Field(ge=0, le=100)] = 0  # the test side is one of so many like folds; 0: as `test` says
    fold: CountOrZero = 0  # which of the folds is the test side, from 0 to folds - 1
    external: list[str] = []  # sources that are the whole test side; copies of their images are dropped
    labelled: list[str] = []  # sources whose labels are used; images of the others only pretrain; empty: all
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

    @model_validator(mode="after")
    def _folds_fit(self) -> Split:
        if self.folds == 1:
            raise ValueError("got folds 1; expected at least 2, or 0 for none; correct split.folds")
        if self.fold >= max(self.folds, 1):
            raise ValueError(
                f"got fold {self.fold} with folds {self.folds}; expected 0 to {max(self.folds, 1) - 1}; correct "
                "split.fold, or set split.folds"
            )
        if self.folds and (self.external or self.protocol == "official"):
            what = "external" if self.external else "protocol official"
            raise ValueError(
                f"got folds {self.folds} with {what}, which says itself what is tested; expected one of them; set "
                "split.folds to 0, or take another protocol"
            )
        return self


class Audit(Block):
    """The leakage audit."""

    canary_size: Annotated[int, Field(ge=4, le=128)] = 32  # side of the pixel nearest neighbour's images, pixels
    second_limit: AtLeastTwo = 20000  # most images that the second search for copies compares
    leak_seeds: Count = 20  # splits drawn of each kind to take the leak apart


class Model(Block):
    """The encoder that every stage shares."""

    backbone: str = "resnet10t"  # any timm name, firildak_cnn or firildak_cnn_relu
    small_stem: bool = False  # a ResNet's stem with stride 1, no max-pooling: SimCLR's CIFAR variant (appendix B.9)


class Optimizer(Block):
    """The optimiser of a self-supervised method."""

    name: str  # any timm optimiser: lars, sgd, adam, adamw, ...
    lr: Positive  # peak learning rate for a batch of 256 images; scales linearly with the batch
    weight_decay: NotNegative  # its strength; biases and normalisation layers are free of it
    decay_all: bool = False  # decay biases and normalisation layers as well
    momentum: Fraction | None = None  # of lars and sgd; None leaves the optimiser's own
    schedule: Literal["cosine", "constant"] = "cosine"  # of the rate after its warm-up


def _warms_up(warmup: float, epochs: int) -> None:
    if warmup > epochs:
        raise ValueError(
            f"got warmup_epochs {warmup:g} with epochs {epochs}; expected at most as many, or the peak of the learning "
            "rate is never reached; lower warmup_epochs"
        )


class Pretrain(Block):
    """The self-supervised loop."""

    init: Annotated[str, Field(min_length=1)] | None = None  # weights to go on from: null draws them, hub takes those
    # that timm names for the backbone, else the path of a .safetensors file
    init_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None  # that this file must have; null: any
    epochs: Count = 30  # passes over the images
    batch_size: AtLeastTwo = 64  # images of one optimiser step, over all processes; each gives views
    accumulate: Count = 1  # parts that a batch is taken in, one after another, to save memory
    warmup_epochs: NotNegative = 2  # over which the learning rate rises to its peak; then the optimizer's schedule
    clip_norm: NotNegative = 0.0  # largest gradient norm; 0 switches clipping off
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"  # any training; auto: bf16 on GPUs with it, else fp32
    devices: Count = 1  # processes on each machine, one for each GPU
    nodes: Count = 1  # machines that take part
    compile: bool | Literal["auto"] = "auto"  # torch.compile the encoder; auto: on a GPU, where a trial before a
    # training of more than ten minutes shows that it pays
    graphs: Literal["auto", "off"] = "auto"  # auto: on a GPU record a step once and replay it, where its shape is fixed
    checkpoint_epochs: Count = 5  # epochs between checkpoints
    on_collapse: Literal["stop", "warn"] = "stop"  # what follows when the features collapse
    collapse_patience: Count = 3  # epochs in a row with a signal below its bound that count as a collapse
    transductive: bool = False  # let pretraining see the test images (without labels)

    @model_validator(mode="after")
    def _checksum_of_a_file(self) -> Pretrain:
        if self.init_sha256 and self.init in (None, "hub"):
            raise ValueError(
                f"got init_sha256 with init {self.init}; expected the path of the file that it is of; set init to it, "
                "or init_sha256 to null"
            )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Pretrain:
        _warms_up(self.warmup_epochs, self.epochs)
        if self.batch_size % self.accumulate or self.batch_size // self.accumulate < 2:
            raise ValueError(
                f"got batch_size {self.batch_size} with accumulate {self.accumulate}; expected equal parts of at least "
                "2 images; change one of them"
            )
        return self


class Linear(Block):
    """Logistic regression on frozen embeddings; its strength is chosen on the validation side, or across groups."""

    penalties: Annotated[list[Positive], Field(min_length=1)] = [1e-4, 1e-3, 0.01, 0.1, 1.0]  # inverse strengths C
    max_iter: Count = 300  # most steps of the solver, L-BFGS, for one strength


class Frozen(Block):
    """The other protocols on frozen embeddings, and how often they are repeated."""

    neighbours: Annotated[list[Count], Field(min_length=1)] = [1, 5, 10, 20, 50]  # candidates
    temperature: Positive = 0.07  # of the neighbours' weights: exp(cosine / temperature)
    shots: list[Count] = [1, 5, 10, 20]  # labelled images of each class
    shot_draws: Count = 100  # of each number of shots
    fractions: list[Share] = [0.01, 0.05, 0.1, 0.25, 1.0]  # of the training labels, for linear evaluation
    draws: Count = 5  # of each fraction


class Train(Block):
    """End-to-end training of a classifier: the recipe of ``finetune`` and of ``supervised``."""

    epochs: Count = 40  # passes over the labelled images, at most
    batch_size: AtLeastTwo = 64  # images of one optimiser step
    lr: Positive = 1e-3  # peak learning rate of AdamW for the head
    backbone_lr: Positive = 1e-3  # and for the encoder's last layer
    layer_decay: Share = 1.0  # factor on the rate from each layer of the encoder to the one below it; 1: all alike
    weight_decay: NotNegative = 0.05  # of AdamW; biases and normalisation layers are free of it
    warmup_epochs: NotNegative = 2  # over which the rates rise to their peaks; then half a cosine to 0
    patience: Count = 15  # epochs without a better validation score before stopping

    @model_validator(mode="after")
    def _warmup_fits(self) -> Train:
        _warms_up(self.warmup_epochs, self.epochs)
        return self


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

    classifiers: Annotated[list[Literal["finetuned", "linear"]], Field(min_length=1)] = [
        "finetuned", "linear",  # the fine-tuned network; the frozen encoder with its linear probe
    ]  # fmt: skip
    methods: Annotated[list[Explanation], Field(min_length=1)] = [
        "grad_cam", "grad_cam_plus_plus", "layer_cam", "eigen_cam", "vit_cx", "occlusion",  # of heat-maps
    ]  # fmt: skip
    layer: str | None = None  # module of the encoder that CAMs are read off; null finds it
    images: Count = 8  # test images drawn in the picture grid
    scored: Count = 256  # most test images with a lesion mask that localisation is scored on
    perturbed: AtLeastTwo = 48  # test images for faithfulness, stability and sanity
    steps: Annotated[int, Field(ge=2, le=10_000)] = 16  # of deletion and insertion
    removals: Annotated[int, Field(ge=3, le=10_000)] = 24  # random sets of cells removed for sensitivity-n
    draws: Count = 2  # of noise for max-sensitivity
    stages: Count = 3  # in which the encoder's weights are randomised, after the head's
    random_labels: CountOrZero = 1000  # training images whose labels are drawn at random; 0 skips it
    masks: Annotated[int, Field(ge=1, le=100_000)] | None = 16  # most masks of ViT-CX for an image; null for no limit
    windows: Annotated[int, Field(ge=1, le=64)] = 6  # of occlusion, on a side

    @model_validator(mode="after")
    def _each_once(self) -> Explain:
        for name in ("classifiers", "methods"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"got {name} {values}; expected each at most once")
        return self


class Hnsw(Block):
    """The graph of neighbours (Malkov and Yashunin 2020), for more than 10 MB of embeddings; below, search is exact."""

    m: Annotated[int, Field(ge=4, le=128)] = 16  # edges of a case
    ef_construct: Annotated[int, Field(ge=4, le=4096)] = 100  # candidates looked at when a case is added
    ef: Annotated[int, Field(ge=1, le=4096)] = 100  # and when a question is asked; embedded, more if many are missed


class Quantisation(Block):
    """A smaller copy of the embeddings, 1 byte for each of their values, which is searched first."""

    kind: Literal["none", "int8"] = "none"  # none: the whole embeddings alone
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
