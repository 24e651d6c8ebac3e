"""A finished run, asked about one image: what the command and the page call."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from tumorxai import config
from tumorxai.archives.images import Fit
from tumorxai.base import embedded
from tumorxai.base.dataset import Dataset
from tumorxai.base.neighbours import normalised
from tumorxai.dedupe.hashing import Images
from tumorxai.errors import ChangedError, UserError, known
from tumorxai.explain.explainer import Explainer
from tumorxai.files import Rows, sha256
from tumorxai.inputs import identity
from tumorxai.networks import classifier, encoders
from tumorxai.networks.classifier import Classifier
from tumorxai.networks.embed import features, ready
from tumorxai.result import calibration
from tumorxai.robustness import foreign
from tumorxai.run import decode
from tumorxai.run.lookup import Copy, Lookup

if TYPE_CHECKING:
    from tumorxai.search.index import Hit, Index

# What a run is asked with, and what else of it is shown. The index is left out: it says itself which encoder it is of.
FILES = (
    "params.yaml", "data/catalogue.csv", "data/groups.csv", "data/split.csv", "data/pack.npy",
    "models/encoder.safetensors", "models/encoder.json", "models/embeddings.npy", "models/embeddings.json",
    "models/finetuned.safetensors", "models/finetuned.json", "details/calibration.json",
)  # fmt: skip
SHOWN = ("data/pairs.csv", "data/quarantine.csv", "models/suspects.csv", "details")
TYPICAL = 0.99  # share of the validation images that the threshold of the distance accepts


@dataclass(frozen=True)
class Case:
    """One image.

    Attributes:
        pixels: uint8 (C, S, S), as the pack holds them.
        small: the image in the two sizes by which copies are found.
        image_id: its place in the pack, or None for an image from outside.
    """

    pixels: NDArray[np.uint8]
    small: Images
    image_id: int | None = None
    # What :meth:`Workspace.copy` and :meth:`Workspace.embedding` have found: both are asked for several times.
    _found: list[Copy | None] = field(default_factory=list, repr=False, compare=False)
    _embedded: list[NDArray[np.float32]] = field(default_factory=list, repr=False, compare=False)

    def png(self) -> bytes:
        """The pixels as a PNG file."""
        grey = len(self.pixels) == 1
        stream = io.BytesIO()
        Image.fromarray(self.pixels[0] if grey else self.pixels.transpose(1, 2, 0)).save(stream, "PNG")
        return stream.getvalue()


@dataclass(frozen=True)
class Prediction:
    """What is said of one image.

    Attributes:
        probabilities: of each class, calibrated by the temperature that was fitted on the validation side.
        distance: to the k-th nearest training embedding, in [0, 2] (arXiv 2204.06507, section 3); k is
            ``foreign.neighbours``.
        threshold: that TYPICAL of the validation images do not exceed; None without a validation side.
        percentile: share of the validation images that are no farther than this one, 0 to 100; None likewise.
        copy_of: another image of the pack that this one duplicates, on whatever side; None where there is none.
    """

    probabilities: dict[str, float]
    distance: float
    threshold: float | None
    percentile: float | None
    copy_of: Copy | None

    @property
    def predicted(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    @property
    def unlike(self) -> bool:
        """Whether the image is farther from the training images than the threshold allows."""
        return self.threshold is not None and self.distance > self.threshold


@dataclass(frozen=True)
class Workspace:
    """A finished run: the folders ``models``, ``data`` and ``metrics`` under a root. Threads may share one.

    Attributes:
        root: the project's folder.
        params: of the run.
        dataset: what is known of its images.
        pack: the images.
        classifier: fine-tuned, in evaluation mode.
        temperature: that its logits are divided by.
        encoder: pretrained, in evaluation mode.
        card: of the encoder.
        embeddings: of all images (N, D).
        fingerprint: of the encoder's weights.
        lookup: for copies.
        files: what it was read from, as it was then.
    """

    root: Path
    params: config.Params
    dataset: Dataset
    pack: Rows
    classifier: Classifier
    temperature: float
    encoder: nn.Module
    card: dict[str, Any]
    embeddings: NDArray[np.float32]
    fingerprint: str
    lookup: Lookup
    files: identity.State
    # Torch's hooks belong to one backward pass at a time, the index too is asked by one caller at a time.
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @classmethod
    def open(cls, root: Path = Path()) -> Workspace:
        """Load everything but the index, which the first search opens: it has one reader at a time.

        Args:
            root: the project's folder.

        Raises:
            UserError: a file is missing, or the files are not those of one run.
        """
        files = identity.state(root / name for name in (*FILES, *SHOWN))
        identity.check_run(root, FILES)
        params = config.load(root / "params.yaml")
        models, dataset = root / "models", Dataset.load(root / "data")
        network = classifier.load(models / "finetuned.safetensors", root / "data")
        encoder, card = encoders.load(models / "encoder.safetensors", root / "data")
        temperature = calibration.fitted_temperature(root / "details" / "calibration.json")
        pack = Rows(root / "data" / "pack.npy", np.uint8, dataset.images.shape)
        embeddings = embedded.read(
            models / "embeddings.npy", dataset.images, models / "encoder.safetensors", root / "data"
        )
        shape = (card["channels"], card["size"], card["size"])
        wanted = (params.data.channels, params.data.image_size, params.data.image_size)
        if not dataset.images.shape[1:] == shape == wanted or network.classes != dataset.classes:
            raise UserError(
                f"{root}: got images of shape {dataset.images.shape[1:]} in the pack, {wanted} in params.yaml and "
                f"{shape} in the encoder's card, and the classes {', '.join(dataset.classes)} in data and "
                f"{', '.join(network.classes)} in the classifier; expected those of one run; run `dvc repro`"
            )
        if torch.cuda.is_available():
            network.to("cuda")
        fit = Fit(params.data.image_size, params.data.channels, params.data.fit)
        lookup = Lookup(dataset, fit, params.dedupe)
        fingerprint = sha256(models / "encoder.safetensors")
        opened = cls(
            root, params, dataset, pack, network, temperature, ready(encoder), card, np.array(embeddings), fingerprint,
            lookup, files,
        )  # fmt: skip
        opened.as_opened(FILES)
        return opened

    def as_opened(self, names: Sequence[str]) -> None:
        """Refuse what was read of two runs, because a stage has replaced files meanwhile.

        Args:
            names: of files and folders among FILES and SHOWN.

        Raises:
            ChangedError: a file is no longer as it was before :meth:`open` read the first one.
        """
        own = {self.root / name for name in names}
        if now := [path for path in identity.changed(self.files) if own & {path, *path.parents}]:
            raise ChangedError(
                f"{self.root}: got {', '.join(path.name for path in now)} replaced while the run was opened; expected "
                "files of one run; wait until `dvc repro` has ended, then start again"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return self.classifier.classes

    @property
    def fit(self) -> Fit:
        """How images become squares."""
        return Fit(self.params.data.image_size, self.params.data.channels, self.params.data.fit)

    def read(self, content: bytes) -> Case:
        """Decode an image file from outside.

        Raises:
            UnreadableError: it is empty, damaged, too large, too small or no image.
        """
        return Case(*decode.read(content, self.fit))

    def case(self, image_id: int) -> Case:
        """An image of the pack.

        Raises:
            UserError: there is no such image.
        """
        if not 0 <= image_id < len(self.pack):
            raise UserError(f"got the image {image_id}; expected one of 0 to {len(self.pack) - 1}")
        return Case(self.pack[image_id], self.lookup[image_id], image_id)

    def thumbnail(self, image_id: int) -> bytes:
        """An image of the pack as a PNG file.

        Raises:
            UserError: there is no such image.
        """
        return self.case(image_id).png()

    def predict(self, case: Case) -> Prediction:
        """Class probabilities, and what speaks against believing them."""
        return self._predictions(case.pixels[None], self.embedding(case), [self.copy(case)])[0]

    def copy(self, case: Case) -> Copy | None:
        """Another image of the pack that this one duplicates; looked for once for each case."""
        if not case._found:
            case._found.append(self.lookup.find(case.small, case.image_id))
        return case._found[0]

    def embedding(self, case: Case) -> NDArray[np.float32]:
        """What the encoder makes of an image, (1, D); computed once for each case."""
        if not case._embedded:
            case._embedded.append(self._embed(case.pixels[None]))
        return case._embedded[0]

    def predictions(self, pixels: NDArray[np.uint8], copies: Sequence[Copy | None]) -> list[Prediction]:
        """The same of many images at once.

        Args:
            pixels: (n, C, S, S), as :class:`Case` has them.
            copies: which image of the pack each of them duplicates (n).
        """
        return self._predictions(pixels, self._embed(pixels), copies)

    def _predictions(
        self, pixels: NDArray[np.uint8], embeddings: NDArray[np.float32], copies: Sequence[Copy | None]
    ) -> list[Prediction]:
        with self._lock:
            raw = self.classifier.probabilities(pixels)
        scaled = calibration.rescaled(raw, self.temperature).tolist()
        distances = foreign.unit_distances(normalised(embeddings), *self._bank).tolist()
        typical = self._typical
        threshold = float(np.quantile(typical, TYPICAL)) if len(typical) else None
        return [
            Prediction(
                dict(zip(self.classes, shares, strict=True)),
                distance,
                threshold,
                100 * float((typical <= distance).mean()) if len(typical) else None,
                copy,
            )
            for shares, distance, copy in zip(scaled, distances, copies, strict=True)
        ]

    def explain(self, case: Case, methods: Sequence[str], class_name: str | None = None) -> dict[str, Any]:
        """Heat-maps of the classifier, read off and sampled as the parameters' block ``explain`` says.

        Args:
            case: what to explain.
            methods: keys of ``explain.methods.NAMES``.
            class_name: class to explain; None explains the predicted one.

        Returns:
            By method, float32 (S, S) in [0, 1].

        Raises:
            UserError: an unknown class or method.
            NotApplicableError: a method that asks for another kind of encoder.
        """
        with self._lock:
            device = self.classifier.head.weight.device
            images = self.classifier.normalise(torch.from_numpy(case.pixels[None]).to(device))
            if class_name is None:
                with torch.no_grad():
                    target = self.classifier(images).argmax(dim=1)
            else:
                target = torch.tensor([self.classes.index(known("class", class_name, self.classes))], device=device)
            return {name: self._explainer.maps(images, target, name)[0].cpu().numpy() for name in methods}

    def search(
        self,
        case: Case,
        count: int,
        label: str | None = None,
        source: str | None = None,
        sequence: str | None = None,
        exclude_copies: bool = True,
    ) -> list[Hit]:
        """The most similar cases of the index, best first; never the image itself.

        Args:
            case: what to look for.
            count: most cases that are returned.
            label: only cases of this class.
            source: only cases of this data set.
            sequence: only cases of this MRI sequence.
            exclude_copies: leave out copies of the image and other images of its patient, as far as they are known.

        Raises:
            UserError: a label, source or sequence that no case has; no index, or one of another encoder.
        """
        wanted = {"label": ("class", label), "source": ("source", source), "sequence": ("sequence", sequence)}
        left_out = self.related(case) if exclude_copies else {case.image_id}
        with self._lock:
            where = {
                key: known(kind, value, filter(None, self.index.values(key)))
                for key, (kind, value) in wanted.items()
                if value is not None
            }
            hits = self.index.nearest(self.embedding(case), [count + len(left_out)], where)[0]
        return [hit for hit in hits if hit.image_id not in left_out][:count]

    def related(self, case: Case) -> set[int | None]:
        """The image itself, its copies in the pack and the other images of its patient."""
        own = case.image_id
        if own is None and (copy := self.copy(case)):
            own = copy.image_id
        if own is None:
            return set()
        group, patient = (self.dataset.table[name].to_numpy() for name in ("group", "patient"))
        return {own, *np.flatnonzero((group == group[own]) | ((patient == patient[own]) & (patient != ""))).tolist()}

    @property
    def index(self) -> Index:
        """The similar cases; no other process can replace them until :meth:`close`.

        Raises:
            UserError: there is none, it is being replaced, or another encoder filled it.
        """
        with self._lock:
            return self._index

    @cached_property
    def _index(self) -> Index:
        from tumorxai.search.index import Index

        return Index(self.root / "models" / "index", self.fingerprint)

    def close(self) -> None:
        """Let others replace the index."""
        with self._lock:
            if "_index" in self.__dict__:
                self._index.__exit__(None, None, None)
                del self.__dict__["_index"]

    def _embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._lock:
            return np.concatenate(list(features(self.encoder, pixels, self.card["mean"], self.card["std"])))

    @cached_property
    def _bank(self) -> tuple[NDArray[np.float32], int]:
        """Training embeddings of length 1, and which of the nearest counts."""
        train = self.embeddings[self.dataset.indices(("train", "unlabelled"))]
        return normalised(train), min(self.params.foreign.neighbours, len(train))

    @cached_property
    def _typical(self) -> NDArray[np.float64]:
        """Distances of the validation images."""
        own = self.embeddings[self.dataset.indices("validation")]
        parts = [foreign.unit_distances(normalised(own[i : i + 512]), *self._bank) for i in range(0, len(own), 512)]
        return np.concatenate(parts) if parts else np.zeros(0)

    @cached_property
    def _explainer(self) -> Explainer:
        settings = self.params.explain
        images = self.classifier.normalise(torch.from_numpy(self.pack[0][None]))
        example = images.to(self.classifier.head.weight.device)
        return Explainer.of(self.classifier, example, settings.layer, settings.masks, settings.windows)
