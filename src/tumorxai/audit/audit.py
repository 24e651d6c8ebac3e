"""The leakage audit: what crosses the sides of a split, and how far a model gets without looking at a lesion.

Three questions: how many copies stand on both sides, under this protocol and under the others; how much of a score do
they explain (the canary, a nearest neighbour on raw pixels, learns nothing and can only recognise); and which shortcuts
(border, size, format, source, sequence) tell the classes apart on their own.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from tqdm import tqdm

from tumorxai import config
from tumorxai.audit import figures
from tumorxai.base import bootstrap, drawing, scores
from tumorxai.base.counts import macro
from tumorxai.base.dataset import Dataset
from tumorxai.base.pixels import nearest, pixels
from tumorxai.config import Audit, Split
from tumorxai.errors import UserError
from tumorxai.files import sha256, write_csv, write_json
from tumorxai.split.split import draw

PROTOCOLS: tuple[str, ...] = get_args(Split.model_fields["protocol"].annotation)
HONEST = ("patients", "grouped")  # which keep copies apart; the first that can be drawn is probed
CROSSINGS = {
    "train_test": (("train", "unlabelled"), "test"),
    "train_validation": (("train", "unlabelled"), "validation"),
    "validation_test": (("validation",), "test"),
}
TREES = 200

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


def _check(crossings: dict[str, dict[str, int]], protocol: str) -> None:
    kinds = ("shared_groups", "shared_patients", "exact_copies", "near_copies")
    found = [
        f"{found[kind]} {kind.replace('_', ' ')} from {name.replace('_', ' to ')}"
        for name, found in crossings.items()
        for kind in kinds
        if found[kind]
    ]
    if found:
        raise UserError(
            f"audit: got {', '.join(found)} under split.protocol {protocol}; expected none; data/split.csv does not "
            "fit the catalogue and its groups: run `dvc repro --force dedupe split`, and report it if this stays"
        )


def score(
    truth: Ids, predicted: Ids, clusters: Ids, seed: int, probabilities: NDArray[np.float32] | None = None
) -> dict[str, Any]:
    """Accuracy, balanced accuracy and AUC with 95% intervals (percentiles of a cluster bootstrap).

    Args:
        truth: class of each image, shape (n,).
        predicted: the same, guessed.
        clusters: images of one cluster are resampled together, shape (n,).
        seed: of the resamples.
        probabilities: of each class, shape (n, classes); where given, the mean one-versus-rest AUC is scored as well.

    Returns:
        The figures and their bounds in [0, 1], ``chance`` for the balanced accuracy (one over the number of classes)
        and ``majority``, the accuracy of always saying the most frequent class; figures are null without images.
    """
    if not len(truth):
        return {"images": 0, "accuracy": None, "balanced_accuracy": None}
    drawn, labels = bootstrap.draw(clusters, seed), int(max(truth.max(), predicted.max())) + 1
    found = scores.from_confusion(scores.confusions(truth, predicted, labels, drawn))
    figures = {name: found[name] for name in ("accuracy", "balanced_accuracy")}
    classes, counts = np.unique(truth, return_counts=True)
    if probabilities is not None:
        areas = [scores.ranking(truth == label, probabilities[:, label], drawn)[0] for label in classes]
        figures["auc"] = macro(np.stack(areas, axis=1))
    result: dict[str, Any] = {"images": len(truth), "clusters": drawn.weights.shape[1]}
    for name, values in figures.items():
        bounds = {"": "value", "_low": "low", "_high": "high"}
        entry = bootstrap.entry(values)
        result |= {name + suffix: round(entry[bound], 6) for suffix, bound in bounds.items()}
    return result | {"chance": round(1 / len(classes), 6), "majority": round(counts.max() / len(truth), 6)}


def canary(
    dataset: Dataset, side: NDArray[Any], features: NDArray[np.float32], labels: Ids, clusters: Ids, seed: int
) -> dict[str, Any]:
    """The pixel nearest neighbour from the training to the test side: on all test images and on those without a copy.

    Args:
        dataset: for the groups and the checksums.
        side: side of each image, shape (N,).
        features: see :func:`pixels`.
        labels: class of each image, shape (N,).
        clusters: cluster of each image, shape (N,).
        seed: of the bootstrap.
    """
    train, test = np.flatnonzero(side == "train"), np.flatnonzero(side == "test")
    guess = labels[nearest(features, train, test)]
    seen = dataset.table[np.isin(side, ["train", "unlabelled"])]
    exact = dataset.table["pixels_sha256"].iloc[test].isin(seen["pixels_sha256"]).to_numpy()
    copied = dataset.table["group"].iloc[test].isin(seen["group"]).to_numpy() | exact
    keep = {"all": np.ones(len(test), dtype=bool), "no_exact_copy": ~exact, "no_copy": ~copied}
    return {
        name: score(labels[test[chosen]], guess[chosen], clusters[test[chosen]], seed) for name, chosen in keep.items()
    }


def _patients(table: pd.DataFrame, side: NDArray[Any], labels: Ids, clusters: Ids, seed: int) -> dict[str, Any] | None:
    """Score of naming each test patient's most frequent training class; null where no patient is on both sides."""
    train = pd.DataFrame({"patient": table["patient"].to_numpy(), "label": labels})[side == "train"]
    usual = train.groupby("patient")["label"].agg(lambda own: own.mode().iloc[0]).drop("", errors="ignore")
    test = np.flatnonzero((side == "test") & table["patient"].isin(usual.index).to_numpy())
    if not len(test):
        return None
    return score(labels[test], usual[table["patient"].iloc[test]].to_numpy(dtype=np.int64), clusters[test], seed)


