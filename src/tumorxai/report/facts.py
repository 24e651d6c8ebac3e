"""What a run has measured, gathered once for the page, the cards and the checklist."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tumorxai import __version__, config
from tumorxai.archives.sources import Source, identity
from tumorxai.archives.sources import load as load_sources
from tumorxai.audit.verdict import LEAKING
from tumorxai.base.protocols import BY_LEARNING, PROTOCOLS
from tumorxai.base.statistics import ALPHA
from tumorxai.files import read_json
from tumorxai.report.origin import Origin, origin

METRICS = (
    "catalogue",
    "dedupe",
    "patients",
    "split",
    "leakage",
    "pretrain",
    *PROTOCOLS,
    "comparisons",
    "calibration",
    "labels",
    "robustness",
    "foreign",
    "errors",
    "explain",
    "search",
)
HEADLINES = {own.key: own.heading for own in BY_LEARNING if own.plotted}
FEW = 0.1  # share of the labels that the first sentence tells of beside all of them
MODELS = HEADLINES | {own.key: own.heading for own in PROTOCOLS.values() if own.listed}
PACKAGES = ("torch", "torchvision", "timm", "lightly", "scikit-learn", "grad-cam", "qdrant-edge-py", "dvc", "numpy")


@dataclass(frozen=True)
class Facts:
    """A run, as far as it has come.

    Attributes:
        params: the experiment.
        metrics: content of ``details/NAME.json`` by name, None where the file is not there.
        sources: identities of the data sources.
        known: what ``sources.yaml`` says of those that it knows.
        run: hardware and time of pretraining, if known.
        origin: commit and preset, and what was changed since.
        written: date and time, UTC.
        versions: of what the results depend on.
    """

    params: config.Params
    metrics: dict[str, dict[str, Any] | None]
    sources: list[str]
    known: dict[str, Source]
    run: dict[str, Any] | None
    origin: Origin
    written: str
    versions: dict[str, str]

    @property
    def method(self) -> config.About:
        """What the method is."""
        return config.about(self.params.method)

    @property
    def labels(self) -> str:
        """Words for whether pretraining saw labels."""
        return "with the training labels" if self.method.uses_labels else "without labels"

    @property
    def start(self) -> str:
        """Which weights pretraining starts from, or the encoder keeps: "random" or "published"."""
        return "random" if self.method.trains and self.params.pretrain.init is None else "published"

    @property
    def simulated(self) -> bool:
        """Are any lesions made up?"""
        return "phantom" in self.sources

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """Scores of each model that has been scored."""
        return {name: found for name in MODELS if (found := self.metrics[name]) is not None}

    @property
    def classes(self) -> list[str]:
        """Names of the classes, as the test side has them."""
        split = self.metrics["split"]
        return [] if split is None else list(split["sides"]["test"]["classes"])

    @property
    def copies(self) -> int | None:
        """Test images that have a copy on the training or the unlabelled side of the split in force."""
        leakage = self.metrics["leakage"]
        if leakage is None:
            return None
        crossings = leakage["protocols"][leakage["protocol"]].get("crossings")
        return None if crossings is None else int(crossings["train_test"]["copies"])

    @property
    def verdict(self) -> dict[str, Any] | None:
        """What the audit says of the split in force: ``level`` and ``sentence``."""
        return (self.metrics["leakage"] or {}).get("verdict")

    @property
    def clusters(self) -> str:
        """What the intervals leave out at once, in words: what is known to belong together."""
        whose = self.metrics["patients"]
        if whose is None:
            return "groups of copies (no patient is known)"
        named, folded = (
            sum(own[kind]["images"] for own in whose["sources"].values()) for kind in ("patients", "folds")
        )
        if named and not folded and whose["known"] == whose["images"]:
            return "patients"
        told = [*(["patients"] if named else []), *(["series"] if whose["series"]["images"] else [])]
        if not told:
            return "groups of copies (no patient is known)"
        several = "" if named else "; a patient may have several series"
        return f"{' and '.join(told)} where they are known, groups of copies elsewhere{several}"

    @property
    def titles(self) -> list[str]:
        """What the sources are called by those who published them."""
        return [self.known[name].title if name in self.known else name for name in self.sources]

    @property
    def own(self) -> list[str]:
        """Sources that are the user's own images."""
        return [name for name in self.sources if name.startswith("local/")]

    @property
    def unequal(self) -> str:
        """In what fine-tuning and training from random weights differ beyond the start; empty if in nothing."""
        one, other = self.params.finetune.model_dump(), self.params.supervised.model_dump()
        differing = [
            f"{key.replace('_', ' ')} {one[key]:g} against {other[key]:g}" for key in one if one[key] != other[key]
        ]
        return f"they also differ in {', '.join(differing)}" if differing else ""

    @property
    def alone(self) -> bool:
        """Are all images the user's own, so that no publisher is to be spoken of?"""
        return self.own == self.sources

    @property
    def beforehand(self) -> str:
        """What the network to be fine-tuned had been shown before, and the one from random weights had not."""
        if not self.method.trains:
            return "others have trained the first before, on images of theirs"
        found = self.metrics["pretrain"]
        if found is None:
            return ""
        epochs, images = found["epochs"], found["images"]
        return f"the first has also had {epochs} epochs of pretraining on {images} images, in other views"

    @property
    def unlike(self) -> str:
        """What is to be said in one sentence with the difference of the two: :attr:`beforehand`, :attr:`unequal`."""
        return "; ".join(filter(None, (self.beforehand, self.unequal)))

    @property
    def chosen(self) -> str:
        """What strengths, epochs, temperatures and thresholds are chosen on, in a sentence."""
        if self.params.split.validation:
            return "Strengths, epochs, temperatures and thresholds are chosen on the validation side."
        return (
            "There is no validation side: strengths and numbers of neighbours are chosen by cross-validation over "
            "groups of the training side, the last epoch stands, and there is no temperature."
        )

    @property
    def telling(self) -> bool:
        """Does the probe know enough to suspect labels: is it right on half of what the frequent class gets wrong?"""
        errors, split = self.metrics["errors"], self.metrics["split"]
        if errors is None or split is None:
            return False
        sides = [side["classes"] for name, side in split["sides"].items() if name != "dropped"]
        counts = [sum(side.get(label, 0) for side in sides) for label in self.classes]
        frequent = max(counts, default=0) / max(sum(counts), 1)
        return bool(errors["out_of_fold_accuracy"] >= (1 + frequent) / 2)

    @property
    def leaky(self) -> bool:
        """Are the scores inflated by copies or by patients on both sides?"""
        judged = self.verdict is not None and self.verdict["level"] == LEAKING
        return judged or self.params.split.protocol == "random" or bool(self.copies)

    @property
    def energy(self) -> float | None:
        """Estimate for pretraining in kilowatt-hours: the stated power times the measured time."""
        watts = self.params.report.watts
        if watts is None or self.run is None:
            return None
        return float(watts * self.run["seconds"] / 3.6e6)

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """Dotted names and values of the parameters that this run depends on, without paths and addresses."""
        used = self.params.model_dump()
        used["methods"] = {self.params.method: _private(self.params.methods[self.params.method])}
        used["data"] = {name: value for name, value in used["data"].items() if name != "phantom" or self.simulated}
        used["data"]["sources"] = ", ".join(self.sources)
        used["foreign"]["sources"] = ", ".join(map(identity, self.params.foreign.sources)) or "none"
        used["search"]["url"] = "a server" if self.params.search.url else ""
        return [(name, "paper's values" if value == {} else str(value)) for name, value in config.flatten(used)]


