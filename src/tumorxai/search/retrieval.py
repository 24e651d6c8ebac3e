"""How good is the search? Test images are asked about, all images that are not on the test side can be found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tumorxai import config, pictures
from tumorxai.data.dataset import Dataset
from tumorxai.errors import UserError
from tumorxai.evaluate.statistics import mean_interval
from tumorxai.files import read_array, sha256, write_json
from tumorxai.search.index import Hit, Index, build

DATABASE = ("train", "unlabelled", "validation")
PAYLOAD = ["label", "group", "source", "sequence", "side", "patient"]
GOOD, BAD = "#15603a", "#a11d2b"


def kin(table: pd.DataFrame, queries: NDArray[np.int64], database: NDArray[np.int64]) -> list[set[int]]:
    """For each query the images of the database that are copies of it or of its patient."""
    members: dict[tuple[str, Any], set[int]] = {}
    for column in ("group", "patient"):
        for image, value in zip(database.tolist(), table[column].to_numpy()[database], strict=True):
            members.setdefault((column, value), set()).add(image)
    members.pop(("patient", ""), None)  # an unknown patient is nobody's kin
    group, patient = table["group"].to_numpy()[queries], table["patient"].to_numpy()[queries]
    return [
        members.get(("group", g), set()) | members.get(("patient", p), set())
        for g, p in zip(group, patient, strict=True)
    ]


def relevance(hits: list[list[Hit]], labels: list[str]) -> NDArray[np.bool_]:
    """Which hits have the query's label: (n, k), k hits for each of n queries."""
    return np.array(
        [[hit.payload["label"] == label for hit in row] for row, label in zip(hits, labels, strict=True)], dtype=bool
    )


