"""The cells of the label efficiency curve, one training each.

That takes long, so each finished cell is kept until the curve is complete, and the one at work has a checkpoint: an
interrupted run goes on from there.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from tumorxai import config
from tumorxai.base import draws
from tumorxai.base.dataset import Dataset
from tumorxai.files import read_array, reading, write_array
from tumorxai.inputs import unfinished
from tumorxai.inputs.unfinished import Unfinished
from tumorxai.networks import engine
from tumorxai.train import training
from tumorxai.train.training import Ids, Training

FOLDER = Path(".tumorxai/labels")  # outside the declared outputs, which DVC empties before each run


class Cells:
    """Trainings on fractions and draws of the labels.

    Args:
        params: the whole experiment.
        settings: the recipe, the same as for all labels.
        dataset: the images.
        data: the folder that they are of.
        encoder: pretrained encoder to start from; None for random weights.

    Attributes:
        work: the finished cells; to be discarded when the curve is written.
    """

    def __init__(
        self, params: config.Params, settings: config.Train, dataset: Dataset, data: Path, encoder: Path | None
    ) -> None:
        self._params, self._settings, self._dataset = params, settings, dataset
        self._data, self._encoder = data, encoder
        self._fabric = training.device(params.pretrain.precision)
        asked = {**training.asked(params, settings, data, encoder), "steps": params.labels.steps}
        causes = unfinished.causes(__name__, **engine.machine(self._fabric.device, params.pretrain.precision))
        self.work = Unfinished(FOLDER, f"{training.block(encoder)}-{unfinished.fingerprint(asked)}", causes)
        self.work.tell()

    def cell(self, fraction: float, draw: int) -> tuple[Ids, Ids]:
        """The labelled images of a draw, and the class that is then said of every image of the pack (N,)."""
        labelled = draws.labelled(self._dataset, fraction, draw, self._params.seed)
        kept = self.work.folder / f"{fraction!r}-{draw}.npy"
        if not kept.exists():
            said = self._train(labelled, fraction, draw, kept.with_suffix(".pt").name)
            write_array(self.work.begin() / kept.name, said)
            kept.with_suffix(".pt").unlink(missing_ok=True)
        remedy = f"remove {kept} and run `dvc repro` again"
        said = np.asarray(read_array(kept, np.int64, (len(self._dataset.images),), remedy))
        with reading(kept, f"a class of 0 to {len(self._dataset.classes) - 1} of every image", remedy):
            if not ((said >= 0) & (said < len(self._dataset.classes))).all():
                raise ValueError("another class")
        return labelled, said

    def _train(self, labelled: Ids, fraction: float, draw: int, file: str) -> Ids:
        params, settings = self._params, self._settings
        seed = int(np.random.SeedSequence([params.seed, draw]).generate_state(1)[0]) if draw else params.seed
        torch.manual_seed(seed)
        classifier = training.start(params.model, self._dataset, self._encoder, labelled, self._data)
        name = f"{training.block(self._encoder)}, {fraction:.0%} of the labels, draw {draw + 1}"
        steps = settings.epochs * max(1, len(labelled) // settings.batch_size)
        # An epoch goes over few images several times.
        often = np.repeat(labelled, math.ceil(params.labels.steps / steps))
        Training(self._dataset, classifier, settings, often, seed, name, self._fabric, params.pretrain.graphs).run(
            self.work, file
        )
        said: Ids = classifier.probabilities(self._dataset.images).argmax(axis=1)
        return said