def gather(root: Path, params: config.Params) -> Facts:
    """Read what a run has left.

    Args:
        root: project folder with ``details/`` and ``models/``.
        params: the experiment.
    """
    names = [identity(source) for source in params.data.sources]
    known = load_sources()
    return Facts(
        params=params,
        metrics={name: _optional(root / "details" / f"{name}.json") for name in METRICS},
        sources=names,
        known={name: known[name] for name in names if name in known},
        run=_optional(root / "models" / "pretrain_run.json"),
        origin=origin(root),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        versions=_versions(),
    )


def pretraining(facts: Facts) -> str:
    """What the encoder adds to random weights under a linear classifier: the page's first sentence, whatever it is."""
    pair = (facts.metrics["comparisons"] or {}).get("linear - random_linear")
    about = facts.method
    what = f"Pretraining {facts.labels}" if about.trains else "Starting from published weights"
    if pair is None:
        return f"What {what[0].lower() + what[1:]} adds to random weights has not been measured in this run."
    few = ((facts.metrics["labels"] or {}).get("linear") or {}).get(f"{FEW:g}", {}).get("over_random")
    gains = {"with all labels": pair["accuracy"]} | ({f"with {FEW:.0%} of them": few} if few else {})
    told = ", ".join(
        f"{100 * gain['value']:+.1f} points {when} (95% interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
        for when, gain in gains.items()
    )
    on = " on these simulated lesions" if facts.simulated else ""
    measured = f"a linear classifier on the frozen encoder against one on random weights: {told}."
    if facts.leaky:
        return f"Whether {what[0].lower() + what[1:]} helps cannot be told from this split, which leaks: {measured}"
    signs = {when: (gain["low"] > 0) - (gain["high"] < 0) for when, gain in gains.items()}
    if len(set(signs.values())) == 1:
        verdict = {1: "helps", 0: "is not shown to help", -1: "harms"}[signs["with all labels"]]
        return f"{what} {verdict}{on}: {measured}"
    words = {1: "shown to help", 0: "not shown to help", -1: "shown to harm"}
    parts = " and ".join(f"{words[sign]} {when}" for when, sign in signs.items())
    apart = (few or {}).get("gain_of_all_less_this")
    if apart is None:
        return f"{what} is {parts}{on}: {measured}"
    differ = "differ" if apart["low"] > 0 or apart["high"] < 0 else "are not shown to differ"
    return (
        f"{what} is {parts}{on}: {measured[:-1]}; these two gains {differ}, {100 * apart['value']:+.1f} points "
        f"({100 * apart['low']:+.1f} to {100 * apart['high']:+.1f})."
    )


