"""How good is the search? Test images are asked about, all images that are not on the test side can be found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai import config
from tumorxai.base import embedded, jackknife
from tumorxai.base.dataset import Dataset
from tumorxai.base.pixels import pixels
from tumorxai.base.statistics import difference
from tumorxai.errors import UserError
from tumorxai.files import sha256, write_csv, write_json
from tumorxai.search import figures
from tumorxai.search.index import TIE, Hit, Index, build
from tumorxai.search.measures import MEASURES, Bools, Floats, Ints, chance

DATABASE = ("train", "unlabelled", "validation")
# No thumbnails: they are read from the pack, where they cost nothing, while in the payload they would go to a server
# that only needs their embeddings.
PAYLOAD = ["label", "group", "source", "sequence", "side", "patient"]
SERIES = ("honest", "leaky", "pixel", "pixel_leaky")
BLOCK = 128  # queries whose similarities are held at once
NONE = -1  # no case at this rank


def related_images(table: pd.DataFrame, queries: Ints, database: Ints) -> list[set[int]]:
    """For each query the images of the database that are copies of it or of its patient."""
    members: dict[tuple[str, Any], set[int]] = {}
    for column in ("group", "patient"):
        for image, value in zip(database.tolist(), table[column].to_numpy()[database], strict=True):
            members.setdefault((column, value), set()).add(image)
    members.pop(("patient", ""), None)  # images of unknown patients are not related
    group, patient = table["group"].to_numpy()[queries], table["patient"].to_numpy()[queries]
    return [
        members.get(("group", g), set()) | members.get(("patient", p), set())
        for g, p in zip(group, patient, strict=True)
    ]


def exact(features: NDArray[np.float32], queries: Ints, database: Ints, count: int) -> tuple[Ints, NDArray[np.float32]]:
    """The ``count`` cases of the highest cosine similarity by plain arithmetic, best first; equal ones by image_id.

    Args:
        features: of all images (N, d); one of zeros is similar to nothing.
        queries: image_ids (n,).
        database: image_ids that can be found, ascending.
        count: at most as many as the database holds.

    Returns:
        image_ids and similarities, both (n, count).
    """
    unit = features / np.linalg.norm(features, axis=1, keepdims=True).clip(min=1e-12)
    found, similarities = [], []
    for start in range(0, len(queries), BLOCK):
        scores = unit[queries[start : start + BLOCK]] @ unit[database].T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        found.append(database[order])
        similarities.append(np.take_along_axis(scores, order, axis=1))
    return np.concatenate(found), np.concatenate(similarities)


def cut(ranked: list[list[int]], k: int, excluded: list[set[int]] | None = None) -> Ints:
    """The first k of each row that are not excluded, shape (n, k); NONE where there are fewer."""
    result = np.full((len(ranked), k), NONE, dtype=np.int64)
    for row, (ids, left_out) in enumerate(zip(ranked, excluded or [set()] * len(ranked), strict=True)):
        kept = [image for image in ids if image not in left_out][:k]
        result[row, : len(kept)] = kept
    return result


def index_recall(answers: list[list[Hit]], similarities: NDArray[np.float32]) -> float:
    """Share of the exact nearest cases that the index found; one that is as similar as the last of them counts.

    Args:
        answers: of the index, at least k for each of n queries where it found so many.
        similarities: of the exact nearest cases, best first (n, k).
    """
    k = similarities.shape[1]
    right = [
        sum(hit.similarity >= last - TIE for hit in row[:k])
        for row, last in zip(answers, similarities[:, -1].tolist(), strict=True)
    ]
    return float(np.mean(right) / k)


@dataclass(frozen=True)
class Answers:
    """Ranked answers to n queries, judged.

    Attributes:
        relevant: which are of the query's class (n, k).
        available: how many cases of the query's class could be found (n,).
    """

    relevant: Bools
    available: Ints

    def at(self, k: int) -> dict[str, Floats]:
        """Every measure, cut off at k, of each query (n,)."""
        return {name: measure(self.relevant, self.available, k) for name, measure in MEASURES.items()}


def tabulate(
    series: dict[str, Answers],
    candidates: Ints,
    labels: NDArray[np.str_],
    clusters: Ints,
    ks: list[int],
    seed: int,
) -> pd.DataFrame:
    """Every score of every series at every k, of all queries (``label`` is empty) and of each class, with intervals.

    Args:
        series: judged answers by name; chance is that of ``honest``.
        candidates: how many cases each query could find honestly (n,).
        labels: of the queries (n,).
        clusters: queries of one cluster are left out together (n,).
        ks: where the answers are cut off.
        seed: of the jackknife.
    """
    rows = []
    for label in ["", *np.unique(labels).tolist()]:
        own = np.flatnonzero(labels == label) if label else np.arange(len(labels))
        drawn = jackknife.draw(clusters[own], seed)
        for k in ks:
            for name, answers in series.items():
                for score, values in answers.at(k).items():
                    entry = drawn.entry(drawn.means(values[own]))
                    rows.append({"answers": name, "label": label, "k": k, "score": score, **entry})
            for score, values in chance(series["honest"].available[own], candidates[own], k).items():
                rows.append({"answers": "chance", "label": label, "k": k, "score": score, "value": values.mean()})
    return pd.DataFrame(rows, columns=["answers", "label", "k", "score", "value", "low", "high"])


def summary(table: pd.DataFrame, k: int) -> dict[str, Any]:
    """The scores at one k as they stand in the metrics: by series, chance, and of the honest series by class."""
    result: dict[str, Any] = {name: {} for name in (*SERIES, "chance")}
    result["by_class"] = {label: {} for label in table["label"].unique() if label}
    for row in table[table["k"] == k].to_dict("records"):
        entry = {bound: row[bound] for bound in ("value", "low", "high")}
        if row["label"] == "":
            result[row["answers"]][row["score"]] = row["value"] if row["answers"] == "chance" else entry
        elif row["answers"] == "honest":
            result["by_class"][row["label"]][row["score"]] = entry
    return result


def leakage(honest: Answers, leaky: Answers, clusters: Ints, k: int, seed: int) -> dict[str, Any]:
    """What copies and the patient's own images add to each score: leaky minus honest, paired, with its interval."""
    drawn, without = jackknife.draw(clusters, seed), honest.at(k)
    return {
        score: difference(drawn.means(values), drawn.means(without[score]), drawn)
        for score, values in leaky.at(k).items()
    }


