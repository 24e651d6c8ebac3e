"""Cross-validation: the folds of one experiment as one classifier, tested on every image.

Folds belong together whose stages had the same parameters but ``split.fold``, the same images, copies and patients, and
the same code. Only all folds of such a set are pooled: every image that the protocol does not drop was tested once.

What is pooled are the answers of as many networks as there are folds. Their probabilities need not lie on one scale, so
areas under curves compare images of one fold only (Forman and Scholz 2010, SIGKDD Explorations 12, section 3). The
intervals are over patients, of these networks; how much other folds and seeds would change is seen over seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from tumorxai.base.predictions import PART, Predictions
from tumorxai.errors import UserError
from tumorxai.run.compare.entrants import Entrant, Found, Key
from tumorxai.run.compare.lock import Stage
from tumorxai.run.compare.revisions import Missing, Revision

FOLDS, FOLD = "split.folds", "split.fold"
TABLES = ("data/catalogue.csv", "data/groups.csv", "data/patients.csv")  # which images there are, and whose

Alike = tuple[str, tuple[tuple[str, str], ...]]  # a protocol, and all that folds of one set have in common


def joined(parts: Sequence[Predictions], usable: int) -> Predictions:
    """The test sides of all folds, as one; the column PART says which fold an image was tested in.

    Args:
        parts: of each fold, in their order.
        usable: images that the protocol does not drop.

    Raises:
        UserError: the folds share an image, leave one out, or have other classes.
    """
    if len({own.classes for own in parts}) > 1:
        raise UserError("their classes differ")
    table = pd.concat([own.table.assign(**{PART: fold}) for fold, own in enumerate(parts)], ignore_index=True)
    if twice := int(table.duplicated(["source", "path"]).sum()):
        raise UserError(f"{twice} images are tested in two folds")
    if len(table) != usable:
        raise UserError(f"{len(table)} images are tested of {usable} that the split can use")
    truth, probabilities = (np.concatenate([getattr(own, key) for own in parts]) for key in ("truth", "probabilities"))
    places = np.argsort(table[["source", "path"]].agg("\n".join, axis=1).to_numpy(dtype=str), kind="stable")
    return Predictions(table, parts[0].classes, truth, probabilities).where(places)


def alike(revision: Revision, protocol: str, stage: Stage) -> Alike:
    """What the folds of one set have in common: parameters, data and code of a stage and of those before it."""
    lock = revision.lock
    params = {key: value for key, value in lock.params(stage).items() if key != FOLD}
    read = {path: own[1] for path, own in lock.read(stage).items() if path.startswith("data/inputs/") or path in TABLES}
    return protocol, tuple(sorted((params | read).items()))


def pool(revisions: Sequence[Revision], found: Found, missing: Missing) -> list[Entrant]:
    """All classifiers, those of a whole set of folds as one.

    Args:
        revisions: where the predictions are kept.
        found: what they hold.
        missing: where it is noted which folds are not pooled, and why.
    """
    sets: dict[Alike, dict[int, list[tuple[Revision, Key]]]] = {}
    for (place, protocol), key in found.kept.items():
        stage = revisions[place].lock.producer(f"models/predictions_{protocol}.csv")
        params = revisions[place].lock.params(stage) if stage else {}
        if stage and int(params.get(FOLDS, "0")):
            folds = sets.setdefault(alike(revisions[place], protocol, stage), {})
            folds.setdefault(int(params[FOLD]), []).append((revisions[place], key))
    pooled: dict[Key, Entrant] = {}
    members: set[Key] = set()
    incomplete: dict[tuple[tuple[str, ...], int, tuple[int, ...]], list[str]] = {}
    for (protocol, common), folds in sets.items():
        names = tuple(dict.fromkeys(revision.name for fold in sorted(folds) for revision, _ in folds[fold]))
        number = int(dict(common)[FOLDS])
        if lacking := tuple(sorted(set(range(number)) - set(folds))):
            incomplete.setdefault((names, number, lacking), []).append(protocol)
            continue
        keys = [folds[fold][0][1] for fold in range(number)]  # of one run twice the first, which is the newest
        try:
            whole = joined([found.entrants[key].test for key in keys], _usable(folds[0][0][0]))
        except (UserError, FileNotFoundError) as error:
            missing.add(", ".join(names), f"the folds of {protocol} are not pooled: {error}")
            continue
        digest = hashlib.sha256(" ".join(key[1] for key in keys).encode()).hexdigest()
        params = {key: value for key, value in found.entrants[keys[0]].params.items() if key != FOLD}
        own = Entrant(protocol, names, params, whole, digest=digest, folds=number)
        members.update(key for each in folds.values() for _, key in each)
        if (known := pooled.get(own.key)) is not None:  # the same answers of other parameters, as of a baseline
            shared = {key: value for key, value in known.params.items() if params.get(key) == value}
            every = tuple(dict.fromkeys((*known.experiments, *own.experiments)))
            own = replace(known, experiments=every, params=shared)
        pooled[own.key] = own
    for (names, number, lacking), protocols in incomplete.items():
        missing.add(
            ", ".join(names),
            f"fold {', '.join(map(str, lacking))} of {number} is not there, so that the folds of "
            f"{', '.join(protocols)} are not pooled; `dvc exp run -S {FOLDS}={number} -S {FOLD}={lacking[0]}` runs one",
        )
    return [*pooled.values(), *(own for key, own in found.entrants.items() if key not in members)]


def _usable(revision: Revision) -> int:
    """Images that the split of a revision does not drop."""
    content = revision.details("split")
    if content is None:
        raise UserError("details/split.json, which says how many images there are, is not in the cache")
    return int(content["usable"])
