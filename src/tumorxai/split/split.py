"""Training, unlabelled, validation and test side of every image, drawn by one of four protocols.

``patients``: what is not independent, or likely not, stays together. The unit is the connected component of images that
share a duplicate group, a patient, or a series; a fold of whole patients, published or told by a registry, is one unit.
``grouped``: without copies. The unit is the connected component of images that share a duplicate group, or a patient
or a published fold that their source declares; slices of one patient whom no source names may cross.
``official``: the test side is the publisher's, and the validation side where it has one; else validation and unlabelled
images come from its training part, by units of ``grouped``.
``random``: single images, as the papers did. Copies land on both sides: leaky on purpose, for comparison.

With ``folds`` the units of ``patients``, ``grouped`` or ``random`` are dealt out to so many folds of like size, class
by class, and one of them is the test side. The folds depend on the seed, not on which of them is tested; ``tumorxai
compare`` pools the predictions of all.

With external sources the test side is theirs alone, less the classes that the other sources lack, and ``patients`` and
``grouped`` drop what the others share with them.

With labelled sources these alone are trained on with labels, chosen by and tested on. Images of the others are
unlabelled, but for units that a validation or test image lies in, which are dropped; ``random`` knows no units and
keeps all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumorxai.base.dataset import clusters, read_table
from tumorxai.base.draws import label_ranks
from tumorxai.config import Params, Split
from tumorxai.errors import UserError
from tumorxai.files import write_csv, write_json
from tumorxai.patients.names import STATES
from tumorxai.split import units
from tumorxai.split.assign import distribute, folds

SIDES: tuple[str, ...] = ("train", "unlabelled", "validation", "test")
LABELLED = (0.01, 0.05, 0.1, 0.25, 1.0)  # the nested labelled subsets that papers report


def _check_official(table: pd.DataFrame) -> None:
    for source, part in table.groupby("source"):
        missing = int((~part["official_split"].isin(["train", "validation", "test"])).sum())
        if missing:
            raise UserError(
                f"split: got no official split for {missing} of {len(part)} images of {source}; expected "
                "train, validation or test for each; set split.protocol to patients, or leave that source out"
            )


def _check_external(catalogue: pd.DataFrame, settings: Split) -> None:
    sources = set(catalogue["source"])
    if settings.protocol == "official":
        raise UserError(
            "split: got split.external with split.protocol official, which have different test sides; expected one of "
            "them; set split.protocol to patients"
        )
    if not set(settings.external) < sources:
        raise UserError(
            f"split.external: got {settings.external}; expected some, not all, of {sorted(sources)}; correct it, or "
            "add the source to data.sources"
        )


def _labelled(catalogue: pd.DataFrame, settings: Split) -> NDArray[np.bool_]:
    """Which images have labels that may be used, shape (N,)."""
    named = {*settings.labelled, *settings.external}
    if not settings.labelled:
        return np.ones(len(catalogue), dtype=bool)
    sources = set(catalogue["source"])
    if not named <= sources:
        raise UserError(
            f"split.labelled: got {settings.labelled}; expected some of {sorted(sources)}; correct it, or add the "
            "source to data.sources"
        )
    return catalogue["source"].isin(named).to_numpy()


def draw(
    catalogue: pd.DataFrame, groups: pd.DataFrame, settings: Split, seed: int, found: units.Units | None = None
) -> pd.DataFrame:
    """Draw the sides.

    Args:
        catalogue: N rows with ``source``, ``patient``, ``fold`` and ``official_split``; where they are known also
            ``subject`` and ``series``, see :func:`tumorxai.split.units.told`.
        groups: N rows, in the same order, with ``group``, ``label`` and ``status``.
        settings: protocol and sizes of the sides.
        seed: of all random choices.
        found: the units under this protocol, where they are at hand: they do not depend on the seed.

    Returns:
        N rows ``image_id``, ``group``, ``label``, ``side``, ``label_rank`` (NaN off the training side), and of
        ``subject``, ``series`` and ``known`` what the catalogue has.

    Raises:
        UserError: the images do not suffice for what is asked, or a source has no official split.
    """
    rng = np.random.default_rng(seed)
    alone, none = np.arange(len(groups)), np.zeros(len(groups), dtype=bool)
    own = units.Units(alone, alone, none, none)
    if settings.protocol != "random":
        own = found or units.find(catalogue, groups, settings)
    labelled = _labelled(catalogue, settings)
    fit = (groups["status"] != "drop").to_numpy() & ~own.bridges & ~own.overlaps
    usable = fit & labelled
    labels, side = groups["label"].to_numpy(dtype=object), np.full(len(groups), "dropped", dtype=object)
    pool, sides = usable, SIDES
    if settings.external:
        _check_external(catalogue, settings)
        outside = catalogue["source"].isin(settings.external).to_numpy()
        pool, sides = usable & ~outside, SIDES[:3]
        side[usable & outside & np.isin(labels, labels[pool])] = "test"  # a class that training lacks cannot be told
    elif settings.protocol == "official":
        _check_official(catalogue[usable])
        stated = catalogue["official_split"].to_numpy(dtype=object)
        given = [name for name in ("validation", "test") if (usable & (stated == name)).any()]
        for name in given:
            side[usable & (stated == name)] = name
        pool = usable & ~np.isin(stated, given)
        sides = SIDES[:2] if "validation" in given else SIDES[:3]
    elif settings.folds:
        fold = np.full(len(groups), -1)
        fold[usable] = folds(labels[usable], own.unit[usable], own.independent[usable], settings.folds, rng)
        side[fold == settings.fold] = "test"
        pool, sides = usable & (fold != settings.fold), SIDES[:3]
    if not pool.any():
        raise UserError("split: got no usable image; expected some of each class; check data.sources, dedupe.conflicts")
    side[pool] = distribute(labels[pool], own.unit[pool], own.independent[pool], settings, sides, rng)
    _check_classes(labels, side, settings)
    held = np.isin(own.unit, own.unit[np.isin(side, ("validation", "test"))])
    side[fit & ~labelled & ~held] = "unlabelled"
    rank, train = np.full(len(groups), np.nan), side == "train"
    whose = catalogue.drop(columns="group", errors="ignore").assign(group=groups["group"].to_numpy())
    rank[train] = label_ranks(labels[train], clusters(whose)[train], rng)
    columns = {"image_id": groups.index, "group": groups["group"], "label": labels, "side": side, "label_rank": rank}
    told = [name for name in ("subject", "series", "known") if name in catalogue]
    return pd.DataFrame(columns).assign(**catalogue[told]).reset_index(drop=True)


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

    ``independent`` are the units that are told apart within a side, of each class: patients, series, duplicate groups.
    ``pooled`` are the images on each side that the sources state, where the protocol draws them anew.
    ``unlabelled_sources`` are those whose labels are not used, and ``unlabelled_overlaps`` their images left out, for
    they share a unit with a validation or test image. ``rest_of_folds`` are the images left out of published folds of
    which a side took a part (:func:`tumorxai.split.assign.thin`). ``fold`` is the one that is tested of ``folds``, null
    where there are none.

    Args:
        drawn: what :func:`draw` returned for the other arguments.
        catalogue: see :func:`draw`.
        groups: see :func:`draw`.
        settings: see :func:`draw`.
    """
    unit, independent, bridges, overlaps = units.find(catalogue, groups, settings)
    states = units.states(catalogue)
    conflicts, protocol = (groups["status"] == "drop").to_numpy(), settings.protocol
    bridges, overlaps = (own & ~conflicts & (protocol != "random") for own in (bridges, overlaps))
    outside, labelled = catalogue["source"].isin(settings.external).to_numpy(), _labelled(catalogue, settings)
    kept, dropped = ~conflicts & ~bridges & ~overlaps, (drawn["side"] == "dropped").to_numpy()
    fit = kept & labelled
    usable = int(fit.sum())
    given = {"dropped"}
    if protocol == "official" or settings.external or settings.folds:
        given.add("test")
    stated = catalogue["official_split"].to_numpy(dtype=object)
    if protocol == "official" and (fit & (stated == "validation")).any():
        given.add("validation")
    own_sides = {name: int((stated == name).sum()) for name in ("train", "validation", "test")}
    sides = {}
    for side in (*SIDES, "dropped"):
        own = (drawn["side"] == side).to_numpy()
        sides[side] = {
            "images": int(own.sum()),
            "share": round(float((own & fit).sum()) / usable, 6),
            "asked": None if side in given else getattr(settings, side),
            "units": len(np.unique(unit[own])),
            "classes": {label: int((own & (drawn["label"] == label)).sum()) for label in sorted(set(drawn["label"]))},
            "independent": {
                label: len(np.unique(independent[own & (drawn["label"] == label)]))
                for label in sorted(set(drawn["label"]))
            },
            "patients": {state: int((own & (states == state)).sum()) for state in STATES},
        }
    return {
        "protocol": protocol,
        "folds": settings.folds,
        "fold": settings.fold if settings.folds else None,
        "pooled": {name: count for name, count in own_sides.items() if count and protocol != "official"},
        "images": len(drawn),
        "usable": usable,
        "label_conflicts": int(conflicts.sum()),
        "bridging_folds": int(bridges.sum()),
        "rest_of_folds": int((fit & dropped & np.isin(unit, unit[~dropped])).sum()) * (protocol != "random"),
        "external": settings.external,
        "external_overlaps": int(overlaps.sum()),
        "external_unknown_class": int((fit & outside & dropped).sum()),
        "unlabelled_sources": sorted(set(catalogue["source"][~labelled])),
        "unlabelled_overlaps": int((kept & ~labelled & dropped).sum()),
        "patients": {state: int((states == state).sum()) for state in STATES},
        "units": len(np.unique(unit)),
        "largest_unit": int(np.bincount(unit).max()),
        "sides": sides,
        "labelled": {f"{fraction:g}": int((drawn["label_rank"] < fraction).sum()) for fraction in LABELLED},
    }


