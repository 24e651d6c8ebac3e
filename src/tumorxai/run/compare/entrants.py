"""Who takes part: the classifiers whose predictions the revisions have kept, each once."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from tumorxai.base.predictions import Predictions
from tumorxai.base.protocols import TITLES
from tumorxai.errors import UserError
from tumorxai.run.compare.names import differing, labels, settings
from tumorxai.run.compare.revisions import Missing, Revision

Key = tuple[str, str]  # protocol and digest of the predictions


@dataclass(frozen=True)
class Entrant:
    """A classifier on the leaderboard.

    Attributes:
        protocol: a key of :data:`tumorxai.base.protocols.PROTOCOLS`.
        experiments: names of the experiments and commits that kept these very predictions.
        params: flat parameters of the stages that made them, as far as these experiments have them in common.
        test: predictions on the test side, ordered by source and path.
        label: what sets it apart from the others of its protocol; empty where nothing does.
        model: protocol and label.
        settings: all that sets it apart, as ``key=value``.
        digest: of the predictions.
        folds: of the cross-validation whose test sides ``test`` joins; 0: one split.
    """

    protocol: str
    experiments: tuple[str, ...]
    params: dict[str, str]
    test: Predictions
    label: str = ""
    model: str = ""
    settings: tuple[str, ...] = ()
    digest: str = ""
    folds: int = 0

    @property
    def key(self) -> Key:
        """Protocol and digest."""
        return self.protocol, self.digest


@dataclass
class Found:
    """What the revisions hold.

    Attributes:
        entrants: by protocol and digest of their predictions.
        kept: the entrants' keys by the place of a revision in the list and protocol.
    """

    entrants: dict[Key, Entrant] = field(default_factory=dict)
    kept: dict[tuple[int, str], Key] = field(default_factory=dict)


def stale(revision: Revision, stages: Sequence[str], missing: Missing) -> None:
    """Note stages that a revision has not run after what they read had changed."""
    by_cause: dict[tuple[str, ...], list[str]] = {}
    for name in dict.fromkeys(stages):
        by_cause.setdefault(revision.lock.changed(revision.lock.stages[name]), []).append(name)
    for cause, names in by_cause.items():
        if cause:
            verb = "was" if len(names) == 1 else "were"
            missing.add(revision.name, f"{', '.join(names)} {verb} not run after {' and '.join(cause)} changed")


def collect(revisions: Sequence[Revision], protocols: Sequence[str], missing: Missing) -> Found:
    """Read the kept predictions.

    Args:
        revisions: where to look.
        protocols: keys of PROTOCOLS.
        missing: where it is noted what is left out, and why.
    """
    found = Found()
    for place, revision in enumerate(revisions):
        unwritten, unkept, old = [], [], []
        for protocol in protocols:
            path = f"models/predictions_{protocol}.csv"
            if (stage := revision.lock.producer(path)) is None:
                unwritten.append(protocol)
                continue
            if revision.lock.changed(stage):
                old.append(stage.name)
                continue
            try:
                content = revision.read(path)
                if content is None:
                    unwritten.append(protocol)
                else:
                    found.kept[place, protocol] = _add(found, protocol, revision, stage.name, content)
            except FileNotFoundError:
                unkept.append(protocol)
            except (UserError, ValueError, LookupError) as error:
                missing.add(revision.name, f"the predictions of {protocol} cannot be read ({error})")
        stale(revision, old, missing)
        if unwritten:
            missing.add(revision.name, f"no stage has written predictions of {', '.join(unwritten)}")
        if unkept:
            missing.add(
                revision.name, f"the predictions of {', '.join(unkept)} are not in the cache; `dvc pull` may fetch them"
            )
    return found


def _add(found: Found, protocol: str, revision: Revision, stage: str, content: bytes) -> Key:
    key = protocol, hashlib.sha256(content).hexdigest()
    params = revision.lock.params(revision.lock.stages[stage])
    if (known := found.entrants.get(key)) is not None:
        common = {name: value for name, value in known.params.items() if params.get(name) == value}
        names = tuple(dict.fromkeys((*known.experiments, revision.name)))
        found.entrants[key] = replace(known, experiments=names, params=common)
        return key
    test = Predictions.read(io.StringIO(content.decode())).on("test")
    if not len(test.truth):
        raise ValueError("no image on the test side")
    key_columns = test.table[["source", "path"]].agg("\n".join, axis=1).to_numpy(dtype=str)
    places = np.argsort(key_columns, kind="stable")
    found.entrants[key] = Entrant(protocol, (revision.name,), params, test.where(places), digest=key[1])
    return key


def named(entrants: Sequence[Entrant]) -> list[Entrant]:
    """Call each by its protocol and by what sets it apart from others of that protocol; no two are called alike."""
    called = list(entrants)
    for protocol in dict.fromkeys(entrant.protocol for entrant in entrants):
        places = [i for i, entrant in enumerate(entrants) if entrant.protocol == protocol]
        own = [entrants[i] for i in places]
        params = [entrant.params for entrant in own]
        every = settings(params, differing(params))
        for i, label, own_set in zip(places, labels(params, [each.experiments for each in own]), every, strict=True):
            model = ", ".join(filter(None, (TITLES[protocol], label)))
            called[i] = replace(entrants[i], label=label, model=model, settings=own_set)
    return called


def test_side(entrant: Entrant) -> str:
    """Eight hexadecimal digits that change with the images of the test side, their labels or their clusters."""
    table = entrant.test.table
    content = table[["source", "path", "label"]].assign(cluster=pd.factorize(table["cluster"])[0])
    return hashlib.sha256(content.to_csv(index=False).encode()).hexdigest()[:8]


def by_side(entrants: Iterable[Entrant]) -> dict[str, list[Entrant]]:
    """The entrants of each test side, named; the side with most entrants first."""
    sides: dict[str, list[Entrant]] = {}
    for entrant in entrants:
        sides.setdefault(test_side(entrant), []).append(entrant)
    return {name: named(sides[name]) for name in sorted(sides, key=lambda name: (-len(sides[name]), name))}
