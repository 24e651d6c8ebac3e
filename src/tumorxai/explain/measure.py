"""All maps of some images by all methods, and every score of them, image by image."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from tumorxai import config
from tumorxai.explain import faithfulness, localisation, sanity, stability
from tumorxai.explain.attention import NotApplicableError
from tumorxai.explain.explainer import Explainer
from tumorxai.explain.methods import FLOORS, NAMES
from tumorxai.explain.stability import rank_correlation

SHARES = (0.1, 0.3, 0.5)  # of the pixels, removed by ROAD
BASELINES = ("blur", "mean")

Floats = NDArray[np.float64]


def heat_maps(
    explainer: Explainer, images: Tensor, targets: Tensor, methods: list[str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Maps by every method that the encoder admits, and by every floor.

    Args:
        explainer: of the classifier.
        images: normalised, (n, C, S, S).
        targets: class of each image (n,).
        methods: keys of ``methods.METHODS``.

    Returns:
        Maps (n, S, S) in [0, 1] by method or floor, and why methods were left out.
    """
    maps, skipped = {}, {}
    for name in tqdm([*methods, *FLOORS], desc="heat-maps", unit="method"):
        try:
            maps[name] = explainer.maps(images, targets, name)
        except NotApplicableError as error:
            skipped[name] = str(error)
    return maps, skipped


@dataclass
class Measured:
    """Scores of some images.

    Attributes:
        values: by score, then by method or floor, one value for each image (n,).
        curves: by baseline, then by method or floor, the mean deletion and insertion curve, (2, steps + 1).
        cascade: by method or floor, mean rank correlation with the original map after each randomisation.
        stages: names of the randomisations.
        others: by method or floor, distance of each map to another image's (n,).
        agreement: see :func:`tumorxai.explain.stability.agreement`.
    """

    values: dict[str, dict[str, Floats]] = field(default_factory=dict)
    curves: dict[str, dict[str, Floats]] = field(default_factory=dict)
    cascade: dict[str, list[float | None]] = field(default_factory=dict)
    stages: list[str] = field(default_factory=list)
    others: dict[str, Floats] = field(default_factory=dict)
    agreement: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def add(self, score: str, name: str, values: Tensor | Floats) -> None:
        """Keep one score of all images by one method."""
        kept = values.cpu().numpy() if isinstance(values, Tensor) else values
        self.values.setdefault(score, {})[name] = kept.astype(np.float64)


def perturbed(
    explainer: Explainer,
    images: Tensor,
    targets: Tensor,
    maps: dict[str, Tensor],
    settings: config.Explain,
    seed: int,
    training: Tensor,
) -> Measured:
    """Scores that need no lesion masks: faithfulness, stability and sanity.

    Args:
        explainer: of the classifier.
        images: normalised, (n, C, S, S).
        targets: explained class of each image (n,).
        maps: by method or floor, of these images.
        settings: how much of everything.
        seed: of all draws.
        training: normalised training images for the random labels; fewer than classes skip that test.
    """
    measured = Measured(agreement=stability.agreement(maps))
    model = explainer.model
    baselines = dict(zip(BASELINES, (faithfulness.blurred(images), torch.zeros_like(images)), strict=True))
    full = faithfulness.probability(model, images, targets)
    ends = {kind: (full, faithfulness.probability(model, baseline, targets)) for kind, baseline in baselines.items()}
    sets, drops = faithfulness.removals(model, images, targets, settings.removals, seed)
    for name, own in tqdm(maps.items(), desc="faithfulness", unit="method"):
        for kind, baseline in baselines.items():
            curves = faithfulness.curves(model, images, targets, own, baseline, settings.steps, seed, ends[kind])
            for score, curve in zip(("deletion", "insertion"), curves, strict=True):
                measured.add(f"{score}_{kind}", name, faithfulness.area(curve))
            measured.curves.setdefault(kind, {})[name] = torch.stack(curves).mean(dim=1).double().cpu().numpy()
        measured.add("road", name, faithfulness.road(model, images, targets, own, SHARES, seed))
        drop, increase = faithfulness.drop_and_increase(model, images, targets, own)
        measured.add("average_drop", name, drop)
        measured.add("average_increase", name, increase)
        measured.add("sensitivity_n", name, faithfulness.sensitivity_n(own, sets, drops))

    for name, own in tqdm(maps.items(), desc="stability", unit="method"):
        changes = stability.max_sensitivity(explainer, images, targets, name, own, settings.draws, seed)
        measured.add("max_sensitivity", name, changes)
        measured.others[name] = stability.other_image(own)

    _sanity(measured, explainer, images, targets, maps, settings, seed, training)
    return measured


def _sanity(
    measured: Measured,
    explainer: Explainer,
    images: Tensor,
    targets: Tensor,
    maps: dict[str, Tensor],
    settings: config.Explain,
    seed: int,
    training: Tensor,
) -> None:
    """Similarity of the maps to those of a classifier that has learned nothing, or something else."""
    randomised = sanity.cascade(explainer.model, settings.stages, seed)
    measured.stages = [stage for stage, _ in randomised]
    changed: dict[str, nn.Module] = {"weights": randomised[-1][1]}
    if len(training) >= explainer.classes:
        changed["labels"] = sanity.random_labels(explainer.model, training, explainer.classes, seed)
    other = sanity.runner_up(explainer.model, images, targets)
    for name, own in tqdm(maps.items(), desc="sanity", unit="method"):
        similar = [
            rank_correlation(explainer.of_copy(model).maps(images, targets, name), own) for _, model in randomised
        ]
        measured.cascade[name] = [None if np.isnan(one).all() else float(np.nanmean(one)) for one in similar]
        measured.add("weights", name, similar[-1])
        if "labels" in changed:
            maps_of_labels = explainer.of_copy(changed["labels"]).maps(images, targets, name)
            measured.add("labels", name, rank_correlation(maps_of_labels, own))
        measured.add("class_swap", name, rank_correlation(explainer.maps(images, other, name), own))


def localised(maps: dict[str, Tensor], masks: NDArray[np.bool_]) -> dict[str, dict[str, Floats]]:
    """Scores against lesion masks, by score, then by method or floor.

    Args:
        maps: by method or floor, (n, S, S).
        masks: (n, S, S), each with pixels inside and outside.
    """
    values: dict[str, dict[str, Floats]] = {}
    for name in (name for name in NAMES if name in maps):
        for score, own in localisation.scores(maps[name].cpu().numpy(), masks).items():
            values.setdefault(score, {})[name] = own
    return values
