"""What crosses the sides of somebody's split, how much of a score that explains, and the verdict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.audit.audit import CROSSINGS, crossing
from tumorxai.audit.canary import score
from tumorxai.base import bootstrap
from tumorxai.base.dataset import Dataset
from tumorxai.base.pixels import nearest, pixels
from tumorxai.dedupe.hashing import ORIENTATIONS

APART, PARTLY, UNKNOWN, LEAKING = LEVELS = (
    "patients apart",
    "copies apart, patients partly known",
    "copies apart, patients unknown",
    "leaking",
)
CANARY = 32  # side of the pixel nearest neighbour's images, pixels
SEED = 0  # of the bootstrap
SHOWN = 4  # pairs of each kind that are drawn
KINDS = ("exact, two labels", "near, two labels", "exact", "near")  # of pairs, the most telling first

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


def patients(table: pd.DataFrame) -> dict[str, int]:
    """Images on the sides of the split, and those of them whose patient is known."""
    used = table["side"] != ""
    return {"images": int(used.sum()), "known": int((used & (table["patient"] != "")).sum())}


def verdict(crossed: dict[str, dict[str, int]], known: dict[str, int]) -> str:
    """One of LEVELS, from :func:`crossings` and :func:`patients`."""
    if any(found["copies"] or found["shared_patients"] for found in crossed.values()):
        return LEAKING
    if known["known"] == known["images"]:
        return APART
    return PARTLY if known["known"] else UNKNOWN


def inflation(right: NDArray[np.bool_], copied: NDArray[np.bool_], clusters: Ids, seed: int) -> dict[str, Any]:
    """Accuracy on all test images minus that on those without a copy, with a 95% interval over clusters.

    Args:
        right: was each of n test images classified rightly?
        copied: has each a copy among the images learnt from?
        clusters: images of one cluster are resampled together, shape (n,).
        seed: of the resamples.

    Returns:
        See :func:`tumorxai.base.bootstrap.entry`: null where every image has a copy; zero where none has.
    """
    drawn = bootstrap.draw(clusters, seed)
    with np.errstate(invalid="ignore"):  # a resample may hold no image without a copy
        honest = drawn.totals(right & ~copied) / drawn.totals(~copied)
    return bootstrap.entry(drawn.means(right) - honest)


def pixel_neighbour(dataset: Dataset) -> dict[str, Any]:
    """The nearest neighbour on raw pixels, which learns nothing, from the training to the test side.

    Returns:
        ``all``, ``no_exact_copy`` and ``no_copy``: scores on all test images and on those without a copy; and
        ``inflation``.
    """
    table, side = dataset.table, dataset.table["side"].to_numpy()
    train, test = np.flatnonzero(side == "train"), np.flatnonzero(side == "test")
    labels = pd.Categorical(table["label"]).codes.astype(np.int64)
    clusters = dataset.clusters(np.arange(len(table)))[test]
    guess = labels[nearest(pixels(dataset, CANARY), train, test)]
    seen = table[np.isin(side, ["train", "unlabelled"])]
    exact = table["pixels_sha256"].iloc[test].isin(seen["pixels_sha256"]).to_numpy()
    copied = table["group"].iloc[test].isin(seen["group"]).to_numpy() | exact
    keep = {"all": np.ones(len(test), dtype=bool), "no_exact_copy": ~exact, "no_copy": ~copied}
    return {
        "size": CANARY,
        **{name: score(labels[test[at]], guess[at], clusters[at], SEED) for name, at in keep.items()},
        "inflation": inflation(guess == labels[test], copied, clusters, SEED),
    }


def across(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of copies on two sides, and exact copies under two labels wherever they stand, the most telling first.

    Args:
        table: N images with ``path``, ``label``, ``side`` and ``group``.
        pairs: of copies.

    Returns:
        ``image_a``, ``image_b``, ``what`` (one of KINDS), ``orientation`` in words, ``correlation``, and for both
        images ``file``, ``label``, ``side`` and ``group``.
    """
    a, b = (table.iloc[pairs[end].to_numpy()].reset_index(drop=True) for end in ("image_a", "image_b"))
    used, exact = (a["side"] != "") & (b["side"] != ""), (pairs["kind"] == "exact").reset_index(drop=True)
    differ = a["label"] != b["label"]
    what = np.where(exact, "exact", "near") + np.where(differ, ", two labels", "")
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
