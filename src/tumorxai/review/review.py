"""What to look at: the classifier's worst errors, labels that are likely wrong, and images that may not belong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold
from tqdm import tqdm

from tumorxai import config
from tumorxai.base import drawing, embedded, logistic
from tumorxai.base.counts import image_nll
from tumorxai.base.dataset import Dataset
from tumorxai.base.drawing import WRONG
from tumorxai.base.neighbours import normalised
from tumorxai.base.predictions import SIDES, Predictions
from tumorxai.files import read_json, reading, write_csv, write_json
from tumorxai.review.isolation import isolation, spanning_tree

Ints = NDArray[np.int64]
PLAIN = "#333333"
COPIES = 2  # drawn in a row
LISTED = 20  # isolated images, and pairs that are alike, in the details
MOST = 20_000  # different images that are compared each with all


def out_of_fold(
    features: NDArray[np.float32], labels: Ints, clusters: Ints, classes: int, penalty: float, folds: int, seed: int
) -> NDArray[np.float64]:
    """Class probabilities of every image by a logistic regression that has not seen it, nor its copies or its patient.

    Args:
        features: frozen embeddings (n, D).
        labels: class indices (n,).
        clusters: cluster of each image (n,).
        classes: number of classes K.
        penalty: inverse strength C.
        folds: number of parts, at most the number of clusters.
        seed: of the parts.

    Returns:
        Shape (n, K).
    """
    found = np.zeros((len(labels), classes))
    settings, nobody = config.Linear(penalties=[penalty]), np.empty(0, dtype=np.int64)
    parts = StratifiedGroupKFold(min(folds, len(np.unique(clusters))), shuffle=True, random_state=seed)
    for train, test in tqdm(parts.split(features, labels, clusters), desc="out of fold", total=parts.n_splits):
        fitted, _ = logistic.fit(features, labels, train, nobody, clusters, classes, settings)
        found[test] = fitted.probabilities[test]
    return found


def suspected(labels: Ints, probabilities: NDArray[np.float64]) -> tuple[NDArray[np.bool_], Ints]:
    """Confident learning (Northcutt, Jiang, Chuang 2021, arXiv 1911.00068, section 3.1): off the diagonal of Eq. 1.

    An image counts to class j if its probability of j reaches what images labelled j have on average; of several such
    classes, to the most probable. It is suspected where that class is not its label.

    Args:
        labels: class indices (n,).
        probabilities: out of fold (n, K).

    Returns:
        Which images are suspected (n,), and the class that each counts to (n,), -1 where to none.
    """
    classes = probabilities.shape[1]
    usual = np.array([probabilities[labels == k, k].mean() if (labels == k).any() else np.inf for k in range(classes)])
    confident = np.where(probabilities >= usual, probabilities, -1.0)
    own = np.where(confident.max(axis=1) >= 0, confident.argmax(axis=1), -1)
    return (own >= 0) & (own != labels), own


@dataclass(frozen=True)
class Row:
    """A row of a gallery: image ids and what stands over them.

    Attributes:
        image: the image itself, and a text.
        others: its copies, and the nearest training images, each with a text and whether its label differs.
    """

    image: tuple[int, str]
    others: list[tuple[int, str, bool]]


def once(values: Ints) -> Ints:
    """Places of the first of each value, in order: of copies one is enough to look at."""
    _, first = np.unique(values, return_index=True)
    return np.sort(first)


def row(
    dataset: Dataset,
    unit: NDArray[np.float32],
    clusters: Ints,
    image: int,
    text: str,
    neighbours: int,
) -> Row:
    """An image with its copies and its nearest training images, none a copy or of the patient of it or of another.

    Args:
        dataset: the images.
        unit: embeddings of length 1 (N, D).
        clusters: of all images (N,).
        image: its id.
        text: stands over it.
        neighbours: how many.
    """
    label, side = dataset.table["label"].to_numpy(), dataset.table["side"].to_numpy()
    group = dataset.table["group"].to_numpy()
    copies = [int(other) for other in np.flatnonzero(group == group[image]) if other != image][:COPIES]
    train = dataset.indices("train")
    train = train[clusters[train] != clusters[image]]
    similarity = unit[train] @ unit[image]
    near = np.argsort(-similarity, kind="stable")
    near = near[once(clusters[train[near]])][:neighbours]
    others = [(copy, f"copy, {side[copy]}\n{label[copy]}", bool(label[copy] != label[image])) for copy in copies]
    others += [
        (int(train[i]), f"similarity {similarity[i]:.2f}\n{label[train[i]]}", bool(label[train[i]] != label[image]))
        for i in near
    ]
    return Row((image, text), others)


def gallery(images: NDArray[np.uint8], rows: Sequence[Row], title: str) -> Figure:
    """Draw the rows; labels that differ from the first image's are orange."""
    columns = 1 + max((len(own.others) for own in rows), default=0)
    height = 0.4 + 1.85 * max(len(rows), 1)
    drawn = Figure(figsize=(1.5 * columns, height))
    drawn.text(0.01, 1 - 0.2 / height, title, fontsize=10, va="center")
    if not rows:
        return drawn
    # Places are given: laying out dozens of pictures takes longer than drawing them.
    frame = {"left": 0.01, "right": 0.99, "bottom": 0.01, "top": 1 - 0.75 / height, "wspace": 0.08, "hspace": 0.32}
    grid = drawn.subplots(len(rows), columns, squeeze=False, gridspec_kw=frame)
    for line, own in zip(grid, rows, strict=True):
        for axes in line:
            axes.set_axis_off()
        _show(line[0], images[own.image[0]], own.image[1], PLAIN)
        # The neighbours stand in the same columns, whether or not there are copies before them.
        for axes, (image, text, differs) in zip(line[columns - len(own.others) :], own.others, strict=True):
            _show(axes, images[image], text, WRONG if differs else PLAIN)
    return drawn


