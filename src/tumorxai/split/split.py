"""Training, unlabelled, validation and test side of every image, drawn by one of three protocols.

``grouped``: what is not independent stays together. The unit is the connected component of images that share a
duplicate group or a patient, or a published cross-validation fold where only that is known.
``official``: the test side is the publisher's; validation and unlabelled images come from its training part, by units.
``random``: single images, as the papers did. Copies land on both sides: leaky on purpose, for comparison.

With external sources the test side is theirs alone, less the classes that the other sources lack, and ``grouped`` drops
what the others share with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.base.dataset import linked, read_table
from tumorxai.base.draws import label_ranks
from tumorxai.config import Split
from tumorxai.errors import UserError
from tumorxai.files import write_csv, write_json

SIDES: tuple[str, ...] = ("train", "unlabelled", "validation", "test")
LABELLED = (0.01, 0.05, 0.1, 0.25, 1.0)  # the nested labelled subsets that papers report
PASSES = 50  # of the improvement; it has settled after three or four


def units(table: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Images that must stay on one side.

    Published folds hold whole patients, so where the patient is unknown the fold stands in. A duplicate group that
    bridges two folds would weld them, and soon all of them, into one unit; the images of its smaller part are left out.

    Args:
        table: N rows with columns ``source``, ``group``, ``patient`` and ``fold``.

    Returns:
        The unit of each image, shape (N,), and which images bridge folds and must be dropped, shape (N,).
    """
    small = linked(table, ("group", "patient"))
    only_fold = (table["fold"] != "") & (table["patient"] == "")
    keys = pd.DataFrame({"small": small, "fold": (table["source"] + ":" + table["fold"]).where(only_fold, "")})
    counts = keys[only_fold].value_counts().reset_index().sort_values(["count", "fold"], ascending=[False, True])
    home = counts.drop_duplicates("small").set_index("small")["fold"]  # the fold with most of the component's images
    bridges = (only_fold & (keys["fold"] != keys["small"].map(home))).to_numpy()
    return linked(keys.assign(fold=keys["fold"].mask(bridges, "")), ("small", "fold")), bridges


