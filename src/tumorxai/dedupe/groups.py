"""Groups of images that are copies of each other, within and across sources.

Exact copies have equal decoded pixels. Near copies have perceptual hashes a few bits apart, in one of eight
orientations, and edges that correlate: brains of two patients share their low frequencies, copies share their edges
too. Groups are the connected components of all copies (single link).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tumorxai.archives.sources import archive_name
from tumorxai.base.dataset import read_table
from tumorxai.config import Dedupe
from tumorxai.dedupe import copy_plots, hamming, hashing
from tumorxai.files import write_csv, write_json

# Of crowds of equal hashes with more pairs than this (blank images, say), only the first member is compared with all
# others: the work stays linear.
CROWD = 1_024
CHUNK = 8_192  # pairs confirmed at once

Index = NDArray[np.int64]
Floats = NDArray[np.float64]


class Found(NamedTuple):
    """Copies among N images.

    Attributes:
        pairs: ``image_a < image_b``, ``kind`` (exact or near), ``orientation`` (that turns a into b, a
            place in ``hashing.ORIENTATIONS``), ``distance`` (bits, of the hashes so turned) and ``correlation`` (of the
            edges).
        group: smallest image of each image's group, shape (N,).
        alone: what the hash alone finds: pairs and single-link groups at ``distance``, unturned and unconfirmed.
        rejected: candidates that the pixels did not confirm.
    """

    pairs: pd.DataFrame
    group: Index
    alone: dict[str, int]
    rejected: int


class Members:
    """Which items carry each of K values."""

    def __init__(self, value: Index) -> None:
        """Take the value, 0 to K - 1, of every item."""
        self.items = np.argsort(value, kind="stable")
        self.count = np.bincount(value)
        self.start = np.cumsum(self.count) - self.count

    def __getitem__(self, place: tuple[Index, Index]) -> Index:
        members: Index = self.items[self.start[place[0]] + place[1]]
        return members


def expand(a: Index, b: Index, left: Members, right: Members) -> tuple[Index, Index, Index]:
    """All pairs of members of the values a[p] and b[p]; of a crowd, the first of each side with all of the other.

    Returns:
        Members of a, members of b, and p; each of shape (pairs,).
    """
    rows, columns = left.count[a], right.count[b]
    whole = rows * columns <= CROWD
    size = np.where(whole, rows * columns, rows + columns)
    pair = np.repeat(np.arange(len(a)), size)
    k = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    rows, columns, whole = rows[pair], columns[pair], whole[pair]
    x = np.where(whole, k // columns, np.where(k < rows, k, 0))
    y = np.where(whole, k % columns, np.where(k < rows, 0, k - rows))
    return left[a[pair], x], right[b[pair], y], pair


def find(thumbnails: hashing.Thumbnails, pixels: Index, settings: Dedupe) -> Found:
    """Find the copies among N images with D different pixels.

    Args:
        thumbnails: one for each of the D, in the order of their numbers.
        pixels: number of each image's pixels, 0 to D - 1, shape (N,).
        settings: what counts as a copy.
    """
    low = hashing.frequencies(thumbnails)
    near, alone = _candidates(low, np.bincount(pixels, minlength=len(low)), settings)
    near["correlation"] = correlation(
        thumbnails, near["a"].to_numpy(), near["b"].to_numpy(), near["orientation"].to_numpy()
    )
    least = least_correlation(near["distance"].to_numpy(), near["orientation"].to_numpy(), settings)
    found = near[near["correlation"] >= least]
    order = ["a", "b", "correlation", "distance", "orientation"]
    best = found.sort_values(order, ascending=[True, True, False, True, True]).drop_duplicates(["a", "b"])
    pairs = _images(best, pixels)
    group = _components(len(pixels), pairs["image_a"].to_numpy(), pairs["image_b"].to_numpy())
    return Found(pairs, group, alone, len(near.drop_duplicates(["a", "b"])) - len(best))


def radius(settings: Dedupe) -> int:
    """Largest distance of the hashes at which a pair is looked at, bits."""
    return settings.distance + (settings.slack if settings.confirm else 0)


def least_correlation(distance: Index, orientation: Index, settings: Dedupe) -> Floats:
    """What the edges of pairs must reach to be copies: -1, which all do, where the hash alone decides."""
    if not settings.confirm:
        return np.full(len(distance), -1.0)
    # Look-alikes outnumber copies ever more the further the hashes are apart: there the evidence must be stronger.
    plain = (distance <= settings.distance) & (orientation == 0)
    return np.where(plain, settings.similarity, settings.strict)


def _candidates(low: hashing.Floats, copies: Index, settings: Dedupe) -> tuple[pd.DataFrame, dict[str, int]]:
    """Pairs a < b with near hashes, and the counts of the hash alone; ``copies`` are the images of each pixels."""
    values, value = np.unique(hashing.hashes(low), return_inverse=True)
    members, itself = Members(value), np.arange(len(values))
    tables = []
    for orientation in range(settings.orientations):
        if orientation == 0:
            turned, near = members, hamming.neighbours(values, None, radius(settings))
            plain = _plain(near, np.bincount(value, weights=copies).astype(np.int64), settings.distance)
            near = hamming.Pairs(*map(np.concatenate, zip(near, (itself, itself, 0 * itself), strict=True)))
        else:
            others, other = np.unique(hashing.hashes(hashing.turn_frequencies(low, orientation)), return_inverse=True)
            turned, near = Members(other), hamming.neighbours(others, values, radius(settings))
        a, b, pair = expand(near.left, near.right, turned, members)
        tables.append(_ordered(a, b, orientation, near.distance[pair]))
    return pd.concat(tables, ignore_index=True).drop_duplicates(["a", "b", "orientation"]), plain


def _ordered(a: Index, b: Index, orientation: Index | int, distance: Index) -> pd.DataFrame:
    """Pairs with a < b: where a > b, b must be turned the other way round."""
    turned = np.where(a < b, orientation, hashing.INVERSE[orientation])
    table = pd.DataFrame({"a": np.minimum(a, b), "b": np.maximum(a, b), "orientation": turned, "distance": distance})
    different: pd.DataFrame = table[a != b]
    return different.sort_values(["a", "b", "distance"])


def _plain(near: hamming.Pairs, images: Index, distance: int) -> dict[str, int]:
    """Pairs of images and single-link groups at ``distance``, from pairs of hash values and the images of each."""
    at = near.distance <= distance
    left, right = near.left[at], near.right[at]
    sizes = np.bincount(_components(len(images), left, right), weights=images).astype(np.int64)
    return {
        "pairs": int((images[left] * images[right]).sum() + (images * (images - 1) // 2).sum()),
        "groups": int((sizes > 0).sum()),
        "largest_group": int(sizes.max(initial=0)),
    }


def _components(count: int, a: Index, b: Index) -> Index:
    """Smallest item connected to each of ``count`` items."""
    graph = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(count, count))
    component = connected_components(graph, directed=False)[1]
    smallest: Index = np.unique(component, return_index=True)[1][component]
    return smallest


def correlation(thumbnails: hashing.Thumbnails, a: Index, b: Index, orientation: Index) -> Floats:
    """Correlation of the edges of thumbnail a, brought into an orientation, and of thumbnail b.

    It lies in [-1, 1] and hardly changes with brightness and contrast. Two blank images correlate fully, a blank one
    with no other.
    """
    out = np.empty(len(a))
    for start in range(0, len(a), CHUNK):
        part = slice(start, start + CHUNK)
        left, right = thumbnails[a[part]], thumbnails[b[part]]
        for o in np.unique(orientation[part]):
            turned = orientation[part] == o
            left[turned] = hashing.turn(left[turned], o)
        one, other = _edges(left), _edges(right)
        blank = ~one.any(axis=1) & ~other.any(axis=1)
        out[part] = np.where(blank, 1.0, (one * other).sum(axis=1))
    rounded: Floats = out.round(6)  # the order of summation must not reach the tables
    return rounded


def _edges(images: hashing.Thumbnails) -> Floats:
    """Gradients of N images as unit vectors, or zero for a blank image.

    Each gradient is a Roberts cross, damped so that a strong edge counts hardly more than a fine one: the outline of a
    head or of a fundus is common to all images of its kind. (Compare the orientation correlation of Fitch et al., BMVC
    2002, which normalises every gradient and so raises the noise of flat parts.)
    """
    grey = images.astype(np.float64)
    edges = np.stack([grey[:, 1:, 1:] - grey[:, :-1, :-1], grey[:, 1:, :-1] - grey[:, :-1, 1:]], axis=1)
    strength = np.sqrt((edges**2).sum(axis=1, keepdims=True))
    floor = strength.mean(axis=(2, 3), keepdims=True) / 2 + 0.5  # half a grey level is rounding
    edges = (edges / np.hypot(strength, floor)).reshape(len(images), -1)
    norm = np.sqrt((edges**2).sum(axis=1, keepdims=True))
    unit: Floats = np.divide(edges, norm, out=edges, where=norm > 0)
    return unit


def _images(near: pd.DataFrame, pixels: Index) -> pd.DataFrame:
    """Pairs of images from pairs of different pixels, with the exact copies among them."""
    members = Members(pixels)
    a, b, pair = expand(near["a"].to_numpy(), near["b"].to_numpy(), members, members)
    table = _ordered(a, b, near["orientation"].to_numpy()[pair], near["distance"].to_numpy()[pair])
    similar = table.assign(kind="near", correlation=near["correlation"].to_numpy()[pair][table.index])
    itself = np.flatnonzero(members.count > 1)
    a, b, _ = expand(itself, itself, members, members)
    same = _ordered(a, b, np.zeros_like(a), np.zeros_like(a)).assign(kind="exact", correlation=1.0)
    pairs = pd.concat([same, similar]).drop_duplicates(["a", "b"]).sort_values(["a", "b"], ignore_index=True)
    pairs = pairs.rename(columns={"a": "image_a", "b": "image_b"})
    return pairs[["image_a", "image_b", "kind", "orientation", "distance", "correlation"]]


def resolve(labels: pd.Series[Any], group: Index, conflicts: str) -> pd.DataFrame:
    """Settle what happens to groups with more than one label.

    Args:
        labels: of N images.
        group: of N images.
        conflicts: ``drop`` all images of such a group, ``keep`` them as they are, or give all the label of the
            ``majority`` and drop the group on a tie.

    Returns:
        ``group``, ``label`` and ``status`` (keep or drop) of the N images.
    """
    table = pd.DataFrame({"group": group, "label": labels.to_numpy(dtype=object), "status": "keep"})
    if conflicts == "keep":
        return table
    contested = table.groupby("group")["label"].transform("nunique") > 1
    for _, rows in table[contested].groupby("group"):
        votes = Counter(rows["label"]).most_common(2)
        if conflicts == "majority" and votes[0][1] > votes[1][1]:
            table.loc[rows.index, "label"] = votes[0][0]
        else:
            table.loc[rows.index, "status"] = "drop"
    return table


def overlap(sources: pd.Series[Any], group: Index) -> dict[str, dict[str, int]]:
    """Images of the first source that have a copy in the second; on the diagonal, another copy in the same source."""
    table = pd.crosstab(group, sources.to_numpy())
    names = list(dict.fromkeys(sources))
    return {
        row: {column: int(table[row][table[column] > (row == column)].sum()) for column in names}
        for row in names
    }  # fmt: skip


def summarise(catalogue: pd.DataFrame, found: Found, settled: pd.DataFrame, settings: Dedupe) -> dict[str, Any]:
    """The counts that ``details/dedupe.json`` holds."""
    pixels = catalogue["pixels_sha256"]
    near = found.pairs[found.pairs["kind"] == "near"]
    copies = pixels.value_counts().to_numpy()
    labels = catalogue.groupby(found.group)["label"]
    sizes, contested = labels.size(), labels.agg(lambda names: len(set(names))) > 1
    turns = near["orientation"].value_counts()
    return {
        "images": len(catalogue),
        "distinct_pixels": int(pixels.nunique()),
        "exact_pairs": int((copies * (copies - 1) // 2).sum()),
        "near_pairs": len(near),
        "near_pairs_by_orientation": {name: int(turns.get(o, 0)) for o, name in enumerate(hashing.ORIENTATIONS)},
        "near_pairs_beyond_distance": int((near["distance"] > settings.distance).sum()),
        "rejected_pairs": found.rejected,
        "groups": len(sizes),
        "groups_of_copies": int((sizes > 1).sum()),
        "largest_group": int(sizes.max()),
        "giant_groups": {str(group): int(size) for group, size in sizes[sizes >= settings.giant].items()},
        "conflicts": {"groups": int(contested.sum()), "images": int(sizes[contested].sum())},
        "dropped": int((settled["status"] == "drop").sum()),
        "relabelled": int((settled["label"].to_numpy() != catalogue["label"].to_numpy()).sum()),
        "hash_alone": found.alone,
        "sources": {
            str(name): {"images": len(rows), "distinct_pixels": int(rows.nunique())}
            for name, rows in pixels.groupby(catalogue["source"], sort=False)
        },
        "overlap": overlap(catalogue["source"], found.group),
    }


def write(data: Path, archives: Path, details: Path, plots: Path, settings: Dedupe, workers: int | None = None) -> None:
    """Read ``catalogue.csv`` under ``data``; write ``groups.csv`` and ``pairs.csv`` there, metrics and plots.

    Args:
        data: folder of the pipeline's tables.
        archives: folder of the archives that the catalogue names.
        details: the JSON file.
        plots: folder for ``groups.png``, ``overlap.png`` and ``group_sizes.csv``.
        settings: what counts as a copy.
        workers: processes that decode; all cores if None.
    """
    catalogue = read_table(data / "catalogue.csv")
    pixels, first = pd.factorize(catalogue["pixels_sha256"])[0], ~catalogue["pixels_sha256"].duplicated()
    thumbnails = hashing.thumbnails(list(_files(catalogue[first], archives)), workers)
    found = find(thumbnails, pixels.astype(np.int64), settings)
    settled = resolve(catalogue["label"], found.group, settings.conflicts)
    counts = summarise(catalogue, found, settled, settings)
    sizes = pd.Series(found.group).value_counts().value_counts().sort_index()
    write_csv(data / "groups.csv", settled.rename_axis("image_id").reset_index())
    write_csv(data / "pairs.csv", found.pairs)
    write_csv(plots / "group_sizes.csv", pd.DataFrame({"size": sizes.index, "groups": sizes.to_numpy()}))
    images = {name: source["images"] for name, source in counts["sources"].items()}
    copy_plots.overlap(counts["overlap"], images, plots / "overlap.png")
    copy_plots.contact_sheet(
        catalogue, found.group, found.pairs, list(_files(catalogue, archives)), plots / "groups.png"
    )
    write_json(details, counts)


def _files(catalogue: pd.DataFrame, archives: Path) -> Iterator[tuple[Path, str]]:
    for source, path in zip(catalogue["source"], catalogue["path"], strict=True):
        yield archives / archive_name(source), path