def answer(facts: Facts) -> str:
    """What the run says on its question, in a sentence or two that the figures carry."""
    pair = (facts.metrics["comparisons"] or {}).get("finetune - supervised")
    if pair is None:
        return "This run has not compared the two."
    found = pair["accuracy"]
    points = f"{100 * found['value']:+.1f} percentage points, interval {100 * found['low']:+.1f} to " + (
        f"{100 * found['high']:+.1f}, p {found['p']:.3f}, both adjusted for the planned comparisons"
    )
    value, low, high = (100 * pair["balanced_accuracy"][key] for key in ("value", "low", "high"))
    points += f"; balanced accuracy {value:+.1f}, {low:+.1f} to {high:+.1f}"
    also = f"; {facts.unlike}" if facts.unlike else ""
    if facts.leaky:
        return f"It cannot be answered from this split, which leaks. (Fine-tuned minus supervised: {points}{also}.)"
    if found["p"] >= ALPHA:
        least = found["detectable"]
        why = (
            "They are right and wrong on the same test images, so nothing tells how much they vary"
            if least is None
            else f"A true difference would have to reach {100 * least:.2g} points for this test side to find it with "
            "80% power"
        )
        return (
            f"Not shown. Fine-tuned minus supervised accuracy: {points}{also}. {why}: this is no evidence that the two "
            "are equal."
        )
    verdict = "Yes, on this test side" if found["value"] > 0 else "No: it is worse on this test side"
    return f"{verdict}. Fine-tuned minus supervised accuracy: {points}{also}."


def _private(method: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Path(value).name if name == "weights" else value for name, value in method.items()}


def _versions() -> dict[str, str]:
    versions = {"Python": platform.python_version(), "tumorxai": __version__}
    for name in PACKAGES:
        versions[name] = importlib.metadata.version(name)
    return versions


def _optional(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.exists() else None