def run(params: Params, data: Path, details: Path, plot: Path) -> None:
    """Draw the split and write ``split.csv`` under ``data``, its counts and its plot's table.

    Args:
        params: for ``split`` and ``seed``.
        data: folder of ``catalogue.csv``, ``groups.csv`` and ``patients.csv``.
        details: JSON to write; see :func:`summarise`.
        plot: CSV to write: images of each side and class.
    """
    catalogue, groups, told = (read_table(data / f"{name}.csv") for name in ("catalogue", "groups", "patients"))
    if len({len(catalogue), len(groups), len(told)}) > 1:
        raise UserError(
            f"{data}: got {len(catalogue)} images in catalogue.csv, {len(groups)} in groups.csv and {len(told)} in "
            "patients.csv; expected the same; run `dvc repro patients`"
        )
    classes = sorted(set(groups["label"][groups["status"] == "keep"]))
    if len(classes) < 2:
        raise UserError(
            f"split: got the classes {classes}; expected at least two to tell apart; look at data.sources, "
            "data.taxonomy and dedupe.conflicts"
        )
    catalogue = catalogue.assign(subject=told["patient"], series=told["series"], known=told["known"])
    drawn = draw(catalogue, groups, params.split, params.seed)
    counts = drawn.groupby(["side", "label"]).size().rename("count").reset_index()
    write_csv(data / "split.csv", drawn)
    write_csv(plot, counts)
    summary = summarise(drawn, catalogue, groups, params.split)
    write_json(details, summary)
    if own := summary["pooled"]:
        print(
            f"split: the sources' own sides ({', '.join(f'{name} {count}' for name, count in own.items())}) are pooled "
            f"and drawn anew by split.protocol {params.split.protocol}; split.protocol=official keeps them"
        )
