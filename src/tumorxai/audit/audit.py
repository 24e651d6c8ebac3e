"""The leakage audit: what crosses the sides of a split, and how far a model gets without looking at a lesion.

Four questions: how many copies stand on both sides, under this protocol and under the others, and how many did the
detector miss (a second search, by other means); whose images cross; how much of a score do copies, patients and series
explain (the canary, a nearest neighbour on raw pixels, learns nothing and can only recognise); and which shortcuts
(border, size, format, source, sequence) tell the classes apart on their own. The answer in one sentence is the verdict.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai import config
from tumorxai.audit import canary, figures, leak, second, shortcuts, subjects, verdict
from tumorxai.audit.leak import PROTOCOLS, Neighbours
from tumorxai.base import drawing
from tumorxai.base.dataset import Dataset, read_pairs
from tumorxai.base.pixels import pixels
from tumorxai.config import Audit, Split
from tumorxai.errors import UserError
from tumorxai.files import sha256, write_csv, write_json
from tumorxai.split.split import draw

HONEST = ("patients", "grouped")  # which keep copies apart; the first that can be drawn is probed
CROSSINGS = {
    "train_test": (("train", "unlabelled"), "test"),
    "train_validation": (("train", "unlabelled"), "validation"),
    "validation_test": (("validation",), "test"),
}

Ids = NDArray[np.int64]


def crossing(table: pd.DataFrame, pairs: pd.DataFrame, before: tuple[str, ...], after: str) -> dict[str, int]:
    """What the side ``after`` shares with the sides ``before``.

    Args:
        table: N images indexed 0 to N - 1 with ``side``, ``group``, ``patient`` and ``pixels_sha256``.
        pairs: confirmed copies with ``image_a`` and ``image_b``.
        before: sides that come first, for instance those trained on.
        after: side that should hold nothing of them.

    Returns:
        Numbers of images, and of shared groups and patients; of images that have on the other side a pixel-identical
        copy (``exact_copies``), only a similar one (``near_copies``), or any image of their group (``copies``).
    """
    left, right = table["side"].isin(before), table["side"] == after
    groups, patients = (_shared(table[column], left, right) for column in ("group", "patient"))
    exact = right & table["pixels_sha256"].isin(table["pixels_sha256"][left])
    near = pd.Series(False, index=table.index)
    for one, other in (("image_a", "image_b"), ("image_b", "image_a")):
        near[pairs[one][left.to_numpy()[pairs[other]]]] = True
    near &= right
    return {
        "images": int(right.sum()),
        "shared_groups": len(groups),
        "shared_patients": len(patients),
        "exact_copies": int(exact.sum()),
        "near_copies": int((near & ~exact).sum()),
        "copies": int((right & (near | exact | table["group"].isin(groups))).sum()),
    }


def _shared(column: pd.Series[Any], left: pd.Series[bool], right: pd.Series[bool]) -> set[Any]:
    return (set(column[left]) & set(column[right])) - {""}


def _check(crossings: dict[str, dict[str, int]], patients: int, protocol: str) -> None:
    """Stop at an honest split on whose sides stands what its protocol keeps on one.

    Args:
        crossings: of each pair of sides, see :func:`crossing`.
        patients: test images of patients who are learned from, also by the registry, which ``grouped`` does not ask.
        protocol: of the split.
    """
    kinds = ("shared_groups", "shared_patients", "exact_copies", "near_copies")
    found = [
        f"{found[kind]} {kind.replace('_', ' ')} from {name.replace('_', ' to ')}"
        for name, found in crossings.items()
        for kind in kinds
        if found[kind]
    ]
    if patients and protocol == "patients":
        found.append(f"{patients} test images of patients who are learned from")
    if found:
        raise UserError(
            f"audit: got {', '.join(found)} under split.protocol {protocol}; expected none; data/split.csv does not "
            "fit the catalogue and its groups: run `dvc repro --force dedupe split`, and report it if this stays"
        )


def _sides(dataset: Dataset, settings: Split, seed: int) -> dict[str, NDArray[Any] | str]:
    """Side of each image under every protocol: the split in force, and the others drawn alike; or why there is none."""
    sides: dict[str, NDArray[Any] | str] = {}
    for name in PROTOCOLS:
        if name == settings.protocol:
            sides[name] = dataset.table["side"].to_numpy()
            continue
        try:
            without = {"folds": 0, "fold": 0} if name == "official" else {}  # its sides are the publisher's
            other = Split.model_validate(settings.model_dump() | {"protocol": name} | without)
            sides[name] = draw(dataset.table, dataset.table, other, seed)["side"].to_numpy()
        except UserError as error:
            sides[name] = str(error)
    return sides


def search(dataset: Dataset, settings: Audit, seed: int) -> second.Found:
    """Look for copies a second time, among images of different pixels that ``dedupe`` did not drop.

    Test and validation images come first where there are more than ``settings.second_limit``.
    """
    table = dataset.table
    used = np.flatnonzero((table["status"] != "drop") & ~table["pixels_sha256"].duplicated())
    first = np.flatnonzero(table["side"].isin(["test", "validation"]))
    return second.find(dataset.images, used, settings.second_limit, seed, first)


def _evidence(dataset: Dataset, pairs: pd.DataFrame, seen: second.Found, side: NDArray[Any]) -> verdict.Evidence:
    """What the verdict on a split is made of."""
    found = crossing(dataset.table.assign(side=side), pairs, subjects.LEARNED, "test")
    again = second.crossing(dataset.table, seen, pairs, side, subjects.LEARNED, "test")
    shared = subjects.crossing(dataset.table, side)
    if shared["series"] is None:
        shared["series"] = again["alike"]
    return verdict.Evidence(copies=found["copies"], missed=again["missed"], explained=again["explained"], **shared)


def audit(dataset: Dataset, pairs: pd.DataFrame, split: Split, settings: Audit, seed: int) -> dict[str, Any]:
    """Measure the leakage of the split in force and of the other protocols, drawn with the same seed and sizes.

    Args:
        dataset: images, catalogue, groups and split.
        pairs: confirmed copies with ``image_a`` and ``image_b``, and ``correlation`` of their edges where it is known.
        split: how the split was drawn.
        settings: size of the canary's images, seeds of the leak, limit of the second search.
        seed: of the other protocols, the probes and the jackknife.

    Raises:
        UserError: the split is one of HONEST and something crosses its sides all the same.
    """
    sides, table = _sides(dataset, split, seed), dataset.table
    crossings = {
        name: {key: crossing(table.assign(side=side), pairs, *ends) for key, ends in CROSSINGS.items()}
        for name, side in sides.items()
        if not isinstance(side, str)
    }
    if split.protocol in HONEST:
        own = np.asarray(sides[split.protocol])
        _check(crossings[split.protocol], subjects.crossing(table, own)["patients"], split.protocol)
    neighbours = Neighbours(pixels(dataset, settings.canary_size))
    clusters, units = dataset.clusters(np.arange(len(table))), subjects.units(table)
    labels = pd.Categorical(table["label"]).codes.astype(np.int64)  # also of images that only this split drops
    seen = search(dataset, settings, seed)
    protocols: dict[str, Any] = {}
    for name, side in sides.items():
        if isinstance(side, str):
            protocols[name] = {"unavailable": side}
            continue
        evidence = _evidence(dataset, pairs, seen, side)
        protocols[name] = {
            "crossings": crossings[name],
            "second": {key: second.crossing(table, seen, pairs, side, *ends) for key, ends in CROSSINGS.items()},
            "verdict": verdict.judge(evidence),
            "canary": canary.canary(dataset, side, neighbours, labels, clusters, seed),
            "patient": canary.patients(table, side, labels, clusters, seed),
            "random_labels": canary.random_labels(side, neighbours, units, len(dataset.classes), seed),
        }
    # On a leaky split a probe would recognise copies by their borders or sizes: it gets the honest one.
    honest = next((name for name in HONEST if not isinstance(sides.get(name, ""), str)), split.protocol)
    return {
        "verdict": protocols[split.protocol]["verdict"],
        "protocol": split.protocol,
        "canary_size": settings.canary_size,
        "in_force": protocols[split.protocol],
        "protocols": protocols,
        "second": second.recaptured(seen, pairs),
        "leak": leak.take_apart(table, labels, neighbours, split, settings.leak_seeds, seed),
        "probes_protocol": honest,
        "probes": shortcuts.probe(dataset, np.asarray(sides[honest]), labels, clusters, seed),
    }


def headline(found: dict[str, Any], table: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """What DVC shows of the split in force.

    Args:
        found: by :func:`audit`.
        table: the images audited; see :func:`tumorxai.audit.subjects.findings`.

    Returns:
        ``leakage``: images with a copy on another side, those with one that only the second search found, and patients
        on two sides (None where no patient is known), summed over the pairs of sides; test images with a slice of
        their series on a side that is learned from (where no series is known, that look so to the second search); and
        images of which nothing tells whose they are, so that none of these counts can see their patients cross.
        ``canary``: accuracy of the nearest neighbour on raw pixels, 95% interval.
    """
    own = found["in_force"]
    crossings, score = own["crossings"].values(), own["canary"]["all"]
    known = (table["patient"] != "").any()
    patients = sum(entry["shared_patients"] for entry in crossings) if known else None
    return {
        "leakage": {
            "copies_across_sides": sum(entry["copies"] for entry in crossings),
            "missed_copies": sum(entry["missed"] for entry in own["second"].values()),
            "patients_across_sides": patients,
            "series_across_sides": own["verdict"]["evidence"]["series"],
            "patient_unknown": int((subjects.findings(table)["known"] == "unknown").sum()),
        },
        "canary": {key: score.get(key) for key in ("accuracy", "accuracy_low", "accuracy_high")},
    }


def run(params: config.Params, data: Path, details: Path, metrics: Path, plots: Path, passed: Path) -> None:
    """Audit the data set under ``data``.

    Args:
        params: the whole experiment.
        data: folder of the pack, the catalogue, the groups, their pairs and the split.
        details: JSON to write: all that was found.
        metrics: folder to write ``leakage.json`` and ``canary.json`` to: what DVC shows.
        plots: folder to write ``leakage.png``, ``parts.png``, ``leakage.csv`` and ``parts.csv`` to.
        passed: JSON to write at the end: which split was audited. What trains or scores depends on it, so that no score
            exists without its audit; it changes with the split alone.

    Raises:
        UserError: the split is one of HONEST and leaks, or a table does not fit.
    """
    dataset = Dataset.load(data)
    pairs = read_pairs(data / "pairs.csv", len(dataset.table))
    found = audit(dataset, pairs, params.split, params.audit, params.seed)
    drawing.save(figures.figure(found), plots / "leakage.png", dpi=110)
    write_csv(plots / "leakage.csv", figures.rows(found))
    if found["leak"] is not None:
        drawing.save(figures.parts(found["leak"]), plots / "parts.png", dpi=110)
        write_csv(plots / "parts.csv", figures.part_rows(found["leak"]))
    write_json(details, found)
    for name, shown in headline(found, dataset.table).items():
        write_json(metrics / f"{name}.json", shown)
    write_json(passed, {"protocol": params.split.protocol, "split": sha256(data / "split.csv")})