def _independent(
    catalogue: pd.DataFrame, groups: pd.DataFrame, settings: Split
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Unit of each image, images that bridge folds, and images of other sources that an external source shares."""
    table = catalogue.assign(group=groups["group"])
    outside = table["source"].isin(settings.external).to_numpy()
    if not outside.any():
        return *units(table), outside
    unit = linked(table, ("group", "patient"))
    overlaps = ~outside & np.isin(unit, unit[outside])
    bridges = np.zeros(len(table), dtype=bool)
    own, bridges[~outside] = units(table[~outside].reset_index(drop=True))  # folds bind training images only
    unit[~outside] = own + len(table)
    return unit, bridges, overlaps


def _totals(settings: Split, sides: tuple[str, ...], available: int) -> NDArray[np.int64]:
    """Images asked for on each of ``sides``, and last those left over, which are dropped."""
    asked = np.array([0.0 if getattr(settings, side) == "rest" else getattr(settings, side) for side in sides])
    if asked.max() > 1:
        counts = asked.astype(np.int64)
        if counts.sum() > available:
            wanted = ", ".join(f"{side} {count}" for side, count in zip(sides, counts, strict=True))
            raise UserError(
                f"split: got {available} usable images; expected at least {counts.sum()} ({wanted}); lower a count by "
                f"{counts.sum() - available}, set split.unlabelled to rest, give shares, or keep images under two "
                "labels with dedupe.conflicts: keep"
            )
    else:
        if "test" not in sides and settings.unlabelled != "rest":  # a given test side: the others' shares of each other
            asked = asked / asked.sum()
        counts = _apportion(asked * available, round(min(asked.sum(), 1.0) * available))
    if settings.unlabelled == "rest":
        counts[sides.index("unlabelled")] = available - counts.sum()
    return np.append(counts, available - counts.sum())


def _apportion(quota: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Whole numbers near ``quota`` that sum to ``total`` (largest remainders, Hamilton's method)."""
    whole = np.floor(quota).astype(np.int64)
    order = np.argsort(whole - quota, kind="stable")
    whole[order[: max(0, total - int(whole.sum()))]] += 1
    return whole


def _targets(totals: NDArray[np.int64], classes: NDArray[np.int64], needed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Images of each class wanted on each side, shape (sides, classes): proportional, whole, with the given sums.

    Every class gets at least one image on every needed side, which the sides' sums yield to in tiny data sets only.
    """
    targets = np.zeros((len(totals), len(classes)), dtype=np.int64)
    left = classes.copy()
    *smaller, largest = np.argsort(totals, kind="stable")
    for side in smaller:
        quota = totals[side] * classes / classes.sum()
        targets[side] = np.minimum(_apportion(quota, int(totals[side])), left)
        left -= targets[side]
    targets[largest] = left
    for side, label in zip(*np.nonzero((targets == 0) & needed[:, None]), strict=True):
        donor = np.argmax(targets[:, label])
        targets[donor, label] -= 1
        targets[side, label] += 1
    return targets


def _assign(
    contents: NDArray[np.int64], targets: NDArray[np.int64], needed: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Side of each unit, such that the class counts of the sides come close to ``targets``.

    Greedy, large units first, each to the side where it lowers the chi-square distance to the targets most; then single
    units move while that lowers the distance further. Dividing by the targets fills all sides at the same pace, so that
    large units do not all end in the largest side. Single images reach the targets exactly.

    Args:
        contents: images per unit and class, shape (units, classes).
        targets: images wanted per side and class, shape (sides, classes).
        needed: sides that must hold every class, shape (sides,).
        rng: decides the order among units of like size.
    """
    open_sides = np.flatnonzero(targets.sum(axis=1) > 0)
    wanted = targets[open_sides].astype(np.float64)
    must, weight = needed[open_sides, None], 1.0 / np.maximum(wanted, 0.5)
    octave = np.frexp(contents.sum(axis=1))[1]  # like size: the same power of two
    order = np.lexsort((rng.permutation(len(contents)), -octave))
    filled, chosen = np.zeros_like(wanted), np.full(len(contents), -1, dtype=np.int64)

    for _ in range(PASSES):
        moved = False
        for unit in order:
            own = contents[unit]
            if chosen[unit] >= 0:
                filled[chosen[unit]] -= own
            cost = own * (2 * (filled - wanted) + own) * weight
            if chosen[unit] >= 0:  # a side that would be left without a class weighs more than any distance
                cost -= 1e12 * (must & (filled == 0) & (own > 0))
            total = cost.sum(axis=1)
            best = int(np.argmin(total))
            if chosen[unit] >= 0 and total[best] >= total[chosen[unit]] - 1e-9:
                best = int(chosen[unit])
            moved |= best != chosen[unit]
            filled[best] += own
            chosen[unit] = best
        if not moved:
            break
    return open_sides[chosen]


def _distribute(
    labels: NDArray[Any], unit: NDArray[np.int64], settings: Split, sides: tuple[str, ...], rng: np.random.Generator
) -> NDArray[Any]:
    """Name of the side of each image."""
    names, codes = np.unique(labels, return_inverse=True)
    numbers, unit = np.unique(unit, return_inverse=True)
    contents = np.zeros((len(numbers), len(names)), dtype=np.int64)
    np.add.at(contents, (unit, codes), 1)
    totals = _totals(settings, sides, len(labels))
    needed = np.append([side != "unlabelled" and getattr(settings, side) > 0 for side in sides], False)
    apart = (contents > 0).sum(axis=0)
    for name, count in zip(names, apart, strict=True):
        if count < needed.sum():
            wanted = ", ".join(np.array([*sides, "dropped"])[needed])
            raise UserError(
                f"split: got {count} independent unit(s) (image, duplicate group, patient or fold) of class {name!r}; "
                f"expected at least {needed.sum()}, one for each of {wanted}; add images, set split.validation to 0, "
                "or merge classes by data.taxonomy"
            )
    chosen = _assign(contents, _targets(totals, contents.sum(axis=0), needed), needed, rng)
    return np.array([*sides, "dropped"], dtype=object)[chosen[unit]]


def _check_official(table: pd.DataFrame) -> None:
    for source, part in table.groupby("source"):
        missing = int((~part["official_split"].isin(["train", "test"])).sum())
        if missing:
            raise UserError(
                f"split: got no official split for {missing} of {len(part)} images of {source}; expected train or "
                "test for each; set split.protocol to grouped, or leave that source out"
            )


def _check_external(catalogue: pd.DataFrame, settings: Split) -> None:
    sources = set(catalogue["source"])
    if settings.protocol == "official":
        raise UserError(
            "split: got split.external with split.protocol official, which have different test sides; expected one of "
            "them; set split.protocol to grouped"
        )
    if not set(settings.external) < sources:
        raise UserError(
            f"split.external: got {settings.external}; expected some, not all, of {sorted(sources)}; correct it, or "
            "add the source to data.sources"
        )


def draw(catalogue: pd.DataFrame, groups: pd.DataFrame, settings: Split, seed: int) -> pd.DataFrame:
    """Draw the sides.

    Args:
        catalogue: N rows with ``source``, ``patient``, ``fold`` and ``official_split``.
        groups: N rows, in the same order, with ``group``, ``label`` and ``status``.
        settings: protocol and sizes of the sides.
        seed: of all random choices.

    Returns:
        N rows ``image_id``, ``group``, ``label``, ``side``, ``label_rank`` (NaN off the training side).

    Raises:
        UserError: the images do not suffice for what is asked, or a source has no official split.
    """
    rng = np.random.default_rng(seed)
    unit, bridges = np.arange(len(groups)), np.zeros(len(groups), dtype=bool)
    overlaps = np.zeros(len(groups), dtype=bool)
    if settings.protocol != "random":
        unit, bridges, overlaps = _independent(catalogue, groups, settings)
    usable = (groups["status"] != "drop").to_numpy() & ~bridges & ~overlaps
    labels, side = groups["label"].to_numpy(dtype=object), np.full(len(groups), "dropped", dtype=object)
    pool, sides = usable, SIDES
    if settings.external:
        _check_external(catalogue, settings)
        outside = catalogue["source"].isin(settings.external).to_numpy()
        pool, sides = usable & ~outside, SIDES[:3]
        side[usable & outside & np.isin(labels, labels[pool])] = "test"  # a class that training lacks cannot be told
    elif settings.protocol == "official":
        _check_official(catalogue[usable])
        official = (catalogue["official_split"] == "test").to_numpy()
        side[usable & official] = "test"
        pool, sides = usable & ~official, SIDES[:3]
    if not pool.any():
        raise UserError("split: got no usable image; expected some of each class; check data.sources, dedupe.conflicts")
    side[pool] = _distribute(labels[pool], unit[pool], settings, sides, rng)
    _check_classes(labels, side, settings)
    rank, train = np.full(len(groups), np.nan), side == "train"
    rank[train] = label_ranks(labels[train], unit[train], rng)
    columns = {"image_id": groups.index, "group": groups["group"], "label": labels, "side": side, "label_rank": rank}
    return pd.DataFrame(columns).reset_index(drop=True)


def _check_classes(labels: NDArray[Any], side: NDArray[Any], settings: Split) -> None:
    """Every class must stand on every side that is trained or scored on; an external source may lack some."""
    test = sorted(set(labels[side == "test"]))
    if settings.external and len(test) < 2:
        raise UserError(
            f"split.external: got only {', '.join(test) or 'unknown classes'} in {settings.external}; expected at "
            "least two classes that the other sources have as well; add another source"
        )
    for name in ("train", "validation", "test"):
        missing = sorted(set(labels[side != "dropped"]) - set(labels[side == name]))
        if missing and getattr(settings, name) > 0 and not (settings.external and name == "test"):
            raise UserError(
                f"split: got no image of {', '.join(missing)} on the {name} side; expected every class there; "
                f"enlarge split.{name}, use another seed or protocol, or merge classes by data.taxonomy"
            )


def summarise(drawn: pd.DataFrame, catalogue: pd.DataFrame, groups: pd.DataFrame, settings: Split) -> dict[str, Any]:
    """Counts per side and class, asked and obtained sizes, units and labelled subsets, for ``details/split.json``.

    Args:
        drawn: what :func:`draw` returned for the other arguments.
        catalogue: see :func:`draw`.
        groups: see :func:`draw`.
        settings: see :func:`draw`.
    """
    unit, bridges, overlaps = _independent(catalogue, groups, settings)
    conflicts = (groups["status"] == "drop").to_numpy()
    bridges, overlaps = (own & ~conflicts & (settings.protocol != "random") for own in (bridges, overlaps))
    fit, outside = ~conflicts & ~bridges & ~overlaps, catalogue["source"].isin(settings.external).to_numpy()
    usable = int(fit.sum())
    given = {"dropped", "test"} if settings.protocol == "official" or settings.external else {"dropped"}
    sides = {}
    for side in (*SIDES, "dropped"):
        own = (drawn["side"] == side).to_numpy()
        sides[side] = {
            "images": int(own.sum()),
            "share": round(float((own & fit).sum()) / usable, 6),
            "asked": None if side in given else getattr(settings, side),
            "units": len(np.unique(unit[own])),
            "classes": {label: int((own & (drawn["label"] == label)).sum()) for label in sorted(set(drawn["label"]))},
        }
    return {
        "protocol": settings.protocol,
        "images": len(drawn),
        "usable": usable,
        "label_conflicts": int(conflicts.sum()),
        "bridging_folds": int(bridges.sum()),
        "external": settings.external,
        "external_overlaps": int(overlaps.sum()),
        "external_unknown_class": int((fit & outside & (drawn["side"] == "dropped").to_numpy()).sum()),
        "units": len(np.unique(unit)),
        "largest_unit": int(np.bincount(unit).max()),
        "sides": sides,
        "labelled": {f"{fraction:g}": int((drawn["label_rank"] < fraction).sum()) for fraction in LABELLED},
    }


def write(data: Path, details: Path, plot: Path, settings: Split, seed: int) -> None:
    """Read ``catalogue.csv`` and ``groups.csv`` under ``data``; write ``split.csv`` there, metrics and plot table."""
    catalogue, groups = read_table(data / "catalogue.csv"), read_table(data / "groups.csv")
    if len(catalogue) != len(groups):
        raise UserError(
            f"{data}: got {len(catalogue)} images in catalogue.csv and {len(groups)} in groups.csv; expected the same; "
            "run `dvc repro dedupe`"
        )
    classes = sorted(set(groups["label"][groups["status"] == "keep"]))
    if len(classes) < 2:
        raise UserError(
            f"split: got the classes {classes}; expected at least two to tell apart; look at data.sources, "
            "data.taxonomy and dedupe.conflicts"
        )
    drawn = draw(catalogue, groups, settings, seed)
    counts = drawn.groupby(["side", "label"]).size().rename("count").reset_index()
    write_csv(data / "split.csv", drawn)
    write_csv(plot, counts)
    write_json(details, summarise(drawn, catalogue, groups, settings))
