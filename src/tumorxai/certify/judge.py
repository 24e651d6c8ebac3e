"""What crosses the sides of somebody's split, and how much of a score that explains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.audit import canary, second, subjects
from tumorxai.audit.audit import CROSSINGS, crossing
from tumorxai.audit.leak import Neighbours
from tumorxai.audit.verdict import Evidence
from tumorxai.base import jackknife
from tumorxai.base.dataset import Dataset
from tumorxai.base.pixels import pixels
from tumorxai.config import Audit
from tumorxai.dedupe.hashing import ORIENTATIONS

CANARY = 32  # side of the pixel nearest neighbour's images, pixels
SEED = 0  # of the jackknife
SHOWN = 4  # pairs of each kind that are drawn
KINDS = (
    "exact, two labels",
    "near, two labels",
    "second, two labels",
    "exact",
    "near",
    "second",
)  # of pairs, the most telling first

Ids = NDArray[np.int64]


def crossings(table: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, dict[str, int]]:
    """What each two sides share, where both hold images; see :func:`tumorxai.audit.audit.crossing`.

    Args:
        table: N images with ``side``, ``group``, ``patient`` and ``pixels_sha256``.
        pairs: copies, with ``image_a`` and ``image_b``.
    """
    present = set(table["side"])
    return {
        name: crossing(table, pairs, before, after)
        for name, (before, after) in CROSSINGS.items()
        if present & set(before) and after in present
    }


def evidence(table: pd.DataFrame, pairs: pd.DataFrame, missed: int, explained: int) -> Evidence:
    """What the verdict is made of: what test images share with all that is trained or chosen on.

    Args:
        table: as of :func:`crossings`, with ``subject``, ``series`` and ``known`` as well.
        pairs: copies, with ``image_a`` and ``image_b``.
        missed: test images with a copy that the second search alone found.
        explained: how many of these its false accepts may explain.
    """
    copies = crossing(table, pairs, subjects.LEARNED, "test")["copies"]
    found = subjects.crossing(table, table["side"].to_numpy())
    return Evidence(copies=copies, missed=missed, explained=explained, **found)


def search(dataset: Dataset) -> second.Found:
    """Look for copies a second time, by other means, among the different images on the sides of the split."""
    table = dataset.table
    used = np.flatnonzero((table["side"] != "") & ~table["pixels_sha256"].duplicated())
    first = np.flatnonzero(table["side"].isin(["test", "validation"]))
    return second.find(dataset.images, used, Audit().second_limit, SEED, first)


def inflation(right: NDArray[np.bool_], copied: NDArray[np.bool_], clusters: Ids, seed: int) -> dict[str, Any]:
    """Accuracy on all test images minus that on those without a copy, with a 95% interval over clusters.

    Args:
        right: was each of n test images classified rightly?
        copied: has each a copy among the images learnt from?
        clusters: images of one cluster are left out together, shape (n,).
        seed: of the jackknife.

    Returns:
        See :meth:`tumorxai.base.jackknife.Draw.entry`: null where every image has a copy; zero where none has.
    """
    drawn = jackknife.draw(clusters, seed)
    with np.errstate(invalid="ignore"):  # without a cluster there may be no image without a copy
        honest = drawn.totals(right & ~copied) / drawn.totals(~copied)
    return drawn.entry(drawn.means(right) - honest, -1.0, 1.0)


def pixel_neighbour(dataset: Dataset) -> dict[str, Any]:
    """The nearest neighbour on raw pixels, which learns nothing, from the training to the test side.

    Returns:
        Scores, see :func:`tumorxai.audit.canary.canary`, and ``inflation``.
    """
    table, side = dataset.table, dataset.table["side"].to_numpy()
    train, test = np.flatnonzero(side == "train"), np.flatnonzero(side == "test")
    labels = pd.Categorical(table["label"]).codes.astype(np.int64)
    clusters = dataset.clusters(np.arange(len(table)))
    near = Neighbours(pixels(dataset, CANARY))
    seen = table[np.isin(side, ["train", "unlabelled"])]
    exact = table["pixels_sha256"].iloc[test].isin(seen["pixels_sha256"]).to_numpy()
    copied = table["group"].iloc[test].isin(seen["group"]).to_numpy() | exact
    right = labels[near.nearest(train, test)] == labels[test]
    return {
        "size": CANARY,
        **canary.canary(dataset, side, near, labels, clusters, SEED),
        "inflation": inflation(right, copied, clusters[test], SEED),
    }


def copies(pairs: pd.DataFrame, group: Ids, seen: second.Found) -> pd.DataFrame:
    """The detector's pairs, and as kind ``second`` those that the second search alone takes for copies.

    Args:
        pairs: the detector's.
        group: of N images.
        seen: by :func:`search`.
    """
    own = seen.pairs[seen.pairs["kind"] == "copy"]
    own = own[group[own["image_a"]] != group[own["image_b"]]]
    mirrored = (own["variant"] == "mirrored").astype(np.int64)
    added = own.assign(kind="second", orientation=mirrored)
    both: pd.DataFrame = pd.concat([pairs, added], join="inner", ignore_index=True)
    return both


def across(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of copies on two sides, and exact copies under two labels wherever they stand, the most telling first.

    Args:
        table: N images with ``path``, ``label``, ``side`` and ``group``.
        pairs: of copies.

    Returns:
        ``image_a``, ``image_b``, ``what`` (one of KINDS), ``orientation`` in words, ``correlation``, and for both
        images ``file``, ``label``, ``side`` and ``group``.
    """
    pairs = pairs.reset_index(drop=True)
    a, b = (table.iloc[pairs[end].to_numpy()].reset_index(drop=True) for end in ("image_a", "image_b"))
    used, exact = (a["side"] != "") & (b["side"] != ""), pairs["kind"] == "exact"
    differ = a["label"] != b["label"]
    what = (pairs["kind"] + np.where(differ, ", two labels", "")).to_numpy()
    found = pd.DataFrame(
        {
            "image_a": pairs["image_a"].to_numpy(),
            "image_b": pairs["image_b"].to_numpy(),
            "what": pd.Categorical(what, categories=KINDS),
            "orientation": [ORIENTATIONS[turn] for turn in pairs["orientation"]],
            "correlation": pairs["correlation"].to_numpy(),
            **{
                f"{column}_{end}": own[source]
                for end, own in (("a", a), ("b", b))
                for column, source in (("file", "path"), ("label", "label"), ("side", "side"), ("group", "group"))
            },
        }
    )
    crosses = used & (a["side"] != b["side"])
    test = (a["side"] == "test") | (b["side"] == "test")
    chosen = found.assign(crosses=crosses, test=test)[crosses | (used & exact & differ)]
    order = ["what", "crosses", "test", "correlation", "image_a", "image_b"]
    chosen = chosen.sort_values(order, ascending=[True, False, False, False, True, True], ignore_index=True)
    return chosen.drop(columns=["crosses", "test"])


def telling(found: pd.DataFrame, each: int = SHOWN) -> pd.DataFrame:
    """Of :func:`across` what is drawn: of each kind a few, one pair of each group."""
    once = found.drop_duplicates("group_a")
    return once.groupby("what", observed=True).head(each).reset_index(drop=True)
