"""A picture of the views that a method is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from tumorxai import config, methods
from tumorxai.base import drawing
from tumorxai.base.dataset import Dataset
from tumorxai.networks import encoders, views

IMAGES = 6  # rows of the sheet
VIEWS = 8  # most columns beside the image itself


def run(params: config.Params, data: Path, out_png: Path) -> None:
    """Draw some pretraining images, each beside its views as the active method asks for them.

    The state of torch's generator is the same afterwards.

    Args:
        params: the whole experiment.
        data: folder of the pack, the catalogue, the groups and the split.
        out_png: the picture.
    """
    dataset = Dataset.load(data)
    channels, size = dataset.images.shape[1:3]
    ids = dataset.pretraining(params.pretrain.transductive)
    shown = ids[np.linspace(0, len(ids) - 1, min(IMAGES, len(ids)), dtype=np.int64)]
    raw = torch.from_numpy(dataset.images[shown])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        encoder = encoders.build(params.model, channels, size)
        width = encoders.width(encoder, channels, size)
        method = methods.load(params.method, encoder, width, params.methods[params.method], len(dataset.classes))
        recipes = method.views()[:VIEWS]
        drawn = [views.draw(raw, view, views.side(view, size)) for view in recipes]
    columns = [raw.float() / 255.0, *drawn]
    titles = ["image", *(f"view {i}, {x.shape[-1]} px" for i, x in enumerate(drawn, start=1))]
    figure = Figure(figsize=(1.15 * len(columns), 1.15 * len(shown) + 0.6), layout="constrained")
    figure.suptitle(f"Views of {params.method}", fontsize=10)
    grid = figure.subplots(len(shown), len(columns), squeeze=False)
    for row, cells in enumerate(grid):
        for axes, title, column in zip(cells, titles, columns, strict=True):
            pixels = column[row].clamp(0, 1)  # a rounding past 1 is a warning where there are colours
            axes.imshow(pixels.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
            if row == 0:
                axes.set_title(title, fontsize=7, pad=3)
    drawing.save(figure, out_png, colours=64)