def _show(axes: Axes, image: NDArray[np.uint8], text: str, colour: str) -> None:
    axes.imshow(image[0] if len(image) == 1 else image.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255)
    axes.set_title(text, fontsize=7.5, color=colour)


@dataclass(frozen=True)
class Suspicion:
    """What confident learning says of the labelled images.

    Attributes:
        ids: of the images (n,).
        labels: class indices (n,).
        said: probabilities out of fold (n, K).
        likely: the class that each image counts to (n,), -1 where to none.
        chosen: places of the suspected images, the least likely label first.
    """

    ids: Ints
    labels: Ints
    said: NDArray[np.float64]
    likely: Ints
    chosen: Ints

    def table(self, dataset: Dataset) -> pd.DataFrame:
        """The suspected images, with both classes and their probabilities."""
        names, place = np.array(dataset.classes, dtype=object), self.chosen
        listed = dataset.table.iloc[self.ids[place]].reset_index()
        return listed[["image_id", "source", "path", "group", "side", "label"]].assign(
            suggested=names[self.likely[place]],
            p_label=self.said[place, self.labels[place]].round(6),
            p_suggested=self.said[place, self.likely[place]].round(6),
        )

    def counts(self, dataset: Dataset) -> dict[str, Any]:
        """For JSON. The better the accuracy out of fold, the more a suspicion is worth."""
        by_label = {
            name: {"images": int((self.labels == k).sum()), "suspected": int((self.labels[self.chosen] == k).sum())}
            for k, name in enumerate(dataset.classes)
        }
        on_test = dataset.table["side"].to_numpy()[self.ids[self.chosen]] == "test"
        return {
            "images": len(self.ids),
            "suspected": len(self.chosen),
            "suspected_on_test": int(on_test.sum()),
            "by_label": by_label,
            "out_of_fold_accuracy": float((self.said.argmax(axis=1) == self.labels).mean()),
        }


def suspect(
    dataset: Dataset, features: NDArray[np.float32], clusters: Ints, penalty: float, folds: int, seed: int
) -> Suspicion:
    """Hold every label against what the other images' labels say of it; the arguments are :func:`out_of_fold`'s."""
    ids = dataset.indices(SIDES)
    labels = dataset.labels[ids]
    said = out_of_fold(features[ids], labels, clusters[ids], len(dataset.classes), penalty, folds, seed)
    flagged, likely = suspected(labels, said)
    order = np.argsort(said[np.arange(len(ids)), labels], kind="stable")
    return Suspicion(ids, labels, said, likely, order[flagged[order]])