def _border(dataset: Dataset) -> NDArray[np.float32]:
    """The outermost ring of pixels of every channel, shape (N, 4 C (S - 1)); padding there shows the image's shape."""
    images = dataset.images
    sides = images[:, :, 0, :], images[:, :, -1, :], images[:, :, 1:-1, 0], images[:, :, 1:-1, -1]
    return np.concatenate([side.reshape(len(images), -1) for side in sides], axis=1).astype(np.float32)


def _coded(*columns: pd.Series[Any]) -> NDArray[np.float32] | None:
    """Texts one-hot; null if they never differ."""
    coded = pd.get_dummies(pd.concat(columns, axis=1).astype(str)).to_numpy(np.float32)
    return coded if len(np.unique(coded, axis=0)) > 1 else None


def _shortcuts(dataset: Dataset) -> dict[str, NDArray[np.float32] | None]:
    """Features of each probe, none of which shows a lesion, shape (N, D); null where all images are alike."""
    table = dataset.table
    size = table[["width", "height"]].assign(aspect=table["width"] / table["height"]).to_numpy(np.float32)
    suffix = table["path"].map(lambda path: PurePosixPath(path).suffix)
    return {
        "border": _border(dataset),
        "size": size if len(np.unique(size, axis=0)) > 1 else None,
        "format": _coded(table["format"], table["mode"], suffix),
        "bytes": table[["bytes"]].to_numpy(np.float32),
        "source": _coded(table["source"]),
        "sequence": _coded(table["sequence"]),
    }


def _learn(features: NDArray[np.float32], train: Ids, test: Ids, labels: Ids, seed: int) -> NDArray[np.float32]:
    """Class probabilities of the test images by a random forest on the training images, shape (n_test, classes)."""
    # One thread: the trees' votes are then added in one order, and the same seed gives the same file.
    forest = RandomForestClassifier(TREES, min_samples_leaf=3, class_weight="balanced", random_state=seed, n_jobs=1)
    forest.fit(features[train], labels[train])
    probabilities = np.zeros((len(test), labels.max() + 1), dtype=np.float32)
    probabilities[:, forest.classes_] = forest.predict_proba(features[test])
    return probabilities


def probe(dataset: Dataset, side: NDArray[Any], labels: Ids, clusters: Ids, seed: int) -> dict[str, Any]:
    """Score of every shortcut from the training to the test side; null where the images do not differ in it.

    A shortcut gives classes away if its AUC is above one half beyond its interval. That also sees a trait that few
    images have and that only rules classes out, to which a (balanced) accuracy is nearly blind.
    """
    train, test = np.flatnonzero(side == "train"), np.flatnonzero(side == "test")
    result: dict[str, Any] = {}
    for name, features in tqdm(_shortcuts(dataset).items(), "shortcut probes", disable=None, leave=False):
        result[name] = None
        if features is not None:
            guess = _learn(features, train, test, labels, seed)
            found = score(labels[test], guess.argmax(axis=1), clusters[test], seed, guess)
            result[name] = found | {"gives_classes_away": bool(found["auc_low"] > 0.5)}
    return result


def random_labels(
    side: NDArray[Any], features: NDArray[np.float32], labels: Ids, clusters: Ids, seed: int
) -> dict[str, Any]:
    """Score of the canary on shuffled labels: beyond chance, it would be a fault of the audit."""
    train, test = np.flatnonzero(side == "train"), np.flatnonzero(side == "test")
    used, shuffled = np.concatenate([train, test]), labels.copy()
    shuffled[used] = np.random.default_rng(seed).permutation(labels[used])
    said = shuffled[nearest(features, train, test)]
    one_hot = np.eye(labels.max() + 1, dtype=np.float32)[said]
    found = score(shuffled[test], said, clusters[test], seed, one_hot)
    return found | {"at_chance": bool(found["auc_low"] <= 0.5 <= found["auc_high"])}


def _sides(dataset: Dataset, settings: Split, seed: int) -> dict[str, NDArray[Any] | str]:
    """Side of each image under every protocol: the split in force, and the others drawn alike; or why there is none."""
    sides: dict[str, NDArray[Any] | str] = {}
    for name in PROTOCOLS:
        if name == settings.protocol:
            sides[name] = dataset.table["side"].to_numpy()
            continue
        try:
            other = Split.model_validate(settings.model_dump() | {"protocol": name})
            sides[name] = draw(dataset.table, dataset.table, other, seed)["side"].to_numpy()
        except UserError as error:
            sides[name] = str(error)
    return sides


