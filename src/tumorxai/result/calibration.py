"""Are the probabilities to be believed, and what if the unsure cases are handed to a person?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from tumorxai import config
from tumorxai.base import jackknife, scores
from tumorxai.base.counts import image_nll
from tumorxai.base.jackknife import Draw, Floats
from tumorxai.base.predictions import Predictions
from tumorxai.files import read_json, reading

TEMPERATURES = (0.05, 20.0)  # between which the temperature is looked for
BOUND = 0.01  # of the logarithm: a temperature so close to an end was stopped there
COVERAGE = np.linspace(0.01, 1.0, 100)


def rescaled(probabilities: Floats, temperature: float) -> Floats:
    """Probabilities (n, K) whose logits are divided by a temperature above 0 (arXiv 1706.04599, Eq. 9)."""
    logits = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Floats = raised / raised.sum(axis=1, keepdims=True)
    return found


def heated(predictions: Predictions, temperature: float) -> Predictions:
    """The same predictions, :func:`rescaled`."""
    return replace(predictions, probabilities=rescaled(predictions.probabilities, temperature))


def temperature(validation: Predictions) -> float:
    """The temperature with the least negative log-likelihood on the validation side; 1 without such a side."""
    if not len(validation.truth):
        return 1.0

    def loss(logarithm: float) -> float:
        scaled = rescaled(validation.probabilities, float(np.exp(logarithm)))
        return float(image_nll(validation.truth, scaled).mean())

    bounds = tuple(np.log(TEMPERATURES))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x))


@dataclass(frozen=True)
class Threshold:
    """Confidence from which on a case is decided, chosen on the validation side; the others go to a person.

    Attributes:
        confidence: the threshold, in [0, 1]; None where no threshold reaches the wanted sensitivity.
        relevant: whether each of the K classes is a tumour; where the classes do not tell, all count.
    """

    confidence: float | None
    relevant: NDArray[np.bool_]


def hits(predictions: Predictions, relevant: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which images show what must not be missed, and which of all are classified rightly in that respect, (n,) each.

    With classes that are no tumour, any tumour class is right for a tumour; without, the class itself must be right.
    """
    if relevant.all():
        return np.ones(len(predictions.truth), dtype=np.bool_), predictions.predicted == predictions.truth
    return relevant[predictions.truth], relevant[predictions.predicted] == relevant[predictions.truth]


def threshold(validation: Predictions, relevant: NDArray[np.bool_], sensitivity: float) -> Threshold:
    """The lowest confidence at which the decided cases are found with the wanted sensitivity on the validation side."""
    positive, right = hits(validation, relevant)
    confidence = validation.probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    found, shown = np.cumsum((positive & right)[order]), np.cumsum(positive[order])
    last = np.append(np.diff(confidence[order]) < 0, True)[: len(order)]  # equal confidences are decided together
    good = np.flatnonzero(last & (shown > 0) & (found >= sensitivity * shown))
    if not len(good):
        return Threshold(None, relevant)
    everyone = good[-1] == len(order) - 1
    return Threshold(0.0 if everyone else float(confidence[order[good[-1]]]), relevant)


def selective(test: Predictions, chosen: Threshold, draw: Draw) -> dict[str, Any]:
    """Share of the test cases that are decided, and the sensitivity among them."""
    if chosen.confidence is None:
        return {"threshold": None, "coverage": None, "sensitivity": None}
    decided = test.probabilities.max(axis=1) >= chosen.confidence
    positive, right = hits(test, chosen.relevant)
    shown = draw.totals(decided & positive)
    with np.errstate(invalid="ignore"):
        reached = draw.totals(decided & positive & right) / shown
    return {
        "threshold": chosen.confidence,
        "coverage": draw.entry(draw.means(decided)),
        "sensitivity": draw.entry(reached, of=decided & positive),
    }


def risk_coverage(test: Predictions) -> tuple[pd.DataFrame, float]:
    """Share of errors among the surest cases (arXiv 1705.08500, section 2), and its mean over all coverages (AURC).

    Among equally sure cases any may be decided first: the risk is the expected one.

    Returns:
        A table with the columns ``coverage`` (0.01 to 1) and ``risk``; and the area, in [0, 1].
    """
    _, tied = np.unique(-test.probabilities.max(axis=1), return_inverse=True)
    wrong = test.predicted != test.truth
    share = np.bincount(tied, weights=wrong) / np.bincount(tied)  # of errors among equally sure cases
    risk = np.cumsum(share[np.sort(tied)]) / np.arange(1, len(wrong) + 1)
    places = np.maximum(1, np.rint(COVERAGE * len(wrong)).astype(np.int64)) - 1
    return pd.DataFrame({"coverage": COVERAGE.round(2), "risk": risk[places].round(6)}), float(risk.mean())


def reliability(test: Predictions, scaled: Predictions, bins: int) -> pd.DataFrame:
    """Mean confidence and accuracy of equally filled bins, before and after the temperature."""
    columns = {}
    for prefix, own in (("", test), ("scaled_", scaled)):
        confidence, right = own.probabilities.max(axis=1), own.predicted == own.truth
        parts = scores.calibration_bins(confidence, bins)
        columns[f"{prefix}confidence"] = [round(float(confidence[part].mean()), 6) for part in parts]
        columns[f"{prefix}accuracy"] = [round(float(right[part].mean()), 6) for part in parts]
        columns["images"] = [len(part) for part in parts]
    return pd.DataFrame(columns)


def summarise(
    predictions: Predictions, coarse: Sequence[str] | None, settings: config.Calibration, seed: int
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Calibration of the test side before and after the temperature, and selective prediction after it.

    Args:
        predictions: of all sides.
        coarse: ``tumour`` or ``normal`` for each class, where the classes tell.
        settings: bins and wanted sensitivity.
        seed: of the jackknife.

    Returns:
        Figures for JSON; and the tables ``reliability`` and ``risk_coverage``.
    """
    validation, test = predictions.on("validation"), predictions.on("test")
    heat = temperature(validation)
    after = heated(test, heat)
    relevant = np.array([name == "tumour" for name in coarse or ["tumour"] * len(predictions.classes)])
    chosen = threshold(heated(validation, heat), relevant, settings.sensitivity)

    draw = jackknife.draw(test.clusters, seed)
    risks, area = risk_coverage(after)
    ends = [abs(np.log(heat / end)) for end in TEMPERATURES]
    found: dict[str, Any] = {"temperature": heat, "at_bound": bool(min(ends) < BOUND)}
    for name, own in (("before", test), ("after", after)):
        right = own.predicted == own.truth
        found[name] = {
            "error": scores.calibration_error(own.probabilities.max(axis=1), right, settings.bins, draw),
            "brier": scores.interval("brier", draw.means(scores.image_brier(own.truth, own.probabilities)), draw),
            "nll": scores.interval("nll", draw.means(image_nll(own.truth, own.probabilities)), draw),
        }
    found |= {"aurc": area, "selective": selective(after, chosen, draw)}
    return found, {"reliability": reliability(test, after, settings.bins), "risk_coverage": risks}


def fitted_temperature(path: Path) -> float:
    """What the fine-tuned classifier's logits are divided by.

    Args:
        path: ``details/calibration.json``.

    Raises:
        UserError: it is not there.
    """
    remedy = "run `dvc repro scores`"
    content = read_json(path, "finetune", remedy=remedy)
    with reading(path, "the temperature of the fine-tuned classifier", remedy):
        found = float(content["finetune"]["temperature"])
        if not 0 < found < float("inf"):
            raise ValueError(f"the temperature {found}")
        return found