def run(
    params: config.Params,
    data: Path,
    embeddings: Path,
    encoder: Path,
    index: Path,
    details: Path,
    metrics: Path,
    plots: Path,
) -> None:
    """Fill the index, ask it about every test image, score the answers and draw a few.

    Copies of a query and images of its patient would be found without any understanding. ``honest`` leaves them out,
    ``leaky`` keeps them. A grouped split has none of them in the database, and both agree. ``pixel`` and
    ``pixel_leaky`` compare small grey images instead of embeddings, those of the audit's canary.

    Args:
        params: the whole experiment.
        data: folder of the pack, the catalogue, the groups and the split.
        embeddings: float32 (N, d), row = image_id.
        encoder: weights that made the embeddings; their checksum is the index's fingerprint.
        index: folder to write.
        details: JSON to write: the scores at k = ``search.neighbours``.
        metrics: JSON to write: what DVC shows, precision with and without copies of the query.
        plots: folder to write: ``scores.csv`` with every k and class, ``precision.csv``, and two pictures.

    Raises:
        UserError: the embeddings are those of other images, or fewer than ``search.neighbours`` cases can be found.
    """
    dataset, settings = Dataset.load(data), params.search
    vectors = embedded.read(embeddings, dataset.images, encoder, data)
    k = settings.neighbours
    queries, database = dataset.indices("test"), dataset.indices(DATABASE)
    related = related_images(dataset.table, queries, database)
    excluded = np.array([len(own) for own in related])
    candidates = len(database) - excluded
    if candidates.min() < k:
        raise UserError(
            f"got search.neighbours {k} with {candidates.min()} cases to be found; expected at most as many; lower "
            "search.neighbours"
        )
    ks = sorted({k, *(cut_off for cut_off in settings.k if cut_off <= candidates.min())})
    counts = ks[-1] + excluded

    fingerprint = sha256(encoder)
    cases = dataset.table.loc[database, PAYLOAD].reset_index()
    payload = [{str(name): value for name, value in case.items()} for case in cases.to_dict("records")]
    build(index, vectors[database], payload, database, fingerprint, settings)
    with Index(index, fingerprint) as opened:
        answers = opened.nearest(vectors[queries], counts)
    by_encoder = [[hit.image_id for hit in row] for row in answers]
    by_pixels = exact(pixels(dataset, params.audit.canary_size), queries, database, int(counts.max()))[0].tolist()

    labels = dataset.table["label"].to_numpy(dtype=str)
    asked, clusters = labels[queries], dataset.clusters(queries)
    same = (labels[database] == asked[:, None]).sum(axis=1)
    same_related = np.array([sum(labels[i] == label for i in own) for own, label in zip(related, asked, strict=True)])

    def judged(ranked: list[list[int]], left_out: list[set[int]] | None, available: Ints) -> Answers:
        ids = cut(ranked, ks[-1], left_out)
        return Answers((labels[ids] == asked[:, None]) & (ids != NONE), available)

    series = {
        "honest": judged(by_encoder, related, same - same_related),
        "leaky": judged(by_encoder, None, same),
        "pixel": judged(by_pixels, related, same - same_related),
        "pixel_leaky": judged(by_pixels, None, same),
    }
    table = tabulate(series, candidates, asked, clusters, ks, params.seed)
    write_csv(plots / "scores.csv", table)
    curve = table[(table["label"] == "") & (table["score"] == "precision")]
    write_csv(plots / "precision.csv", curve.pivot_table(index="k", columns="answers", values="value").reset_index())
    copied = curve["answers"].isin(["leaky", "pixel_leaky"])
    figures.curves(plots / "precision.png", curve if excluded.any() else curve[~copied])  # else they are the others

    chosen = spread(asked, settings.queries, params.seed)
    shown = [[hit for hit in answers[i] if hit.image_id not in related[i]][:k] for i in chosen]
    named = [(int(queries[i]), str(asked[i])) for i in chosen]
    figures.sheet(plots / "neighbours.png", dataset.images, named, shown)

    content = {
        "neighbours": k,
        "database": len(database),
        "queries": len(queries),
        "queries_with_kin": int((excluded > 0).sum()),
        "index_recall": index_recall(answers, exact(vectors, queries, database, k)[1]),
        **summary(table, k),
        "leakage": leakage(series["honest"], series["leaky"], clusters, k, params.seed),
    }
    write_json(details, content)
    names = {"precision": "honest", "precision_with_copies": "leaky"}
    write_json(metrics, {name: content[key]["precision"]["value"] for name, key in names.items()})


def spread(labels: NDArray[np.str_], count: int, seed: int) -> Ints:
    """Positions of at most ``count`` queries, drawn by seed, from the classes in turn; class by class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        turn[own] = np.arange(len(own))
    chosen = np.lexsort((labels, turn))[:count]
    return np.asarray(chosen[np.argsort(labels[chosen], kind="stable")])