def audit(dataset: Dataset, pairs: pd.DataFrame, split: Split, settings: Audit, seed: int) -> dict[str, Any]:
    """Measure the leakage of the split in force and of the other protocols, drawn with the same seed and sizes.

    Args:
        dataset: images, catalogue, groups and split.
        pairs: confirmed copies with ``image_a`` and ``image_b``.
        split: how the split was drawn.
        settings: size of the canary's images.
        seed: of the other protocols, the probes and the bootstrap.

    Raises:
        UserError: the split is one of HONEST and something crosses its sides all the same.
    """
    tables = _sides(dataset, split, seed)
    crossings = {
        name: {key: crossing(dataset.table.assign(side=side), pairs, *ends) for key, ends in CROSSINGS.items()}
        for name, side in tables.items()
        if not isinstance(side, str)
    }
    if split.protocol in HONEST:
        _check(crossings[split.protocol], split.protocol)
    small, clusters = pixels(dataset, settings.canary_size), dataset.clusters(np.arange(len(dataset.table)))
    labels = pd.Categorical(dataset.table["label"]).codes.astype(np.int64)  # also of images that only this split drops
    protocols: dict[str, Any] = {}
    for name, side in tables.items():
        if isinstance(side, str):
            protocols[name] = {"unavailable": side}
            continue
        protocols[name] = {
            "crossings": crossings[name],
            "canary": canary(dataset, side, small, labels, clusters, seed),
            "patient": _patients(dataset.table, side, labels, clusters, seed),
        }
    # On a leaky split a probe would recognise copies by their borders or sizes: it gets the honest one.
    honest = next((name for name in HONEST if not isinstance(tables[name], str)), split.protocol)
    side = np.asarray(tables[honest])
    return {
        "protocol": split.protocol,
        "canary_size": settings.canary_size,
        "in_force": protocols[split.protocol],
        "protocols": protocols,
        "probes_protocol": honest,
        "probes": probe(dataset, side, labels, clusters, seed)
        | {"random_labels": random_labels(side, small, labels, clusters, seed)},
    }


def headline(found: dict[str, Any], patients_known: bool) -> dict[str, dict[str, float | None]]:
    """What DVC shows of the split in force.

    Args:
        found: by :func:`audit`.
        patients_known: is any image's patient known?

    Returns:
        ``leakage``: images with a copy on another side, and patients on two sides (None where no patient is known),
        summed over the pairs of sides. ``canary``: accuracy of the nearest neighbour on raw pixels, 95% interval.
    """
    own = found["in_force"]
    crossings, canary = own["crossings"].values(), own["canary"]["all"]
    patients = sum(entry["shared_patients"] for entry in crossings) if patients_known else None
    return {
        "leakage": {
            "copies_across_sides": sum(entry["copies"] for entry in crossings),
            "patients_across_sides": patients,
        },
        "canary": {key: canary.get(key) for key in ("accuracy", "accuracy_low", "accuracy_high")},
    }


def run(params: config.Params, data: Path, details: Path, metrics: Path, plots: Path, passed: Path) -> None:
    """Audit the data set under ``data``.

    Args:
        params: the whole experiment.
        data: folder of the pack, the catalogue, the groups, their pairs and the split.
        details: JSON to write: all that was found.
        metrics: folder to write ``leakage.json`` and ``canary.json`` to: what DVC shows.
        plots: folder to write ``leakage.png`` and ``leakage.csv`` to.
        passed: JSON to write at the end: which split was audited. What trains or scores depends on it, so that no score
            exists without its audit; it changes with the split alone.

    Raises:
        UserError: the split is one of HONEST and leaks, or a table does not fit.
    """
    try:
        pairs = pd.read_csv(data / "pairs.csv", usecols=["image_a", "image_b"], dtype=np.int64)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(
            f"{data / 'pairs.csv'}: got {error}; expected the table of copies; run `dvc repro dedupe`"
        ) from None
    dataset = Dataset.load(data)
    if len(pairs) and pairs.to_numpy().max() >= len(dataset.table):
        raise UserError(
            f"{data / 'pairs.csv'}: got ids beyond the catalogue; expected its images; run `dvc repro dedupe`"
        )
    found = audit(dataset, pairs, params.split, params.audit, params.seed)
    drawing.save(figures.figure(found), plots / "leakage.png", dpi=110)
    write_csv(plots / "leakage.csv", figures.rows(found))
    write_json(details, found)
    for name, shown in headline(found, bool((dataset.table["patient"] != "").any())).items():
        write_json(metrics / f"{name}.json", shown)
    write_json(passed, {"protocol": params.split.protocol, "split": sha256(data / "split.csv")})
