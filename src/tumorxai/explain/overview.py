"""Explain the classifiers of a run on its test images: maps, scores, a report card, and pictures to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tumorxai import config
from tumorxai.base import jackknife
from tumorxai.base.dataset import Dataset
from tumorxai.explain import card, gallery, localisation, measure, sheets
from tumorxai.explain.card import Card
from tumorxai.explain.explainer import Explainer, is_flat
from tumorxai.explain.measure import Measured
from tumorxai.explain.methods import FLOORS, METHODS, NAMES
from tumorxai.explain.subject import Ids, Subject, choose, draw, lesions
from tumorxai.files import write_csv, write_json
from tumorxai.networks import classifier
from tumorxai.networks.classifier import Classifier

TITLES = {"finetuned": "Fine-tuned classifier", "linear": "Linear probe"}
PER_CLASS = 6  # images on a class's own sheet, of the first classifier


def subject(
    params: config.Params, dataset: Dataset, model: Classifier, found: Ids, masks: NDArray[np.bool_], per_class: int
) -> Subject:
    """Draw the images that one classifier is explained on, and explain them.

    The class explained is the predicted one, right or wrong: the maps show why the classifier said what it said.

    Args:
        params: the whole experiment.
        dataset: the images.
        model: in evaluation mode.
        found: ids of the test images with a lesion mask, ascending.
        masks: of those, (n, S, S).
        per_class: most images on each class's own sheet, right and wrong answers alternating.
    """
    model.to(memory_format=torch.channels_last)  # what the images are, and faster
    settings, test, device = params.explain, dataset.indices("test"), model.head.weight.device
    probabilities = model.probabilities(dataset.images[test])
    predicted = probabilities.argmax(axis=1).astype(np.int64)
    truth = dataset.labels[test]
    scored = draw(found, settings.scored, params.seed)
    perturbed = draw(test, settings.perturbed, params.seed + 1)
    shown = test[choose(truth, predicted, settings.images, params.seed)]
    by_class = {
        name: test[truth == k][choose(truth[truth == k], predicted[truth == k], per_class, params.seed)]
        for k, name in enumerate(dataset.classes)
        if per_class and (truth == k).any()
    }
    ids = np.unique(np.concatenate([scored, perturbed, shown, *by_class.values()]))
    rows = np.searchsorted(test, ids)
    images = model.normalise(torch.from_numpy(np.asarray(dataset.images[ids])).to(device))
    targets = torch.from_numpy(predicted[rows]).to(device)
    explainer = Explainer.of(model, images[:1], settings.layer, settings.masks, settings.windows, params.seed)
    maps, skipped = measure.heat_maps(explainer, images, targets, list(settings.methods))
    outlines = dict(zip(found.tolist(), masks, strict=True))
    drawn = {"scored": scored, "perturbed": perturbed, "shown": shown}
    return Subject(
        explainer, ids, images, targets, probabilities.max(axis=1)[rows], maps, skipped, outlines, drawn, by_class
    )


def score(params: config.Params, dataset: Dataset, one: Subject) -> tuple[Measured, Card]:
    """Every score of a classifier's maps, image by image and summed up on the report card.

    Args:
        params: the whole experiment.
        dataset: the images.
        one: the classifier, its images and maps.
    """
    ids, scored, settings = one.drawn["perturbed"], one.drawn["scored"], params.explain
    training = draw(dataset.indices("train"), settings.random_labels, params.seed)
    chosen = torch.from_numpy(one.places(ids)).to(one.images.device)
    model: Any = one.explainer.model
    learned = torch.from_numpy(np.asarray(dataset.images[training])).to(one.images.device)
    measured = measure.perturbed(
        one.explainer, one.images[chosen], one.targets[chosen], one.maps_of(ids), settings, params.seed,
        model.normalise(learned),
    )  # fmt: skip
    resampled = jackknife.draw(dataset.clusters(ids), params.seed)
    rows = {
        check: card.judge(card.CHECKS[check], values, resampled, measured.others)
        for check, values in measured.values.items()
    }
    if len(scored):
        values = measure.localised(one.maps_of(scored), one.masks_of(scored))
        resampled = jackknife.draw(dataset.clusters(scored), params.seed)
        rows |= {check: card.judge(card.CHECKS[check], own, resampled, {}) for check, own in values.items()}
    return measured, {check: rows[check] for check in card.CHECKS if check in rows}


def content(dataset: Dataset, one: Subject, measured: Measured, rows: Card) -> dict[str, Any]:
    """What the metrics say of one classifier."""
    scored, layer = one.drawn["scored"], one.explainer.layer
    flat, flat_scored = (
        {name: int(is_flat(maps).sum()) for name, maps in own.items() if name in METHODS}
        for own in (one.maps, one.maps_of(scored))
    )
    kinds, counts = np.unique(dataset.table["mask_kind"].to_numpy(dtype=str)[scored], return_counts=True)
    predicted = one.targets.cpu().numpy()[one.places(scored)]
    passed = {
        name: {
            "passed": sum(own[name]["passed"] is True for own in rows.values() if name in own),
            "of": sum(own[name]["passed"] is not None for own in rows.values() if name in own),
        }
        for name in one.maps
    }
    thresholds = {
        name: localisation.best_threshold(maps.cpu().numpy(), one.masks_of(scored))
        for name, maps in one.maps_of(scored).items()
        if len(scored)
    }
    return {
        "layer": layer.name,
        "grid": list(layer.grid),
        "layer_of_vit_cx": one.explainer.features.name,
        "explained_images": len(one.ids),
        "perturbed_images": len(one.drawn["perturbed"]),
        "lesion_images": len(one.outlines),
        "scored_images": len(scored),
        "scored_correct": int((predicted == dataset.labels[scored]).sum()),
        "mask_kinds": dict(zip(kinds.tolist(), counts.tolist(), strict=True)),
        "flat_maps": flat,
        "flat_scored_maps": flat_scored,
        "skipped": one.skipped,
        "card": {
            check: {name: {key: row[key] for key in ("value", "low", "high", "passed")} for name, row in own.items()}
            for check, own in rows.items()
        },
        "passed": passed,
        "best_threshold": thresholds,
        "randomised": {name: dict(zip(measured.stages, own, strict=True)) for name, own in measured.cascade.items()},
        "agreement": measured.agreement,
    }


def table(cards: Mapping[str, Card]) -> pd.DataFrame:
    """The report cards of all classifiers, one row for each classifier, check and method or floor."""
    rows = []
    for name, own in cards.items():
        for check, by_method in own.items():
            for method, row in by_method.items():
                lead = row.get("lead", {})
                rows.append(
                    {
                        "classifier": name,
                        "group": card.CHECKS[check].group,
                        "check": check,
                        "better": card.CHECKS[check].better,
                        "method": method,
                        "kind": "floor" if method in FLOORS else "method",
                        **{key: row[key] for key in ("value", "low", "high")},
                        "strongest_floor": row.get("floor", ""),
                        **{f"lead_{key}": lead.get(key) for key in ("value", "low", "high")},
                        "passed": row["passed"],
                    }
                )
    return pd.DataFrame(rows)


def run(
    params: config.Params,
    data: Path,
    finetuned: Path,
    linear: Path,
    encoder: Path,
    embeddings: Path,
    details: Path,
    metrics: Path,
    report_card: Path,
    pictures: Path,
    page: Path,
) -> None:
    """Explain every classifier that the parameters name.

    Args:
        params: the whole experiment.
        data: folder of the pack, the masks, the catalogue, the groups and the split.
        finetuned: the fine-tuned classifier, ``*.safetensors``.
        linear: the linear probe, likewise; its encoder lies beside it.
        encoder: the pretrained encoder, for what it finds similar.
        embeddings: of all images by that encoder.
        details: JSON to write: every check of every method.
        metrics: JSON to write: what DVC shows.
        report_card: CSV to write.
        pictures: folder to write; the first classifier's pictures lie in it, any other's in a folder of its name.
        page: HTML to write, which shows them all.
    """
    dataset = Dataset.load(data)
    found, masks = lesions(data, dataset)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    described: dict[str, dict[str, Any]] = {}
    cards: dict[str, Card] = {}
    sections: dict[str, list[tuple[Path, str]]] = {}
    for i, name in enumerate(params.explain.classifiers):
        model = classifier.load(finetuned if name == "finetuned" else linear, data)
        one = subject(params, dataset, model.to(device), found, masks, per_class=0 if i else PER_CLASS)
        measured, cards[name] = score(params, dataset, one)
        described[name] = content(dataset, one, measured, cards[name])
        folder = pictures if i == 0 else pictures / name
        sections[TITLES[name]] = sheets.write(folder, params, dataset, one, measured, cards[name])
        if i == 0:
            sections["Pretrained encoder"] = [sheets.similar(folder, dataset, data, one, encoder, embeddings)]
    write_csv(report_card, table(cards))
    gallery.write(page, sections)
    write_json(details, first(described) | {"classifiers": described, "titles": NAMES})
    write_json(metrics, headline(next(iter(described.values()))))


def headline(described: Mapping[str, Any]) -> dict[str, float | None]:
    """Energy inside the lesions, the best method's over that of a centre blob; None if none was scored."""
    rows = described["card"].get("energy", {})
    values = [row["value"] for name, row in rows.items() if name in METHODS and row["value"] is not None]
    centre = rows.get("centre", {}).get("value")
    return {"energy_over_centre_blob": max(values) / centre if values and centre else None}


def first(described: Mapping[str, Any]) -> dict[str, Any]:
    """The first classifier's first method beside the floors, for a reader in a hurry."""
    name, own = next(iter(described.items()))
    method = next(iter(own["flat_maps"]))
    short = {"classifier": name, "method": method, "zero_maps": own["flat_scored_maps"][method]}
    for key in ("layer", "grid", "lesion_images", "scored_images", "scored_correct", "mask_kinds"):
        short[key] = own[key]
    if own["scored_images"]:
        short["localisation"] = {
            check: {
                "map" if source == method else source: {key: row[key] for key in ("value", "low", "high")}
                for source, row in rows.items()
                if source in (method, *FLOORS)
            }
            for check, rows in own["card"].items()
            if card.CHECKS[check].group == "localisation"
        }
    return short
