"""Heat-maps of image files: what ``tumorxai explain`` and other programs call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from tumorxai.archives import scans, text
from tumorxai.archives.archives import UnreadableError
from tumorxai.archives.images import Fit, decode, fit_image
from tumorxai.errors import UserError, known
from tumorxai.explain import heatmaps
from tumorxai.explain.explainer import Explainer, is_flat
from tumorxai.explain.heatmaps import Case
from tumorxai.explain.methods import NAMES
from tumorxai.explain.similarity import similarity_maps
from tumorxai.files import read_json, write_array
from tumorxai.networks import classifier, encoders


@dataclass(frozen=True)
class Explanation:
    """One image's answer and heat-maps.

    Attributes:
        path: of the image.
        explained: class that the maps speak for.
        predicted: most probable class.
        probabilities: of all classes.
        maps: by method, (S, S) in [0, 1], in the square that the classifier sees.
        flat: methods whose map prefers no place, and is zero everywhere.
        picture: what was drawn, or None.
    """

    path: Path
    explained: str
    predicted: str
    probabilities: dict[str, float]
    maps: dict[str, NDArray[np.float32]]
    flat: list[str]
    picture: Path | None


def read_images(
    paths: Sequence[Path], channels: Literal[1, 3], size: int, fit: Literal["pad", "stretch"]
) -> NDArray[np.uint8]:
    """Image files as the pack holds them: uint8 (n, C, S, S).

    Raises:
        UserError: a file is missing or no readable image.
    """
    images = []
    for path in paths:
        try:
            images.append(
                fit_image(decode(scans.picture(path.read_bytes(), path.name)).image, Fit(size, channels, fit))
            )
        except (OSError, UnreadableError) as error:
            raise UserError(f"got {path}, which cannot be read ({error}); expected an image") from None
    return np.stack(images)


def explain_images(
    paths: Sequence[Path],
    methods: Sequence[str] = ("grad_cam",),
    class_name: str | None = None,
    model: Path = Path("models/finetuned.safetensors"),
    out: Path | None = None,
    layer: str | None = None,
    masks: int | None = None,
    windows: int = 8,
    fit: Literal["pad", "stretch"] = "pad",
    seed: int = 0,
) -> list[Explanation]:
    """Explain what a classifier says of some image files.

    Args:
        paths: images of any size and common format.
        methods: keys of ``explain.methods.NAMES``.
        class_name: class to explain; None explains the predicted one of each image.
        model: a classifier, ``*.safetensors`` with its card beside it.
        out: folder to write a picture and the maps of each image into, NAME.png and NAME.METHOD.npy; None for neither.
        layer: see :meth:`Explainer.of`.
        masks: see :class:`Explainer`.
        windows: see :class:`Explainer`.
        fit: how images become squares: ``data.fit`` of the run that the classifier comes from.
        seed: of random draws.

    Raises:
        UserError: an unreadable image, an unknown class or method, a broken classifier.
        NotApplicableError: a method that the classifier's encoder does not admit.
    """
    if not paths:
        raise UserError("got no image; expected at least one")
    for method in methods:  # the last one is as good as the first before any takes its minutes
        known("method", method, NAMES)
    network = classifier.load(model).to("cuda" if torch.cuda.is_available() else "cpu")
    card = read_json(model.with_suffix(".json"))
    raw = read_images(paths, card["channels"], card["size"], fit)
    images = network.normalise(torch.from_numpy(raw).to(network.head.weight.device))
    probabilities = network.probabilities(raw)
    predicted = probabilities.argmax(axis=1)
    wanted = (
        predicted
        if class_name is None
        else np.full(len(raw), network.classes.index(known("class", class_name, network.classes)))
    )
    explainer = Explainer.of(network, images[:1], layer, masks, windows, seed)
    targets = torch.from_numpy(wanted).to(images.device)
    maps = {}
    with tqdm(total=len(methods) * len(raw), desc="explain", unit="map", disable=len(raw) == 1) as bar:
        for method in methods:
            parts = []
            for start in range(0, len(raw), explainer.batch):
                some = slice(start, start + explainer.batch)
                parts.append(explainer.maps(images[some], targets[some], method))
                bar.update(len(parts[-1]))
            maps[method] = torch.cat(parts)
    flat = {method: is_flat(own).tolist() for method, own in maps.items()}
    found = []
    for i, (path, name) in enumerate(zip(paths, _names(paths), strict=True)):
        own = {method: one[i].cpu().numpy() for method, one in maps.items()}
        said = network.classes[predicted[i]]
        explained = network.classes[wanted[i]]
        picture = None
        if out is not None:
            picture = out / f"{name}.png"
            case = Case(raw[i], None, None, explained, float(probabilities[i, wanted[i]]))
            heatmaps.grid(picture, [case], {method: one[None] for method, one in own.items()})
            for method, one in own.items():
                write_array(out / f"{name}.{method}.npy", one)
        shares = dict(zip(network.classes, probabilities[i].tolist(), strict=True))
        nothing = [method for method in methods if flat[method][i]]
        found.append(Explanation(path, explained, said, shares, own, nothing, picture))
    return found


def explain_similarity(
    image: Path,
    other: Path,
    method: str = "grad_cam",
    encoder: Path = Path("models/encoder.safetensors"),
    out: Path | None = None,
    fit: Literal["pad", "stretch"] = "pad",
) -> tuple[float, NDArray[np.float32]]:
    """Explain what makes an encoder without classes find two image files similar.

    Args:
        image: one of them.
        other: the other.
        method: a gradient CAM.
        encoder: a pretrained encoder, ``*.safetensors`` with its card beside it.
        out: picture to write, or None.
        fit: how images become squares.

    Returns:
        Their cosine similarity, and the maps of both, (2, S, S) in [0, 1].
    """
    network, card = encoders.load(encoder)
    raw = read_images([image, other], card["channels"], card["size"], fit)
    both = (torch.from_numpy(raw).float() / 255 - card["mean"]) / card["std"]
    maps, cosines = similarity_maps(network, both, both.flip(0), method)
    cosine, values = float(cosines[0]), maps.numpy()
    if out is not None:
        pair = [Case(one, None, path.stem, "", 0.0) for one, path in zip(raw, (image, other), strict=True)]
        heatmaps.similar(out, [pair], values[None], [cosine])
    return cosine, values


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of files to write: those of the images, numbered where two would be the same."""
    stems = [text.path(path.stem) for path in paths]
    return [stem if stems.count(stem) == 1 else f"{stem}_{stems[:i].count(stem) + 1}" for i, stem in enumerate(stems)]
