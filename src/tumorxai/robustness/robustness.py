"""How much a classifier loses when its images get worse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from tumorxai import config
from tumorxai.base import drawing, jackknife, scores
from tumorxai.base.dataset import Dataset
from tumorxai.base.drawing import BLUE, GREY, percent, plain
from tumorxai.files import write_csv, write_json
from tumorxai.networks import classifier
from tumorxai.robustness.corruptions import GRADED, corrupt

NAMES = ("accuracy", "balanced_accuracy")


def chosen(dataset: Dataset, count: int, seed: int) -> NDArray[np.int64]:
    """At most ``count`` test images, drawn without regard to their labels, ascending."""
    test = dataset.indices("test")
    return np.sort(np.random.default_rng(seed).permutation(test)[:count])


def measure(
    model: classifier.Classifier, dataset: Dataset, ids: NDArray[np.int64], grades: list[int], seed: int
) -> dict[str, Any]:
    """Scores on the undamaged images and under each kind and grade of damage.

    Args:
        model: the classifier.
        dataset: the images.
        ids: those to damage.
        grades: out of 1 to 5.
        seed: of damage and the jackknife.

    Returns:
        ``images``, ``clean``, ``corruptions`` (kind, grade as text, score), ``mean`` over all of these, and
        ``by_grade``, the same for each grade: accuracies with intervals over test images. All share their resamples.
    """
    truth, draw = dataset.labels[ids], jackknife.draw(dataset.clusters(ids), seed)
    images = torch.from_numpy(dataset.images[ids])

    def scored(pixels: torch.Tensor) -> dict[str, jackknife.Floats]:
        predicted = model.probabilities(pixels.numpy()).argmax(axis=1)
        table = scores.from_confusion(scores.confusions(truth, predicted, len(dataset.classes), draw))
        return {name: table[name] for name in NAMES}

    clean = scored(images)
    cells = [(kind, grade) for kind in GRADED for grade in grades]
    found = {
        (kind, grade): scored(corrupt(images, kind, grade, seed))
        for kind, grade in tqdm(cells, desc="robustness", unit="damage")
    }

    def mean(wanted: list[tuple[str, int]]) -> dict[str, Any]:
        return {name: draw.entry(np.mean([found[cell][name] for cell in wanted], axis=0)) for name in NAMES}

    return {
        "images": len(ids),
        "clean": {name: draw.entry(clean[name]) for name in NAMES},
        "mean": mean(cells),
        "by_grade": {str(grade): mean([(kind, grade) for kind in GRADED]) for grade in grades},
        "corruptions": {kind: {str(grade): mean([(kind, grade)]) for grade in grades} for kind in GRADED},
    }


def figure(found: dict[str, Any]) -> Figure:
    """Accuracy against the grade, a panel for each kind of damage."""
    drawn = Figure(figsize=(9.6, 6.6), layout="constrained")
    clean = found["clean"]["accuracy"]
    for axes, (kind, grades) in zip(
        drawn.subplots(3, 3, sharey=True).ravel(), found["corruptions"].items(), strict=True
    ):
        entries = [clean, *(grade["accuracy"] for grade in grades.values())]
        x = [0, *map(int, grades)]
        axes.axhline(clean["value"], color=GREY, linewidth=0.9, linestyle="--")
        axes.plot(x, [entry["value"] for entry in entries], color=BLUE, marker="o", markersize=4)
        axes.fill_between(x, *([e[key] for e in entries] for key in ("low", "high")), color=BLUE, alpha=0.18)
        axes.set(title=kind, xticks=x)
        plain(axes)
        percent(axes.yaxis)
    drawn.supxlabel("grade of the damage; 0: none")
    drawn.supylabel("accuracy on test images")
    return drawn


def samples(images: NDArray[np.uint8], grades: list[int], seed: int) -> Figure:
    """One image under each kind of damage, graded."""
    drawn = Figure(figsize=(1.15 * len(GRADED) + 0.4, 1.15 * (len(grades) + 1) + 0.3))
    frame = {"left": 0.04, "right": 0.995, "bottom": 0.01, "top": 0.94, "wspace": 0.04, "hspace": 0.04}
    grid = drawn.subplots(len(grades) + 1, len(GRADED), squeeze=False, gridspec_kw=frame)
    for row, grade in zip(grid, [0, *grades], strict=True):
        for axes, kind in zip(row, GRADED, strict=True):
            pixels = torch.from_numpy(images)
            shown = (corrupt(pixels, kind, grade, seed) if grade else pixels)[0].permute(1, 2, 0).numpy()
            axes.imshow(shown.squeeze(), cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if grade == 0:
                axes.set_title(kind, fontsize=9)
        row[0].set_ylabel(f"grade {grade}" if grade else "as it is", fontsize=9)
    return drawn


def run(params: config.Params, data: Path, model: Path, details: Path, metrics: Path, plots: Path) -> None:
    """Damage test images and classify them.

    Args:
        params: the whole experiment.
        data: folder of the pack, the catalogue, the groups and the split.
        model: the classifier.
        details: JSON to write: every kind and grade.
        metrics: JSON to write: what DVC shows.
        plots: folder to write ``by_grade.csv`` and pictures to.
    """
    dataset, settings = Dataset.load(data), params.robustness
    ids = chosen(dataset, settings.images, params.seed)
    found = measure(classifier.load(model, data), dataset, ids, settings.grades, params.seed)
    rows = [{"grade": 0, **found["clean"]["accuracy"]}]
    rows += [{"grade": int(grade), **entry["accuracy"]} for grade, entry in found["by_grade"].items()]
    write_csv(plots / "by_grade.csv", pd.DataFrame(rows).rename(columns={"value": "accuracy"}))
    drawing.save(figure(found), plots / "accuracy.png", dpi=90)
    drawing.save(
        samples(dataset.images[ids[:1]], settings.grades, params.seed), plots / "samples.png", dpi=80, colours=64
    )
    write_json(details, found)
    grade_3 = found["by_grade"].get("3", {}).get("accuracy", {})
    write_json(metrics, {"accuracy_at_grade_3": grade_3.get("value")})
