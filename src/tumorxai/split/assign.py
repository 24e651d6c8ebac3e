"""Units dealt out to sides of asked sizes, class by class, counting images and independent units alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorxai.config import Split
from tumorxai.errors import UserError

# Independent units that a class needs on a side. From one alone nothing can be said of others: a class whose test
# images are one patient's tests the recognition of that patient.
LEAST = {"train": 2, "validation": 1, "test": 2}
PASSES = 50  # of the improvement; it has settled after three or four

Counts = NDArray[np.int64]


def totals(settings: Split, sides: tuple[str, ...], available: int) -> Counts:
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
        counts = apportion(asked * available, round(min(asked.sum(), 1.0) * available))
    if settings.unlabelled == "rest":
        counts[sides.index("unlabelled")] = available - counts.sum()
    return np.append(counts, available - counts.sum())


def apportion(quota: NDArray[np.float64], total: int) -> Counts:
    """Whole numbers near ``quota`` that sum to ``total`` (largest remainders, Hamilton's method)."""
    whole = np.floor(quota).astype(np.int64)
    order = np.argsort(whole - quota, kind="stable")
    whole[order[: max(0, total - int(whole.sum()))]] += 1
    return whole


def targets(wanted: Counts, classes: Counts, least: Counts) -> Counts:
    """Images of each class wanted on each side, shape (sides, classes): proportional, whole, with the given sums.

    Every class gets at least ``least`` images on a side, which the sides' sums yield to in tiny data sets only.

    Args:
        wanted: images asked for on each side, shape (sides,).
        classes: images of each class, shape (classes,).
        least: images of a class that a side must hold, shape (sides,).
    """
    found = np.zeros((len(wanted), len(classes)), dtype=np.int64)
    left = classes.copy()
    *smaller, largest = np.argsort(wanted, kind="stable")
    for side in smaller:
        quota = wanted[side] * classes / classes.sum()
        found[side] = np.minimum(apportion(quota, int(wanted[side])), left)
        left -= found[side]
    found[largest] = left
    for side, label in zip(*np.nonzero(found < least[:, None]), strict=True):
        donor = np.argmax(found[:, label])
        lack = least[side] - found[side, label]
        found[donor, label] -= lack
        found[side, label] += lack
    return found


def assign(contents: Counts, independent: Counts, wanted: Counts, least: Counts, rng: np.random.Generator) -> Counts:
    """Side of each unit, such that the sides' counts of images and of independent units come close to what is wanted.

    Greedy, large units first, each to the side where it lowers the chi-square distance to the targets most; then single
    units move while that lowers the distance further. Dividing by the targets fills all sides at the same pace, so that
    large units do not all end in the largest side. Of independent units each side is to get the share that it gets of
    the class's images. Single images reach the targets exactly.

    Args:
        contents: images per unit and class, shape (units, classes).
        independent: the same of independent units.
        wanted: images wanted per side and class, shape (sides, classes).
        least: independent units of a class that a side must hold, shape (sides,).
        rng: decides the order among units of like size.
    """
    open_sides = np.flatnonzero(wanted.sum(axis=1) > 0)
    images = wanted[open_sides].astype(np.float64)
    classes = contents.shape[1]
    goal = np.concatenate([images, images / images.sum(axis=0) * independent.sum(axis=0)], axis=1)
    both = np.concatenate([contents, independent], axis=1)
    must, weight = least[open_sides, None], 1.0 / np.maximum(goal, 0.5)
    octave = np.frexp(contents.sum(axis=1))[1]  # like size: the same power of two
    order = np.lexsort((rng.permutation(len(contents)), -octave))
    filled, chosen = np.zeros_like(goal), np.full(len(contents), -1, dtype=np.int64)

    for _ in range(PASSES):
        moved = False
        for unit in order:
            own = both[unit]
            if chosen[unit] >= 0:
                filled[chosen[unit]] -= own
            cost = (own * (2 * (filled - goal) + own) * weight).sum(axis=1)
            if chosen[unit] >= 0:  # what a side still lacks of a class weighs more than any distance
                lack = np.maximum(must - filled[:, classes:], 0)
                cost -= 1e12 * np.minimum(lack, own[classes:]).sum(axis=1)
            best = int(np.argmin(cost))
            if chosen[unit] >= 0 and cost[best] >= cost[chosen[unit]] - 1e-9:
                best = int(chosen[unit])
            moved |= best != chosen[unit]
            filled[best] += own
            chosen[unit] = best
        if not moved:
            break
    return open_sides[chosen]


def distribute(
    labels: NDArray[Any],
    unit: Counts,
    independent: Counts,
    settings: Split,
    sides: tuple[str, ...],
    rng: np.random.Generator,
) -> NDArray[Any]:
    """Name of the side of each image, or ``dropped``.

    Args:
        labels: class of each image, shape (N,).
        unit: what stays together, shape (N,).
        independent: what is counted, shape (N,); see :mod:`tumorxai.split.units`.
        settings: sizes of the sides.
        sides: those to fill.
        rng: of all random choices.

    Raises:
        UserError: a class has fewer independent units than the sides need, or they cannot be dealt out so.
    """
    names, codes = np.unique(labels, return_inverse=True)
    numbers, unit = np.unique(unit, return_inverse=True)
    contents = np.zeros((len(numbers), len(names)), dtype=np.int64)
    np.add.at(contents, (unit, codes), 1)
    distinct = np.unique(np.stack([independent, unit, codes]), axis=1)
    apart = np.zeros_like(contents)
    np.add.at(apart, (distinct[1], distinct[2]), 1)
    asked = {side: LEAST.get(side, 0) if side != "unlabelled" and getattr(settings, side) > 0 else 0 for side in sides}
    least = np.array([*asked.values(), 0], dtype=np.int64)
    words = ", ".join(f"{count} for {side}" for side, count in asked.items() if count)
    what = "independent unit(s) (image, duplicate group, patient or series)"
    for name, count in zip(names, apart.sum(axis=0), strict=True):
        if count < least.sum():
            raise UserError(
                f"split: got {count} {what} of class {name!r}; expected at least {least.sum()}: {words}; add images, "
                "set split.validation to 0, or merge classes by data.taxonomy"
            )
    wanted = targets(totals(settings, sides, len(labels)), contents.sum(axis=0), least)
    chosen = assign(contents, apart, wanted, least, rng)
    for place, side in enumerate(sides):
        got = apart[chosen == place].sum(axis=0)
        if (got < least[place]).any():
            label = int(np.argmax(got < least[place]))
            raise UserError(
                f"split: got {got[label]} {what} of class {names[label]!r} on the {side} side; expected at least "
                f"{least[place]}, for one alone says nothing of others; enlarge split.{side}, use another seed, or "
                "merge classes by data.taxonomy"
            )
    return np.array([*sides, "dropped"], dtype=object)[chosen[unit]]
