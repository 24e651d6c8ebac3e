"""The report card: which method passes which check, for one classifier and data set.

A check is passed when the evidence for it is there, by a 95% interval over clusters, and failed otherwise: small
samples fail. Scores of faithfulness and localisation must be better than those of every floor, on the same images.
Stability must be better than the distance to another image's map. Similarities after randomisation must be below LIMIT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tumorxai.base import jackknife
from tumorxai.explain.methods import FLOORS

LIMIT = 0.5  # rank correlation at which a map counts as still the same

Floats = NDArray[np.float64]
Card = Mapping[str, Mapping[str, Mapping[str, Any]]]  # by check, then by method or floor, what `judge` gives


@dataclass(frozen=True)
class Check:
    """One column of the card.

    Attributes:
        title: for readers.
        group: of columns.
        better: which direction is.
        against: what the score is held against.
        least: that the score can be.
        most: that it can be.
    """

    title: str
    group: Literal["faithfulness", "stability", "localisation", "sanity"]
    better: Literal["higher", "lower"] = "higher"
    against: Literal["floors", "other image", "limit"] = "floors"
    least: float = 0.0
    most: float = 1.0


CHECKS = {
    "deletion_blur": Check("deletion (blur)", "faithfulness", "lower"),
    "deletion_mean": Check("deletion (mean)", "faithfulness", "lower"),
    "insertion_blur": Check("insertion (blur)", "faithfulness"),
    "insertion_mean": Check("insertion (mean)", "faithfulness"),
    "road": Check("ROAD", "faithfulness", least=-1.0),
    "average_drop": Check("average drop", "faithfulness", "lower"),
    "average_increase": Check("increase", "faithfulness"),
    "sensitivity_n": Check("sensitivity-n", "faithfulness", least=-1.0),
    "max_sensitivity": Check("max-sensitivity", "stability", "lower", "other image", most=inf),
    "energy": Check("energy inside", "localisation"),
    "pointing": Check("pointing", "localisation"),
    "iou_best": Check("IoU, best threshold", "localisation"),
    "iou_fixed": Check("IoU at 0.5", "localisation"),
    "pixel_auroc": Check("pixel AUROC", "localisation"),
    "weights": Check("random weights", "sanity", "lower", "limit", -1.0),
    "labels": Check("random labels", "sanity", "lower", "limit", -1.0),
    "class_swap": Check("another class", "sanity", "lower", "limit", -1.0),
}


def _entry(draw: jackknife.Draw, values: Floats, least: float, most: float) -> dict[str, Any]:
    """Mean of values between two bounds with its interval; images without a value (NaN) are left out."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return draw.entry(draw.totals(np.where(known, values, 0)) / draw.totals(known), least, most, of=known)


def judge(
    check: Check, values: Mapping[str, Floats], draw: jackknife.Draw, others: Mapping[str, Floats]
) -> dict[str, dict[str, Any]]:
    """Score every method and floor by one check.

    Args:
        check: the column.
        values: by method or floor, one value for each image (n,); NaN where there is none.
        draw: of the images' clusters.
        others: by method or floor, the distance to another image's map (n,); read for stability only.

    Returns:
        For each ``{"value", "low", "high", "passed"}``; passed is None for floors held against floors and where there
        is no value. Held against floors there are also ``floor``, the strongest of them, and ``lead``, the difference
        to it, positive where the method is better, with its interval.
    """
    reach = check.most - check.least  # of a difference, to both sides
    sign = 1.0 if check.better == "higher" else -1.0
    card = {}
    for name, own in values.items():
        row = _entry(draw, own, check.least, check.most) | {"passed": None}
        if row["value"] is None:
            pass
        elif check.against == "limit":
            row["passed"] = row["high"] < LIMIT
        elif check.against == "other image":
            row["passed"] = _entry(draw, sign * (own - others[name]), -reach, reach)["low"] > 0
        elif name not in FLOORS:
            leads = {
                floor: _entry(draw, sign * (own - values[floor]), -reach, reach) for floor in FLOORS if floor in values
            }
            leads = {floor: lead for floor, lead in leads.items() if lead["value"] is not None}
            row["passed"] = all(lead["low"] > 0 for lead in leads.values())
            row["floor"] = min(leads, key=lambda floor: leads[floor]["low"])
            row["lead"] = leads[row["floor"]]
        card[name] = row
    return card
