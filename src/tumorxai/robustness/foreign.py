"""Out of distribution: does the distance to the training embeddings tell what the encoder was not made for?"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tumorxai import config
from tumorxai.archives import archives
from tumorxai.archives.images import Fit, decode, fit_image
from tumorxai.base import drawing, embedded, jackknife, scores
from tumorxai.base.dataset import Dataset
from tumorxai.base.drawing import BLUE, VERMILION, plain
from tumorxai.base.neighbours import normalised
from tumorxai.errors import UserError
from tumorxai.fetch import fetch
from tumorxai.files import write_csv, write_json
from tumorxai.networks import encoders
from tumorxai.networks.embed import embed

Floats = NDArray[np.float32]


def distances(features: Floats, train: Floats, k: int) -> NDArray[np.float64]:
    """Euclidean distance to the k-th nearest training embedding, all of length 1 (arXiv 2204.06507, section 3).

    Args:
        features: (n, D).
        train: (m, D).
        k: counted from 1, at most m.

    Returns:
        Shape (n,), in [0, 2]: higher is more foreign.
    """
    return unit_distances(normalised(features), normalised(train), k)


def unit_distances(unit: Floats, bank: Floats, k: int) -> NDArray[np.float64]:
    """:func:`distances` of embeddings whose length is 1 already."""
    similarity = np.partition(unit @ bank.T, -k, axis=1)[:, -k]
    found: NDArray[np.float64] = np.sqrt(np.maximum(2 - 2 * similarity.astype(np.float64), 0))
    return found


def synthetic(count: int, channels: int, size: int, seed: int) -> dict[str, NDArray[np.uint8]]:
    """Images that are no MRI, made on the spot: uint8 (count, channels, size, size) of each kind."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    shape = (count, 1, size, size)

    def each(low: float, high: float) -> NDArray[np.float64]:
        return rng.uniform(low, high, (count, 1, 1, 1))

    angle = each(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    amplitude = np.fft.fft2(rng.normal(size=shape)) / np.maximum(frequency, 1 / size)
    clouds = np.fft.ifft2(amplitude).real  # 1/f, the spectrum of natural scenes
    clouds -= clouds.min(axis=(2, 3), keepdims=True)
    blocks = rng.uniform(size=(count, 1, 8, 8)).repeat(-(-size // 8), axis=2).repeat(-(-size // 8), axis=3)
    made = {
        "noise": rng.uniform(size=shape),
        "stripes": 0.5 + 0.5 * np.sin(2 * np.pi * each(2, 10) * along),
        "gradient": along - along.min(axis=(2, 3), keepdims=True),
        "clouds": clouds / clouds.max(axis=(2, 3), keepdims=True),
        "blocks": blocks[:, :, :size, :size],
    }
    return {
        kind: np.repeat((255 * np.clip(pixels, 0, 1)).astype(np.uint8), channels, axis=1)
        for kind, pixels in made.items()
    }


def fetched(
    sources: Sequence[str | config.PathSource],
    data: config.Data,
    count: int,
    seed: int,
    expected: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """At most ``count`` readable images of each source, drawn by seed, fitted as the project's own.

    Raises:
        UserError: a source cannot be fetched, is not what it was ``expected`` to be, or has no readable image.
    """
    if not sources:
        return {}
    found = {}
    fit = Fit(data.image_size, data.channels, data.fit)
    with tempfile.TemporaryDirectory() as folder:
        settings = data.model_copy(update={"sources": list(sources)})
        fetch.fetch(settings, Path(folder) / "archives", Path(folder) / "fetched.json", expected)
        for path in sorted((Path(folder) / "archives").iterdir()):
            with archives.open_zip(path) as archive:
                files = [info for info in archive.infolist() if archives.is_image(info.filename)]
                pixels = []
                for place in np.random.default_rng(seed).permutation(len(files)):
                    try:
                        pixels.append(fit_image(decode(archives.read(archive, files[place])).image, fit))
                    except archives.UnreadableError:
                        continue
                    if len(pixels) == count:
                        break
            if not pixels:
                raise UserError(f"foreign.sources: got no readable image in {path.name}; expected some; leave it out")
            found[path.stem] = np.stack(pixels)
    return found


def summarise(
    own: NDArray[np.float64],
    clusters: NDArray[np.int64],
    other: NDArray[np.float64],
    other_clusters: NDArray[np.int64],
    seed: int,
) -> dict[str, Any]:
    """How well the distance tells foreign images from the project's own.

    Args:
        own: distances of images of the kind that was trained on (n,).
        clusters: cluster of each of them (n,).
        other: distances of the foreign images (m,).
        other_clusters: cluster of each of them (m,), none of them one of the former.
        seed: of the jackknife.

    Returns:
        ``images``, ``auroc`` with its interval, and ``false_alarms``: the share of own images that would be turned away
        by a threshold that turns away 95% of the foreign ones.
    """
    values = np.concatenate([own, other])
    foreign = np.arange(len(values)) >= len(own)
    draw = jackknife.draw(np.concatenate([clusters, other_clusters]), seed)
    return {
        "images": len(other),
        "auroc": draw.entry(scores.ranking(foreign, values, draw)[0], of=scores.told("auroc", foreign, foreign, draw)),
        "false_alarms": float((own >= np.quantile(other, 0.05)).mean()),
    }


def unseen(dataset: Dataset) -> dict[str, NDArray[np.int64]]:
    """Test images of each source that is not on the training side."""
    source, test = dataset.table["source"].to_numpy(), dataset.indices("test")
    seen = set(source[dataset.indices(("train", "unlabelled"))])
    return {str(name): test[source[test] == name] for name in sorted(set(source[test]) - seen)}


def figure(values: dict[str, NDArray[np.float64]]) -> Figure:
    """The distances of each kind of image: median, middle half and middle nine tenths; first the own."""
    drawn = Figure(figsize=(8.6, 0.5 + 0.42 * len(values)), layout="constrained")
    axes = drawn.subplots()
    for number, own in enumerate(values.values()):
        colour = VERMILION if number else BLUE
        least, low, middle, high, most = np.quantile(own, [0.05, 0.25, 0.5, 0.75, 0.95])
        axes.plot([least, most], [number, number], color=colour, linewidth=1.5)
        axes.plot([low, high], [number, number], color=colour, linewidth=9, alpha=0.5, solid_capstyle="butt")
        axes.plot(middle, number, "o", color=colour)
    axes.set_yticks(range(len(values)), list(values))
    axes.invert_yaxis()
    axes.set_xlabel("distance to the training embeddings: median, middle half, middle 90%")
    plain(axes, grid=False)
    return drawn


def run(
    params: config.Params,
    data: Path,
    embeddings: Path,
    encoder: Path,
    details: Path,
    metrics: Path,
    plots: Path,
    expected: Mapping[str, Any] | None = None,
) -> None:
    """Measure the distance of foreign images, and of test images of sources that were not trained on.

    Args:
        params: the whole experiment.
        data: folder of the pack, the catalogue, the groups and the split.
        embeddings: float32 (N, features).
        encoder: what made them.
        details: JSON to write: each kind.
        metrics: JSON to write: what DVC shows, the area under the ROC curve for the kind that is hardest to tell.
        plots: folder to write ``distances.png`` and ``auroc.csv`` to.
        expected: fingerprints of ``foreign.sources`` as the run began.
    """
    dataset, settings = Dataset.load(data), params.foreign
    model, card = encoders.load(encoder, data)
    features = np.asarray(embedded.read(embeddings, dataset.images, encoder, data))
    train = features[dataset.indices(("train", "unlabelled"))]
    k = min(settings.neighbours, len(train))
    held_out = unseen(dataset)
    own = np.setdiff1d(dataset.indices(("validation", "test")), np.concatenate([*held_out.values(), []]))
    channels, size = dataset.images.shape[1:3]
    strange = synthetic(settings.images, channels, size, params.seed)
    strange |= fetched(settings.sources, params.data, settings.images, params.seed, expected)

    if not len(own):
        raise UserError(
            "foreign: got no validation image, and no test image of a source that was trained on, to compare with; "
            "expected some; set split.validation above 0"
        )
    here = distances(features[own], train, k)
    values = {f"source {name}": distances(features[ids], train, k) for name, ids in held_out.items()}
    shown = embed(model, np.concatenate(list(strange.values())), card["mean"], card["std"])
    parts = np.split(shown, np.cumsum([len(pixels) for pixels in strange.values()])[:-1])
    values |= {kind: distances(part, train, k) for kind, part in zip(strange, parts, strict=True)}
    all_clusters = dataset.clusters(np.arange(len(features)))
    groups = {f"source {name}": all_clusters[ids] for name, ids in held_out.items()}
    groups |= {
        kind: len(features) + np.arange(len(pixels)) for kind, pixels in strange.items()
    }  # one image, one cluster
    found = {
        name: summarise(here, all_clusters[own], other, groups[name], params.seed) for name, other in values.items()
    }
    rows = [{"kind": name, "auroc": entry["auroc"]["value"]} for name, entry in found.items()]
    write_csv(plots / "auroc.csv", pd.DataFrame(rows))
    drawing.save(figure({"own, not trained on": here, **values}), plots / "distances.png")
    write_json(details, {"neighbours": k, "own_images": len(own), "foreign": found})
    write_json(metrics, {"auroc": min(entry["auroc"]["value"] for entry in found.values())})
