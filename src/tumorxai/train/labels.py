"""Label efficiency of end-to-end training: the classifier is trained anew for each fraction and draw of the labels."""

from __future__ import annotations

from pathlib import Path

from tumorxai import config
from tumorxai.base import draws
from tumorxai.base.dataset import Dataset
from tumorxai.inputs import stage


def run(params: config.Params, settings: config.Train, data: Path, encoder: Path | None, curve: Path) -> None:
    """Train on every fraction of the labels, in several draws, each with a seed of its own.

    Args:
        params: the whole experiment; ``labels.fractions`` may be empty.
        settings: the recipe, the same as for all labels.
        data: folder of the pack, the catalogue, the groups and the split.
        encoder: pretrained encoder to start from; None for random weights.
        curve: CSV to write: the class of each test image in every draw.

    Raises:
        UserError: training stopped, see :meth:`Training.run`.
    """
    dataset = Dataset.load(data)
    if not params.labels.fractions:
        draws.keep(dataset, {}, curve)
        return
    from tumorxai.train.cells import Cells  # slow to load, and not needed where the curve is off

    cells = Cells(params, settings, dataset, data, encoder)
    said = {
        f"{fraction:g}": [cells.cell(fraction, draw) for draw in range(params.labels.draws)]
        for fraction in params.labels.fractions
    }
    draws.keep(dataset, said, curve)
    stage.confirm()
    cells.work.discard()
