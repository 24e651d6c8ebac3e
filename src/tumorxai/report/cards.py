"""The model card and the dataset card, in the format of the Hugging Face Hub, filled from what the run measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tumorxai.base.glossary import HEAD, PARTS, shown
from tumorxai.files import write_text
from tumorxai.report import claim, words
from tumorxai.report.facts import HEADLINES, MODELS, Facts, answer
from tumorxai.report.sections import SECTIONS

HUB_LICENCES = {"CC0-1.0": "cc0-1.0", "CC-BY-4.0": "cc-by-4.0", "Apache-2.0": "apache-2.0"}
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


@dataclass(frozen=True)
class Published:
    """What the cards of a folder for a model hub say instead of what those beside the report say.

    Attributes:
        repository: ``OWNER/NAME`` on the hub; empty where it is not known.
        not_timm: of ``encoder`` and ``classifier``, those that timm cannot load, with the reason.
        certificate: whether the folder holds one.
    """

    repository: str
    not_timm: dict[str, str]
    certificate: bool


def texts(facts: Facts, published: Published | None = None) -> dict[str, str]:
    """The cards, by the names of their files.

    Args:
        facts: of the run.
        published: for a folder that goes to a model hub; None beside the report.
    """
    shared = {"facts": facts, "params": facts.params, "models": MODELS, "headlines": HEADLINES, "published": published}
    shared["scores"] = shown(PARTS)
    return {
        "model_card.md": words.fill(
            "model_card.md.j2",
            header=_yaml(model_header(facts, published)),
            answer=answer(facts),
            licence=licence(facts),
            **shared,
        ),
        "dataset_card.md": words.fill("dataset_card.md.j2", header=_yaml(dataset_header(facts)), **shared),
    }


def render(folder: Path, facts: Facts) -> None:
    """Write ``model_card.md``, ``dataset_card.md`` and ``claim.md``.

    Args:
        folder: of the report.
        facts: of the run.
    """
    for name, text in texts(facts).items():
        write_text(folder / name, text)
    write_text(folder / "claim.md", checklist(facts))


def checklist(facts: Facts, published: Published | None = None) -> str:
    """The CLAIM sheet; a published one names the report's sections without leading there."""
    return words.fill(
        "claim.md.j2",
        facts=facts,
        items=claim.items(facts),
        summary=claim.summary(facts),
        sections=SECTIONS,
        published=published,
    )


def model_header(facts: Facts, published: Published | None = None) -> dict[str, Any]:
    """The metadata of the model card, with the scores as the Hub's ``model-index``."""
    params = facts.params
    kind = [] if facts.method.uses_labels else ["self-supervised-learning"]
    tags = ["brain-mri", *kind, params.method, params.model.backbone, "research-only"]
    header: dict[str, Any] = {
        "license": licence(facts),
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": [*tags, "simulated-lesions"] if facts.simulated else tags,
    }
    if published:
        header["pipeline_tag"] = "image-feature-extraction"  # what lies at the top of the folder is the encoder
        if "encoder" in published.not_timm:
            header["library_name"] = "tumorxai"
        if facts.leaky:
            header["tags"] = [*header["tags"], "leaking-split"]
    scored = [
        {"type": score, "name": f"{score} on the test side, {HEADLINES[name]}", "value": round(entry["value"], 4)}
        for name, found in facts.results.items()
        if name in HEADLINES
        for score in shown(HEAD)
        if (entry := found["test"].get(score)) and entry["value"] is not None
    ]
    if scored:
        task = {"type": "image-classification"}
        dataset = {"name": ", ".join(facts.sources), "type": "-".join(facts.sources), "split": "test"}
        result = {"task": task, "dataset": dataset, "metrics": scored}
        header["model-index"] = [{"name": f"tumorxai-{params.method}-{params.model.backbone}", "results": [result]}]
    if header["license"] == "other":
        header["license_name"] = "see-sources"
    return header


def licence(facts: Facts) -> str:
    """The licence of the weights in the Hub's words: what the images allow that they were learned from.

    Published weights, and what was trained further from them, have their own, which is not known here.
    """
    return _licence(facts) if facts.start == "random" else "unknown"


def dataset_header(facts: Facts) -> dict[str, Any]:
    """The metadata of the dataset card."""
    catalogue, split = facts.metrics["catalogue"], facts.metrics["split"]
    header: dict[str, Any] = {
        "pretty_name": ", ".join(facts.sources),
        "license": _licence(facts),
        "task_categories": ["image-classification"],
        "tags": ["medical", "brain-mri", *(["simulated-lesions"] if facts.simulated else [])],
    }
    if header["license"] == "other":
        header["license_name"] = "see-sources"
    if catalogue is not None:
        sizes = [name for limit, name in SIZES.items() if catalogue["images"] < limit]
        header["size_categories"] = [sizes[0] if sizes else "1M<n<10M"]
    if split is not None:
        counts = {name: side["images"] for name, side in split["sides"].items() if name != "dropped"}
        sides = [{"name": name, "num_examples": count} for name, count in counts.items() if count]
        header["dataset_info"] = {"splits": sides}
    return header


def _licence(facts: Facts) -> str:
    """The one licence of all sources in the Hub's words, ``other`` for a mixture, ``unknown`` where none is stated."""
    stated = {facts.known[name].licence if name in facts.known else "" for name in facts.sources}
    if len(stated) > 1:
        return "other"
    only = stated.pop()
    return HUB_LICENCES.get(only, "other") if only else "unknown"


def _yaml(header: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=1000)
    return text.strip()