def outliers(
    dataset: Dataset, unit: NDArray[np.float32], clusters: Ints, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images by how alone they are, and pairs that are no known copies by how alike they are.

    Of copies the first stands for all: a copy would keep a foreign image company.

    Args:
        dataset: the images.
        unit: embeddings of length 1 (N, D).
        clusters: of all images (N,); pairs within one, such as a patient's, are left out.
        seed: of the draw of MOST images, where there are more.

    Returns:
        ``image_id`` and ``isolation`` in [0, 1), the most isolated first; and ``image_a``, ``image_b`` and their
        ``distance`` in [0, 2], the closest first.
    """
    ids = once(dataset.table["group"].to_numpy())
    if len(ids) > MOST:
        ids = np.sort(np.random.default_rng(seed).choice(ids, MOST, replace=False))
    tree = spanning_tree(unit[ids])
    alone = pd.DataFrame({"image_id": ids, "isolation": isolation(tree).round(6)})
    a, b = ids[tree.a], ids[tree.b]
    pairs = pd.DataFrame({"image_a": np.minimum(a, b), "image_b": np.maximum(a, b), "distance": tree.length.round(6)})
    strangers = clusters[a] != clusters[b]
    return (
        alone.sort_values("isolation", ascending=False, kind="stable", ignore_index=True),
        pairs[strangers].sort_values(["distance", "image_a"], ignore_index=True),
    )


def _named(table: pd.DataFrame, dataset: Dataset) -> list[dict[str, Any]]:
    """The first rows of a table of :func:`outliers`, with what is known of their images."""
    known = dataset.table[["source", "path", "side", "label"]].reset_index()
    return [
        {str(key): known.loc[value].to_dict() if "image" in str(key) else value for key, value in row.items()}
        for row in table.head(LISTED).rename(columns={"image_id": "image"}).to_dict(orient="records")
    ]


def run(
    params: config.Params,
    data: Path,
    embeddings: Path,
    probe: Path,
    classifier: Path,
    suspects: Path,
    details: Path,
    plots: Path,
) -> None:
    """Draw the galleries, and list the suspected labels and the images that may not belong.

    Args:
        params: the whole experiment.
        data: folder of the pack, the catalogue, the groups and the split.
        embeddings: float32 (N, features).
        probe: the linear probe's JSON, which knows its penalty.
        classifier: predictions of the classifier whose errors are drawn.
        suspects: CSV to write, the least likely label first.
        details: JSON to write.
        plots: folder to write ``worst.png``, ``suspects.png``, ``isolated.png`` and ``alike.png`` to.
    """
    dataset, settings = Dataset.load(data), params.review
    features = np.asarray(embedded.read(embeddings, dataset.images, data=data))
    unit, clusters = normalised(features), dataset.clusters(np.arange(len(features)))
    names = dataset.classes

    def draw(found: Sequence[tuple[int, str]], title: str, path: Path) -> None:
        rows = [row(dataset, unit, clusters, image, text, settings.neighbours) for image, text in found]
        drawing.save(gallery(dataset.images, rows, title), path, dpi=72, colours=128)

    test = Predictions.read(classifier).of(dataset, classifier).on("test")
    image, wrong = test.table["image_id"].to_numpy(), test.predicted != test.truth
    order = np.argsort(-image_nll(test.truth, test.probabilities), kind="stable")
    worst = order[wrong[order]]
    sure = test.probabilities.max(axis=1)
    draw(
        [
            (
                int(image[i]),
                f"{names[test.truth[i]]}\ncalled {names[test.predicted[i]]}, {sure[i]:.0%}",
            )
            for i in worst[once(test.clusters[worst])][: settings.rows]
        ],
        f"The worst of {wrong.sum()} errors on {len(wrong)} test images; copies, nearest training images",
        plots / "worst.png",
    )

    said = read_json(probe, "chosen")
    with reading(probe, "the penalty that the linear probe chose"):
        penalty = float(said["chosen"]["penalty"])
    found = suspect(dataset, features, clusters, penalty, settings.folds, params.seed)
    counts = found.counts(dataset)
    draw(
        [
            (
                int(found.ids[i]),
                f"labelled {names[found.labels[i]]}\n"
                f"rather {names[found.likely[i]]}, {found.said[i, found.likely[i]]:.0%}",
            )
            for i in found.chosen[once(clusters[found.ids[found.chosen]])][: settings.rows]
        ],
        f"{counts['suspected']} of {counts['images']} labels are suspected by a probe that agrees with "
        f"{counts['out_of_fold_accuracy']:.0%} of them",
        plots / "suspects.png",
    )
    alone, alike = outliers(dataset, unit, clusters, params.seed)
    label, side = dataset.table["label"].to_numpy(), dataset.table["side"].to_numpy()
    draw(
        [
            (image, f"isolation {value:.2f}\n{label[image]}, {side[image]}")
            for image, value in alone.head(settings.rows).itertuples(index=False)
        ],
        f"Do they belong? The most isolated of {len(alone)} different images; copies, nearest training images",
        plots / "isolated.png",
    )
    pairs = [
        Row((a, f"{label[a]}\n{side[a]}"), [(b, f"distance {apart:.2f}\n{label[b]}, {side[b]}", label[a] != label[b])])
        for a, b, apart in alike.head(settings.rows).itertuples(index=False)
    ]
    drawing.save(gallery(dataset.images, pairs, "Closest, yet no known copies"), plots / "alike.png", 72, 128)
    write_csv(suspects, found.table(dataset))
    listed = {"isolated": _named(alone, dataset), "alike": _named(alike, dataset)}
    write_json(details, {"test_errors": int(wrong.sum()), **counts, **listed})