def average_precision(relevant: NDArray[np.bool_], available: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average precision at k: precision at each relevant rank, averaged over min(k, all relevant cases).

    Source: Manning, Raghavan, Schütze, Introduction to Information Retrieval (2008), section 8.4, cut off at k.

    Args:
        relevant: (n, k), in the order of the ranks.
        available: number of relevant cases that could have been found (n,).

    Returns:
        Shape (n,), in [0, 1]; their mean is mAP@k.
    """
    k = relevant.shape[1]
    precision = relevant.cumsum(axis=1) / np.arange(1, k + 1)
    return np.asarray((precision * relevant).sum(axis=1) / np.minimum(available, k).clip(min=1))


def scores(
    relevant: NDArray[np.bool_],
    labels: NDArray[np.str_],
    available: NDArray[np.int64],
    clusters: NDArray[np.int64],
    seed: int,
) -> dict[str, Any]:
    """Every score with its 95% interval over resampled clusters of queries.

    Args:
        relevant: (n, k), see :func:`relevance`.
        labels: of the queries (n,).
        available: see :func:`average_precision`.
        clusters: cluster of each query (n,).
        seed: of the bootstrap.
    """
    precision = relevant.mean(axis=1)
    return {
        "precision": mean_interval(precision, clusters, seed),
        "hit_at_1": mean_interval(relevant[:, 0], clusters, seed),
        "hit_at_k": mean_interval(relevant.any(axis=1), clusters, seed),
        "map": mean_interval(average_precision(relevant, available), clusters, seed),
        "precision_by_class": {
            str(label): mean_interval(precision[labels == label], clusters[labels == label], seed)
            for label in np.unique(labels)
        },
    }


def sheet(path: Path, images: NDArray[np.uint8], queries: list[tuple[int, str]], hits: list[list[Hit]]) -> None:
    """Draw queries with what was found for them, a row each.

    Args:
        path: PNG to write.
        images: the pack, (N, C, S, S).
        queries: image_id and label of each.
        hits: the cases found for each, best first.
    """
    columns = 1 + len(hits[0])
    figure = Figure(figsize=(1.42 * columns, 1.8 * len(queries)), layout="constrained")
    axes = figure.subplots(len(queries), columns, squeeze=False)
    for row, (image, label), found in zip(axes, queries, hits, strict=True):
        drawn = [(image, f"query\n{label}", "black")]
        for hit in found:
            right = hit.payload["label"] == label
            text = f"{'✓' if right else '✗'} {hit.payload['label']}\nsimilarity {hit.similarity:.3f}"
            drawn.append((hit.image_id, text, GOOD if right else BAD))
        for axis, (shown, text, colour) in zip(row, drawn, strict=True):
            axis.imshow(images[shown].transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255)
            axis.set_title(text, fontsize=8, color=colour)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(color=colour, linewidth=2.5)
    pictures.save(figure, path, dpi=72)


def run(
    params: config.Params,
    data: Path,
    embeddings: Path,
    encoder: Path,
    index: Path,
    metrics: Path,
    picture: Path,
) -> None:
    """Fill the index, ask it about every test image, score the answers and draw a few.

    Copies of a query and images of its patient would be found without any understanding. The main figures leave them
    out; ``leaky`` keeps them. A split that is honest has none of them in the database, and both figures agree.

    Args:
        params: the whole experiment.
        data: folder of the pack, the catalogue, the groups and the split.
        embeddings: float32 (N, d), row = image_id.
        encoder: weights that made the embeddings; their checksum is the index's fingerprint.
        index: folder to write.
        metrics: JSON to write.
        picture: PNG to write.

    Raises:
        UserError: the embeddings are those of other images, or fewer than k cases can be found.
    """
    dataset = Dataset.load(data)
    vectors = read_array(embeddings)
    if len(vectors) != len(dataset.images):
        raise UserError(
            f"got {len(vectors)} embeddings in {embeddings} for {len(dataset.images)} images; expected one each; "
            "run `dvc repro embed`"
        )
    k = params.search.neighbours
    queries, database = dataset.indices("test"), dataset.indices(DATABASE)
    related = kin(dataset.table, queries, database)
    excluded = np.array([len(own) for own in related])
    if len(database) - excluded.max() < k:
        raise UserError(
            f"got search.neighbours {k} with {len(database) - excluded.max()} cases to be found; expected at most as "
            "many; lower search.neighbours"
        )
    fingerprint = sha256(encoder)
    cases = dataset.table.loc[database, PAYLOAD].reset_index()
    payload = [{str(name): value for name, value in case.items()} for case in cases.to_dict("records")]
    build(index, vectors[database], payload, database, fingerprint)
    with Index(index, fingerprint) as opened:
        answers = opened.nearest(vectors[queries], k + excluded)

    honest = [[h for h in row if h.image_id not in own][:k] for row, own in zip(answers, related, strict=True)]
    labels = dataset.table["label"].to_numpy(dtype=str)
    names, counts = np.unique(labels[database], return_counts=True)
    frequency = dict(zip(names.tolist(), counts.tolist(), strict=True))
    asked = labels[queries]
    same = np.array([frequency.get(label, 0) for label in asked.tolist()])
    same_kin = np.array([sum(labels[i] == label for i in own) for own, label in zip(related, asked, strict=True)])
    clusters = dataset.clusters(queries)
    found = relevance(honest, asked.tolist())
    content = {
        "neighbours": k,
        "database": len(database),
        "queries": len(queries),
        "queries_with_kin": int((excluded > 0).sum()),
        "chance": float(((same - same_kin) / (len(database) - excluded)).mean()),
        **scores(found, asked, same - same_kin, clusters, params.seed),
        "leaky": scores(relevance([row[:k] for row in answers], asked.tolist()), asked, same, clusters, params.seed),
    }
    shown = spread(asked, params.search.queries, params.seed)
    sheet(
        picture,
        dataset.images,
        [(int(queries[i]), str(asked[i])) for i in shown],
        [honest[i] for i in shown],
    )
    write_json(metrics, content)


def spread(labels: NDArray[np.str_], count: int, seed: int) -> NDArray[np.int64]:
    """Positions of at most ``count`` queries, drawn by seed, from the classes in turn; class by class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        turn[own] = np.arange(len(own))
    chosen = np.lexsort((labels, turn))[:count]
    return np.asarray(chosen[np.argsort(labels[chosen], kind="stable")])
