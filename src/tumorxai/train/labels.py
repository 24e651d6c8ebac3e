"""Label efficiency of end-to-end training: the classifier is trained anew for each fraction and draw of the labels.

That takes long, so each finished cell is kept until the curve is complete: an interrupted run goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tumorxai import config
from tumorxai.base import draws
from tumorxai.base.dataset import Dataset
from tumorxai.files import read_array, sha256, write_array

FOLDER = Path(".tumorxai/labels")  # outside the declared outputs, which DVC empties before each run


def run(params: config.Params, settings: config.Train, data: Path, encoder: Path | None, curve: Path) -> None:
    """Train on every fraction of the labels, in several draws, each with a seed of its own.

    Args:
        params: the whole experiment; ``labels.fractions`` may be empty.
        settings: the recipe, the same as for all labels.
        data: folder of the pack, the catalogue, the groups and the split.
        encoder: pretrained encoder to start from; None for random weights.
        curve: CSV to write: the class of each test image in every draw.
    """
    dataset = Dataset.load(data)
    said: dict[str, list[tuple[NDArray[np.int64], NDArray[np.int64]]]] = {}
    done = []
    for fraction in params.labels.fractions:
        cells = said[f"{fraction:g}"] = []
        for draw in range(params.labels.draws):
            labelled = draws.labelled(dataset, fraction, draw, params.seed)
            kept = FOLDER / f"{_name(params, settings, data, encoder, fraction, draw)}.npy"
            if not kept.exists():
                write_array(kept, _predict(params, settings, dataset, encoder, labelled, fraction, draw))
            cells.append((labelled, np.asarray(read_array(kept))))
            done.append(kept)
    draws.keep(dataset, said, curve)
    for kept in done:
        kept.unlink()


def _name(
    params: config.Params, settings: config.Train, data: Path, encoder: Path | None, fraction: float, draw: int
) -> str:
    cell = {
        "parameters": params.model_dump(include={"seed", "model"}),
        "steps": params.labels.steps,
        "settings": settings.model_dump(),
        "encoder": sha256(encoder) if encoder else None,
        "pack": sha256(data / "pack.npy"),
        "split": sha256(data / "split.csv"),
        "cell": [fraction, draw],
    }
    return hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:16]


def _predict(
    params: config.Params,
    settings: config.Train,
    dataset: Dataset,
    encoder: Path | None,
    labelled: NDArray[np.int64],
    fraction: float,
    draw: int,
) -> NDArray[np.int64]:
    import torch  # slow to load, and not needed where the curve is off

    from tumorxai.train import training

    seed = int(np.random.SeedSequence([params.seed, draw]).generate_state(1)[0]) if draw else params.seed
    torch.manual_seed(seed)
    classifier = training.start(params.model, dataset, encoder, labelled)
    name = f"{'supervised' if encoder is None else 'finetune'}, {fraction:.0%} of the labels, draw {draw + 1}"
    steps = settings.epochs * max(1, len(labelled) // settings.batch_size)
    often = np.repeat(labelled, math.ceil(params.labels.steps / steps))  # an epoch goes over few images several times
    training.train(dataset, classifier, settings, often, seed, name)
    said: NDArray[np.int64] = classifier.probabilities(dataset.images).argmax(axis=1)
    return said
