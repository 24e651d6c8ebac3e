"""Coarser questions that the same probabilities answer: the tumour group, tumour or none, the MRI sequence."""

from __future__ import annotations

from typing import Any

from tumorxai.base import scores
from tumorxai.base.glossary import PARTS, shown
from tumorxai.base.predictions import Predictions

NORMAL = "normal"  # the group_label of images without a tumour
COARSE = tuple(shown(PARTS))
BINARY = {"recall": "sensitivity", **{name: name for name in ("specificity", "ppv", "npv", "auroc", "auprc")}}


def parents(predictions: Predictions, column: str) -> tuple[str, ...] | None:
    """What each class stands for in a column; None where a class stands for none, or for several.

    Args:
        predictions: of all sides; the training side tells, so that it does not depend on a test label.
        column: ``group_label`` or ``sequence``.
    """
    train = predictions.on("train").table
    found = []
    for name in predictions.classes:
        values = set(train[column][train["label"] == name])
        if len(values) != 1 or values == {""}:
            return None
        found.append(str(values.pop()))
    return tuple(found)


def tumour(predictions: Predictions) -> tuple[str, ...] | None:
    """``tumour`` or ``normal`` for each class; None where the classes do not tell it."""
    groups = parents(predictions, "group_label")
    if groups is None or NORMAL not in groups or set(groups) == {NORMAL}:
        return None
    return tuple(NORMAL if group == NORMAL else "tumour" for group in groups)


def summarise(predictions: Predictions, seed: int) -> dict[str, Any]:
    """Scores of the test side on each coarser question that the classes tell.

    Args:
        predictions: of all sides.
        seed: of the jackknife.

    Returns:
        ``tumour_group``, ``tumour_against_normal`` and ``sequence``, each where it is a question of its own.
    """
    found: dict[str, Any] = {}
    for question, column in (("tumour_group", "group_label"), ("sequence", "sequence")):
        names = parents(predictions, column)
        if names is not None and 1 < len(set(names)) < len(names):
            table = _table(predictions, names, seed)
            found[question] = {name: table[name] for name in COARSE}
    if (names := tumour(predictions)) is not None:
        table = _table(predictions, names, seed)
        found["tumour_against_normal"] = {new: table[name].get("tumour") for name, new in BINARY.items()}
    return found


def _table(predictions: Predictions, names: tuple[str, ...], seed: int) -> dict[str, dict[str, Any]]:
    test = predictions.on("test").merged(names)
    return scores.summarise(test.truth, test.probabilities, test.clusters, test.classes, seed)
