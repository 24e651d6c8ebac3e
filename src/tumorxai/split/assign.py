"""Units dealt out to sides of asked sizes, class by class, counting images and independent units alike."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorxai.config import Split
from tumorxai.errors import UserError

# Independent units that a class needs on a side. From one alone nothing can be said of others: a class whose test
# images are one patient's tests the recognition of that patient.
LEAST = {"train": 2, "validation": 1, "test": 2}
PASSES = 50  # of the improvement; it has settled after three or four

UNITS = 0.25  # weight of independent units against images: sizes are asked for, what they consist of is wished for
OVERSIZE = 2  # a unit so many times as large as a side, and of several independent ones, is not given whole to it
WHAT = "independent unit(s) (image, duplicate group, patient or series)"

Counts = NDArray[np.int64]


class Units(NamedTuple):
    """Images of each unit and class, and independent units of each, both of shape (units, classes)."""

    images: Counts
    independent: Counts


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


def assign(
    units: Units, wanted: Counts, least: Counts, rng: np.random.Generator, fixed: Counts | None = None
) -> Counts:
    """Side of each unit, such that the sides' counts of images and of independent units come close to what is wanted.

    Greedy, large units first, each to the side where it lowers the chi-square distance to the targets most; then single
    units move while that lowers the distance further. Dividing by the targets fills all sides at the same pace, so that
    large units do not all end in the largest side. Of independent units each side is to get the share that it gets of
    the class's images. Single images reach the targets exactly.

    Args:
        units: what is dealt out.
        wanted: images wanted per side and class, shape (sides, classes).
        least: independent units of a class that a side must hold, shape (sides,).
        rng: decides the order among units of like size.
        fixed: sides of units that are not free, -1 of the others; all are free if None.
    """
    open_sides = np.flatnonzero(wanted.sum(axis=1) > 0)
    images = wanted[open_sides].astype(np.float64)
    classes = units.images.shape[1]
    share = np.divide(images, images.sum(axis=0), out=np.zeros_like(images), where=images.sum(axis=0) > 0)
    goal = np.concatenate([images, share * units.independent.sum(axis=0)], axis=1)
    both = np.concatenate([units.images, units.independent], axis=1)
    must, weight = least[open_sides, None], np.repeat([1.0, UNITS], classes) / np.maximum(goal, 0.5)
    octave = np.frexp(units.images.sum(axis=1))[1]  # like size: the same power of two
    order = np.lexsort((rng.permutation(len(both)), -octave))
    filled, chosen = np.zeros_like(goal), np.full(len(both), -1, dtype=np.int64)
    if fixed is not None:
        order = order[fixed[order] < 0]
        for unit in np.flatnonzero(fixed >= 0):
            chosen[unit] = np.flatnonzero(open_sides == fixed[unit])[0]
            filled[chosen[unit]] += both[unit]

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


def thin(
    codes: Counts, unit: Counts, independent: Counts, wanted: Counts, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], dict[int, int]]:
    """Take a part of a unit for each side that is far smaller than such a unit; the rest of it is left out.

    A fold of whole patients may be larger than a side. The side would get none of these images, and what is trained on
    and what is tested on would be of different origin. Nothing is lost to training: it could not have the fold anyway
    from which something is tested.

    Args:
        codes: class of each image, 0 to C - 1, shape (N,).
        unit: what stays together, 0 to U - 1, shape (N,).
        independent: what units consist of, shape (N,).
        wanted: images per side and class, shape (sides, C); of the last side nothing is thinned.
        rng: of the choice.

    Returns:
        Which images are left out, shape (N,), and the side of each unit of which some are.
    """
    size = np.bincount(unit)
    parts = np.bincount(np.unique(np.stack([unit, independent]), axis=1)[0], minlength=len(size))
    out, fixed = np.zeros(len(codes), dtype=bool), dict[int, int]()
    for side in np.argsort(wanted[:-1].sum(axis=1), kind="stable"):
        total = wanted[side].sum()
        large = (size > OVERSIZE * total) & (parts > 1)
        free = np.setdiff1d(np.flatnonzero(large), list(fixed))
        if not total or len(free) < 2:  # the last one is what the larger sides need
            continue
        chosen = int(rng.choice(free))
        among = np.bincount(codes[large[unit]], minlength=wanted.shape[1]) / np.maximum(np.bincount(codes), 1)
        quota, got = wanted[side] * among, np.zeros(wanted.shape[1])
        own = unit == chosen
        for part in rng.permutation(np.unique(independent[own])):
            images = np.bincount(codes[own & (independent == part)], minlength=len(quota))
            if (got + images / 2 <= quota)[images > 0].all():
                got += images
            else:
                out |= own & (independent == part)
        fixed[chosen] = int(side)
    return out, fixed


def count(codes: Counts, unit: Counts, independent: Counts) -> Units:
    """Images and independent units of each unit and class; codes and units count from 0."""
    shape = unit.max(initial=-1) + 1, codes.max(initial=-1) + 1
    images, apart = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    np.add.at(images, (unit, codes), 1)
    distinct = np.unique(np.stack([independent, unit, codes]), axis=1)
    np.add.at(apart, (distinct[1], distinct[2]), 1)
    return Units(images, apart)


def folds(labels: NDArray[Any], unit: Counts, independent: Counts, number: int, rng: np.random.Generator) -> Counts:
    """Fold of each image, 0 to ``number`` - 1: whole units, of every class as many in each as can be.

    Args:
        labels: class of each image, shape (N,).
        unit: what stays together, shape (N,).
        independent: what is counted, shape (N,); see :mod:`tumorxai.split.units`.
        number: of folds.
        rng: of all random choices. The folds do not depend on which of them is tested.

    Raises:
        UserError: a class has too few independent units for so many folds, or they cannot be dealt out so.
    """
    names, codes = np.unique(labels, return_inverse=True)
    unit, independent = (np.unique(own, return_inverse=True)[1] for own in (unit, independent))
    units, least = count(codes, unit, independent), np.full(number, LEAST["test"], dtype=np.int64)
    wanted = np.zeros((number, len(names)), dtype=np.int64)
    each = np.repeat(np.arange(len(names)), units.images.sum(axis=0))  # class by class, dealt round
    np.add.at(wanted, (np.arange(len(each)) % number, each), 1)
    found = assign(units, wanted, least, rng)
    for fold in range(number):
        for name, got in zip(names, units.independent[found == fold].sum(axis=0), strict=True):
            if got < LEAST["test"]:
                raise UserError(
                    f"split.folds: got {got} {WHAT} of class {name!r} in fold {fold} of {number}; expected at least "
                    f"{LEAST['test']} in each, and units stay whole (published folds as well, of which there may be "
                    "fewer); lower split.folds, or merge classes by data.taxonomy"
                )
    return found[unit]


def distribute(
    labels: NDArray[Any],
    unit: Counts,
    independent: Counts,
    settings: Split,
    sides: tuple[str, ...],
    rng: np.random.Generator,
) -> NDArray[Any]:
    """Name of the side of each image, or ``dropped``.

    Units are kept whole between what is learnt from, what chooses and what tests. Between the training and the
    unlabelled side, which are both learnt from, only independent units are.

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
    unit, independent = (np.unique(own, return_inverse=True)[1] for own in (unit, independent))
    asked = [LEAST.get(side, 0) if side != "unlabelled" and getattr(settings, side) > 0 else 0 for side in sides]
    least = np.array([*asked, 0], dtype=np.int64)
    all_units = count(codes, unit, independent)
    _check_enough(names, all_units.independent.sum(axis=0), dict(zip(sides, asked, strict=True)))
    total = totals(settings, sides, len(labels))
    wanted = targets(total, all_units.images.sum(axis=0), least)

    zone = np.arange(len(wanted))  # of each side; training and unlabelled share one
    if "unlabelled" in sides and total[sides.index("unlabelled")]:
        zone[sides.index("unlabelled")] = zone[sides.index("train")]
    zones = np.zeros_like(wanted)
    np.add.at(zones, zone, wanted)
    out, fixed = thin(codes, unit, independent, zones, rng)
    zones[zones.sum(axis=1).argmax()] -= np.bincount(codes[out], minlength=len(names))
    kept = count(codes[~out], unit[~out], independent[~out])
    given = np.full(len(kept.images), -1, dtype=np.int64)
    given[list(fixed)] = list(fixed.values())
    side = np.where(out, len(sides), assign(kept, np.maximum(zones, 0), least, rng, given)[unit])

    learnt = np.flatnonzero(side == zone[sides.index("train")])
    if (zone == zone[sides.index("train")]).sum() > 1:
        inner = np.unique(independent[learnt], return_inverse=True)[1]
        both = count(codes[learnt], inner, inner)
        train = np.minimum(wanted[sides.index("train")], both.images.sum(axis=0))
        halves = assign(
            both, np.stack([train, both.images.sum(axis=0) - train]), least[[sides.index("train"), -1]], rng
        )
        side[learnt] = np.where(halves == 0, sides.index("train"), sides.index("unlabelled"))[inner]
    for place, name in enumerate(sides):
        own = side == place
        got = count(codes[own], independent[own], independent[own]).independent.sum(axis=0)
        _check_side(names, np.pad(got, (0, len(names) - len(got))), name, asked[place])
    return np.array([*sides, "dropped"], dtype=object)[side]


def _check_enough(names: NDArray[Any], got: Counts, least: dict[str, int]) -> None:
    needed = sum(least.values())
    words = ", ".join(f"{number} for {side}" for side, number in least.items() if number)
    for name, number in zip(names, got, strict=True):
        if number < needed:
            raise UserError(
                f"split: got {number} {WHAT} of class {name!r}; expected at least {needed}: {words}; add images, set "
                "split.validation to 0, or merge classes by data.taxonomy"
            )


def _check_side(names: NDArray[Any], got: Counts, side: str, least: int) -> None:
    if (got < least).any():
        label = int(np.argmax(got < least))
        raise UserError(
            f"split: got {got[label]} {WHAT} of class {names[label]!r} on the {side} side; expected at least {least}, "
            f"for one alone says nothing of others; enlarge split.{side}, use another seed, or merge classes by "
            "data.taxonomy"
        )
