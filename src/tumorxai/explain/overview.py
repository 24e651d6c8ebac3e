"""Explain the fine-tuned classifier on its test images: scores against lesion masks, and a sheet of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from tumorxai import config
from tumorxai.data.dataset import Dataset
from tumorxai.evaluate import classifier
from tumorxai.explain import cams, localisation
from tumorxai.files import atomic, read_array, write_json

BATCH = 32
PAIRS = 2  # image and heat-map, side by side, this many times in a row of the sheet
COLOURS = "plasma"
GOOD, BAD, OUTLINE = "#15603a", "#a11d2b", "#3fe0ff"


def lesions(data: Path, dataset: Dataset) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The test images whose mask survived packing with pixels inside and outside.

    Args:
        data: folder of ``masks.npy``.
        dataset: the images.

    Returns:
        Their ids (n,), ascending, and their masks (n, S, S).
    """
    ids = dataset.indices("test")
    rows = dataset.table["mask"].to_numpy()[ids]
    ids, rows = ids[rows >= 0], rows[rows >= 0]
    if not len(ids):
        return ids, np.zeros((0, *dataset.images.shape[2:]), dtype=bool)
    masks = read_array(data / "masks.npy")[rows].astype(bool)
    area = masks.mean(axis=(1, 2))
    usable = (area > 0) & (area < 1)
    return ids[usable], masks[usable]


def explain(
    model: classifier.Classifier, images: NDArray[np.uint8], targets: NDArray[np.int64], layer: cams.Layer
) -> NDArray[np.float32]:
    """Heat-maps (n, S, S) of uint8 images (n, C, S, S), batch by batch."""
    device = model.head.weight.device
    maps = [np.zeros((0, *images.shape[2:]), dtype=np.float32)]
    for start in tqdm(range(0, len(images), BATCH), desc="explain", unit="batch"):
        batch = model.normalise(torch.from_numpy(images[start : start + BATCH]).to(device))
        maps.append(cams.heat_maps(model, batch, targets[start : start + BATCH], layer=layer))
    return np.concatenate(maps)


def choose(truth: NDArray[np.int64], predicted: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Cases for the sheet: in turn from each class, right and wrong answers alternating as far as there are any.

    Args:
        truth: class indices (n,).
        predicted: class indices (n,).
        count: how many cases.
        seed: of the order within a class.

    Returns:
        At most ``count`` positions in ``truth``, class by class, right answers first.
    """
    order = np.random.default_rng(seed).permutation(len(truth))
    turn = np.empty(len(truth), dtype=np.int64)  # a case's place in the queue of its class and outcome
    for label in np.unique(truth):
        for right in (True, False):
            own = order[(truth[order] == label) & ((predicted == truth)[order] == right)]
            turn[own] = 2 * np.arange(len(own)) + (not right)
    chosen = np.lexsort((order.argsort(), truth, turn))[:count]
    return chosen[np.lexsort((predicted[chosen] != truth[chosen], truth[chosen]))]


def sheet(
    path: Path,
    images: NDArray[np.uint8],
    maps: NDArray[np.float32],
    masks: NDArray[np.bool_],
    answers: list[tuple[str, str, float]],
) -> None:
    """Draw each image beside its heat-map.

    Args:
        path: PNG to write.
        images: (n, C, S, S).
        maps: (n, S, S) in [0, 1].
        masks: lesion masks (n, S, S), empty where there is none.
        answers: of each image: true class, predicted class and its probability.
    """
    rows = -(-len(images) // PAIRS)
    figure = Figure(figsize=(3.7 * PAIRS + 0.9, 2.1 * rows), dpi=72, layout="constrained")
    axes = figure.subplots(rows, 2 * PAIRS, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for i, (truth, predicted, probability) in enumerate(answers):
        left, right = axes.reshape(-1, 2)[i]
        for axis in (left, right):
            axis.imshow(images[i].transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
            if masks[i].any():
                axis.contour(masks[i], levels=[0.5], colors=OUTLINE, linewidths=1.2)
        # the more evidence the more colour: where there is none the image stays as it is
        right.imshow(maps[i], cmap=COLOURS, vmin=0, vmax=1, alpha=0.7 * maps[i], interpolation="bilinear")
        left.set_title(f"{truth}", fontsize=10)
        right.set_title(
            f"{'✓' if truth == predicted else '✗'} {predicted} {probability:.2f}",
            fontsize=10,
            color=GOOD if truth == predicted else BAD,
        )
        if not maps[i].any():
            right.text(0.5, 0.04, "zero map", transform=right.transAxes, ha="center", color="white")
    bar = figure.colorbar(ScalarMappable(cmap=COLOURS), ax=axes, fraction=0.025, pad=0.01)
    bar.set_label("evidence for the predicted class, of each map's maximum")
    with atomic(path) as temporary:
        figure.savefig(temporary)


def run(params: config.Params, data: Path, model: Path, metrics: Path, picture: Path) -> None:
    """Score the heat-maps of lesion-bearing test images and draw a sheet of test images.

    The class explained is the predicted one, right or wrong: the maps show why the classifier said what it said.

    Args:
        params: the whole experiment.
        data: folder of the pack, the masks, the catalogue, the groups and the split.
        model: the fine-tuned classifier, ``*.safetensors``.
        metrics: JSON to write.
        picture: PNG to write.
    """
    dataset = Dataset.load(data)
    network = classifier.load(model).to("cuda" if torch.cuda.is_available() else "cpu")
    test = dataset.indices("test")
    probabilities = network.probabilities(dataset.images[test])
    predicted = np.zeros(len(dataset.images), dtype=np.int64)
    predicted[test] = probabilities.argmax(axis=1)
    first = torch.from_numpy(dataset.images[test[:1]]).to(network.head.weight.device)
    layer = cams.target_layer(network, network.normalise(first))

    found, masks = lesions(data, dataset)
    generator = np.random.default_rng(params.seed)
    drawn = np.sort(generator.permutation(len(found))[: params.explain.scored])
    scored = found[drawn]
    maps = explain(network, dataset.images[scored], predicted[scored], layer)
    content: dict[str, Any] = {
        "method": "grad_cam",
        "layer": layer.name,
        "grid": list(layer.grid),
        "lesion_images": len(found),
        "scored_images": len(scored),
        "scored_correct": int((predicted[scored] == dataset.labels[scored]).sum()),
        "zero_maps": int(cams.is_zero(maps).sum()),
    }
    kinds, counts = np.unique(dataset.table["mask_kind"].to_numpy(dtype=str)[scored], return_counts=True)
    content["mask_kinds"] = dict(zip(kinds.tolist(), counts.tolist(), strict=True))
    if len(scored):
        clusters = dataset.clusters(scored)
        content["localisation"] = localisation.summarise(maps, masks[drawn], layer.grid, clusters, params.seed)

    shown = choose(dataset.labels[test], predicted[test], params.explain.images, params.seed)
    ids = test[shown]
    outlines = np.zeros((len(ids), *dataset.images.shape[2:]), dtype=bool)
    places = {image: place for place, image in enumerate(found.tolist())}
    for i, image in enumerate(ids.tolist()):
        if image in places:
            outlines[i] = masks[places[image]]
    answers = [
        (dataset.classes[dataset.labels[image]], dataset.classes[predicted[image]], float(probabilities[row].max()))
        for row, image in zip(shown, ids, strict=True)
    ]
    sheet(picture, dataset.images[ids], explain(network, dataset.images[ids], predicted[ids], layer), outlines, answers)
    write_json(metrics, content)
