"""Scores of a classifier, one definition each, of the sample and without each of its clusters at once.

The definitions are scikit-learn's; it would take minutes without each cluster in turn, which here are rows of one
array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tumorxai.base import jackknife
from tumorxai.base.counts import Floats, Ints, image_nll, macro, ratio
from tumorxai.base.jackknife import Draw

PER_CLASS = ("recall", "specificity", "ppv", "npv", "auroc", "auprc")  # recall is what clinicians call sensitivity
RANGES = {
    "mcc": (-1.0, 1.0),
    "kappa": (-1.0, 1.0),
    "brier": (0.0, 2.0),
    "nll": (0.0, -np.log(np.finfo(np.float64).eps)),
}  # of all others 0 to 1
LOSSES = ("brier", "nll")  # of few clusters they need fewer degrees of freedom
BLOCK = 64  # rows that are sorted out at once: few enough for the processor's cache


def confusions(truth: Ints, predicted: Ints, classes: int, draw: Draw) -> Floats:
    """Confusion counts of the sample and without each cluster, shape (1 + R, classes, classes); rows the truth."""
    cells = np.zeros((draw.weights.shape[1], classes * classes))
    np.add.at(cells, (draw.index, truth * classes + predicted), 1)
    return (draw.weights @ cells).reshape(-1, classes, classes)


def from_confusion(matrix: NDArray[Any]) -> dict[str, Floats]:
    """Scores of one or many confusion matrices.

    Macro averages run over the classes that occur in the truth, as scikit-learn's ``balanced_accuracy_score`` has it;
    in them a class that is never predicted has precision 0.

    Args:
        matrix: (..., K, K), rows the truth.

    Returns:
        accuracy, balanced_accuracy (= macro recall), macro_precision, macro_recall and macro_f1 in [0, 1], and mcc and
        kappa in [-1, 1], of shape (...); recall, specificity, ppv and npv of each class against the others, of shape
        (..., K). NaN where a denominator is 0; mcc is then 0.
    """
    counts = np.asarray(matrix, dtype=np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    actual, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    total = actual.sum(axis=-1)
    others = total[..., None] - actual
    rejected = total[..., None] - predicted  # images of which another class is said
    recall = ratio(hits, actual)
    precision = np.where(actual > 0, ratio(hits, predicted, 0.0), np.nan)
    f1 = np.where(actual > 0, ratio(2 * hits, actual + predicted), np.nan)
    right = hits.sum(axis=-1)
    chance = (actual * predicted).sum(axis=-1)
    # Gorodkin 2004 (doi 10.1016/j.compbiolchem.2004.09.006), Eq. 8, and Cohen 1960, Eq. 1, in counts
    spread = (total**2 - (actual**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    macro_recall = macro(recall)
    return {
        "accuracy": ratio(right, total),
        "balanced_accuracy": macro_recall,
        "macro_precision": macro(precision),
        "macro_recall": macro_recall,
        "macro_f1": macro(f1),
        "mcc": ratio(right * total - chance, np.sqrt(spread), 0.0),
        "kappa": ratio(right * total - chance, total**2 - chance),
        "recall": recall,
        "specificity": ratio(rejected - (actual - hits), others),
        "ppv": ratio(hits, predicted),
        "npv": ratio(rejected - (actual - hits), rejected),
    }


def ranking(positive: NDArray[np.bool_], values: NDArray[Any], draw: Draw) -> tuple[Floats, Floats]:
    """Areas under the ROC curve, ties counted half, and under the precision-recall curve (average precision).

    Args:
        positive: shape (n,).
        values: higher for positives, shape (n,).
        draw: of the same n images.

    Returns:
        Two arrays of shape (1 + R,): NaN where positives lack, the first also where negatives do.
    """
    order = np.argsort(-values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) < 0, True))  # of each run of equal values
    sign, cluster = positive[order, None], draw.index[order]
    auroc, auprc = np.empty((2, len(draw.weights)))
    for start in range(0, len(draw.weights), BLOCK):
        rows = slice(start, start + BLOCK)
        weights = draw.weights[rows].T[cluster]  # (n, rows): sums run down the images, all rows side by side
        asked, found = np.cumsum(weights, axis=0)[ends], np.cumsum(weights * sign, axis=0)[ends]
        wrong = asked - found
        ones, zeros = (np.diff(count, axis=0, prepend=0) for count in (found, wrong))
        pairs = found[-1] * wrong[-1]
        auroc[rows] = ratio(pairs - (ones * (wrong - zeros / 2)).sum(axis=0), pairs)
        auprc[rows] = ratio((ones * ratio(found, asked, 0.0)).sum(axis=0), found[-1])
    return auroc, auprc


def within(positive: NDArray[np.bool_], values: NDArray[Any], draw: Draw, parts: Ints | None) -> tuple[Floats, Floats]:
    """The areas of :func:`ranking` where images compare within their part only, as those of several networks do.

    The first is still the share of pairs that are in order, of the pairs of one part; the second the mean over the
    positives of the precision within their part.

    Args:
        positive: shape (n,).
        values: higher for positives, shape (n,).
        draw: of the same n images.
        parts: part of each image (n,); None: there is one.
    """
    if parts is None:
        return ranking(positive, values, draw)
    sums = np.zeros((2, 2, len(draw.weights)))  # of each area: values times weights, and weights
    for part in np.unique(parts):
        own = parts == part
        some = Draw(draw.index[own], draw.weights)
        found, wrong = some.totals(positive[own]), some.totals(~positive[own])
        areas = ranking(positive[own], values[own], some)
        for area, weight, total in zip(areas, (found * wrong, found), sums, strict=True):
            total += np.where(weight > 0, area * weight, 0.0), weight
    return ratio(sums[0, 0], sums[0, 1]), ratio(sums[1, 0], sums[1, 1])


def image_brier(truth: Ints, probabilities: Floats) -> Floats:
    """Squared distance of each image's probabilities from the truth, (n,), in [0, 2] (Brier 1950, Eq. 2)."""
    own: Floats = ((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1)
    return own


def calibration_bins(confidence: Floats, bins: int) -> list[Ints]:
    """Places of the images in bins of equal size, by rising confidence; the last bins may hold one image fewer."""
    order = np.argsort(confidence, kind="stable")
    return [part for part in np.array_split(order, min(bins, len(order))) if len(part)]


def calibration_error(confidence: Floats, correct: NDArray[np.bool_], bins: int, draw: Draw) -> dict[str, Any]:
    """Root mean square calibration error of the top class, debiased (Kumar, Liang and Ma 2019, arXiv 1909.10155, 4).

    Bins hold equally many images. The gap of a bin, accuracy less mean confidence, has a sampling error, whose square
    inflates the plain error: a calibrated classifier's is far from 0. So the variance of the gaps over clusters is
    taken off the mean of their squares. The interval is Student's of that difference before the root is taken; its
    variance is that of a quadratic form of normal gaps (Searle 1971, Linear Models, section 2.5, corollary 1.2) with
    the jackknife's covariance. A square below 0 counts as 0, no measurable error. For the
    interval a gap varies at least as that of independent images which are right as often as is said of them: a bin
    without an error shows no variance, and is no proof that there is none.

    Args:
        confidence: largest probability of each image (n,).
        correct: whether its class is the true one (n,).
        bins: number of bins, which stay those of the sample.
        draw: of the same n images.

    Returns:
        ``{"value", "low", "high"}`` in [0, 1]; all null with a single cluster, which tells no variance.
    """
    rows = len(draw.weights) - 1
    if rows < 2:
        return {"value": None, "low": None, "high": None}
    parts = calibration_bins(confidence, bins)
    sizes = np.array([len(part) for part in parts], dtype=np.float64)
    member, distance = np.zeros((len(confidence), len(parts))), correct - confidence
    for number, part in enumerate(parts):
        member[part, number] = 1
    found = ratio(draw.totals(member * distance[:, None]), draw.totals(member))
    gaps, weights = found[0], sizes / sizes.sum()
    residual = draw.totals(member * (distance[:, None] - gaps) / sizes)[1:]
    squared = float(weights @ (gaps**2 - (residual**2).sum(axis=0) * rows / (rows - 1)))
    changes = np.nan_to_num(found[1:] - gaps)  # a bin of one cluster shows no variance
    covariance = changes.T @ changes * (1 - 1 / rows)
    chance = np.array([(confidence[part] * (1 - confidence[part])).sum() for part in parts]) / sizes**2
    covariance[np.diag_indices(len(parts))] = np.maximum(np.diag(covariance), chance)
    noise = weights[:, None] * covariance
    own, twice = float((noise * noise.T).sum()), float((weights * gaps) @ covariance @ (weights * gaps))
    freedom = draw.freedom(found @ (weights * gaps))
    reach = float(stats.t.ppf((1 + jackknife.LEVEL) / 2, freedom)) * max(4 * twice - 2 * own, 2 * own) ** 0.5
    value, low, high = (min(1.0, max(0.0, each) ** 0.5) for each in (squared, squared - reach, squared + reach))
    return {"value": value, "low": low, "high": high}


def resampled(truth: Ints, probabilities: Floats, draw: Draw, parts: Ints | None = None) -> dict[str, Floats]:
    """Every score of the sample and without each cluster.

    Args:
        truth: class indices (n,).
        probabilities: of each class (n, K); the predicted class is the most probable one, the first of ties.
        draw: of the same n images.
        parts: fold that each image was tested in (n,), see :func:`within`; None: one classifier has answered for all.

    Returns:
        Those of :func:`from_confusion`, with auroc and auprc of each class against the others (1 + R, K), their means
        macro_auroc and macro_auprc, and nll and brier (1 + R,).
    """
    classes = probabilities.shape[1]
    found = from_confusion(confusions(truth, probabilities.argmax(axis=1).astype(np.int64), classes, draw))
    areas = [within(truth == k, probabilities[:, k], draw, parts) for k in range(classes)]
    auroc, auprc = (np.stack(area, axis=1) for area in zip(*areas, strict=True))
    return found | {
        "auroc": auroc,
        "auprc": auprc,
        "macro_auroc": macro(auroc),
        "macro_auprc": macro(auprc),
        "nll": draw.means(image_nll(truth, probabilities)),
        "brier": draw.means(image_brier(truth, probabilities)),
    }


def summarise(
    truth: Ints, probabilities: Floats, clusters: Ints, classes: Sequence[str], seed: int
) -> dict[str, dict[str, Any]]:
    """Every score with a 95% interval by the jackknife over clusters.

    Args:
        truth: class indices (n,).
        probabilities: of each class (n, K).
        clusters: cluster of each image (n,), any integers.
        classes: names of the K classes.
        seed: of the jackknife, see :func:`tumorxai.base.jackknife.draw`.

    Returns:
        Score name to ``{"value", "low", "high"}``, null where the score is not defined; those of PER_CLASS hold one
        such entry for each class that occurs.
    """
    drawn = jackknife.draw(clusters, seed)
    return entries(resampled(truth, probabilities, drawn), truth, probabilities.argmax(axis=1), classes, drawn)


def entries(
    found: Mapping[str, Floats], truth: Ints, predicted: Ints, classes: Sequence[str], drawn: Draw
) -> dict[str, dict[str, Any]]:
    """The intervals of :func:`summarise`.

    Args:
        found: by :func:`resampled`.
        truth: class indices (n,).
        predicted: the same, as the classifier has them.
        classes: names of the K classes.
        drawn: the draw of ``found``.
    """
    # A class in a single cluster shows no spread: the largest that a share can have is taken, 1/4.
    alone = sum(len(np.unique(drawn.index[truth == k])) == 1 for k in np.unique(truth))
    unseen = alone / 4 / len(np.unique(truth)) ** 2
    # Of a mean over classes the variance is at most that of independent images, as many as each has clusters.
    least = len(np.unique(truth)) ** 2 / sum(1 / drawn.effective(truth == k) for k in np.unique(truth))
    table: dict[str, dict[str, Any]] = {}
    for name, values in found.items():
        if name not in PER_CLASS:
            mean = {"unseen": unseen, "least": least} if "macro" in name or "balanced" in name else {}
            table[name] = interval(name, values, drawn, **mean)
            continue
        table[name] = {
            classes[k]: drawn.entry(values[:, k], of=told(name, truth == k, predicted == k, drawn))
            for k in np.unique(truth)
        }
    return table


def interval(name: str, values: Floats, drawn: Draw, **given: Any) -> dict[str, Any]:
    """The interval of a score within its range, see :meth:`tumorxai.base.jackknife.Draw.entry`."""
    return drawn.entry(values, *RANGES.get(name, (0.0, 1.0)), cautious=name in LOSSES, **given)


def told(name: str, own: NDArray[np.bool_], called: NDArray[np.bool_], draw: Draw) -> NDArray[np.bool_]:
    """The images that a score of one class is told by, (n,): for areas the kind that lies in fewer clusters.

    Args:
        name: out of PER_CLASS.
        own: which images are of the class (n,).
        called: which the classifier calls so (n,).
        draw: of the same images.
    """
    if name in ("auroc", "auprc"):
        return min(own, ~own, key=draw.effective)
    return {"recall": own, "specificity": ~own, "ppv": called, "npv": ~called}[name]
