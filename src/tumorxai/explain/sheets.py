"""The pictures of one classifier's heat-maps: which are drawn, of which images, and what they show."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tumorxai import config
from tumorxai.base import embedded
from tumorxai.base.dataset import Dataset
from tumorxai.explain import faithfulness, figures, heatmaps, sanity
from tumorxai.explain.card import LIMIT, Card
from tumorxai.explain.heatmaps import Case
from tumorxai.explain.measure import Measured
from tumorxai.explain.methods import METHODS
from tumorxai.explain.similarity import similarity_maps
from tumorxai.explain.subject import Ids, Subject
from tumorxai.networks import encoders

REMOVED = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)  # shares of the pixels in the picture of deletion


CARD = (
    "Methods and floors x checks. Green and ✓: passed, orange and ✗: not. Faithfulness and localisation are passed by "
    "being better than every floor on the same images, by a 95% interval; max-sensitivity by changing less under noise "
    f"than from image to image; the sanity checks by a rank correlation below {LIMIT:g} with the original map."
)


def write(
    folder: Path, params: config.Params, dataset: Dataset, one: Subject, measured: Measured, card: Card
) -> list[tuple[Path, str]]:
    """Draw everything.

    Args:
        folder: to write PNGs into.
        params: the whole experiment.
        dataset: the images.
        one: the classifier, its images and maps.
        measured: its scores, image by image.
        card: its report card.

    Returns:
        The pictures, and what is to be seen on each.
    """
    made: list[tuple[Path, str]] = []

    def picture(name: str, words: str) -> Path:
        made.append((folder / f"{name}.png", words))
        return made[-1][0]

    ids = one.drawn["shown"]
    words = (
        "Test images x methods. Left the image, its true class and the outline of its lesion, where that is known; "
        "then the evidence for the predicted class, with the prediction right (✓) or wrong (✗) and its probability. "
        "Maps are stretched to their own maximum and do not compare between images."
    )
    heatmaps.grid(picture("grid", words), cases(dataset, one, ids), methods(one, ids))
    figures.report_card(picture("report_card", CARD), card)
    for name, own in one.by_class.items():
        words = f"Images of the class {name}, right answers before wrong ones."
        heatmaps.grid(picture(f"class_{slug(name)}", words), cases(dataset, one, own), methods(one, own))
    words = "Mean image and mean map of each class, all explained images, heads cut out and stretched to the same box."
    heatmaps.means(
        picture("means", words), np.asarray(dataset.images[one.ids]), methods(one, one.ids), dataset.labels[one.ids],
        dataset.classes,
    )  # fmt: skip
    words = (
        "Mean probability of the predicted class while the highest pixels of a map are removed from the image, and "
        "while they are shown on a blurred or an even one. Grey: floors."
    )
    figures.curves(picture("curves", words), measured.curves)
    words = "Mean rank correlation between the maps of each two methods and floors."
    figures.agreement(picture("agreement", words), measured.agreement)
    surest = one.ids[[_surest(dataset, one)]]
    words = "The surest right answer, while the highest pixels of each map are replaced by those of a blurred image."
    frames = removals(dataset, one, surest, params.seed)
    heatmaps.removal(picture("removal", words), frames, REMOVED, one.outlines.get(int(surest[0])))
    words = (
        "Maps of the same image while the weights are shuffled from the head downwards. ρ: mean rank correlation with "
        "the maps of the trained classifier over all perturbed images."
    )
    heatmaps.cascade(
        picture("randomised", words),
        cases(dataset, one, surest)[0],
        randomised(one, surest, params.explain.stages, params.seed),
        measured.stages,
        measured.cascade,
    )
    return made


def slug(name: str) -> str:
    """A class's name as part of a file's name."""
    return re.sub(r"[^\w-]+", "_", name).strip("_")[:60]


def cases(dataset: Dataset, one: Subject, ids: Ids) -> list[Case]:
    """Some images with what is known of them."""
    places, classes = one.places(ids), dataset.classes
    return [
        Case(
            image=np.asarray(dataset.images[image]),
            mask=one.outlines.get(int(image)),
            truth=classes[dataset.labels[image]],
            predicted=classes[int(one.targets[place])],
            probability=float(one.probabilities[place]),
        )
        for image, place in zip(ids, places.tolist(), strict=True)
    ]


def methods(one: Subject, ids: Ids) -> dict[str, NDArray[np.float32]]:
    """Maps of some images by every method, without the floors."""
    return {name: maps.cpu().numpy() for name, maps in one.maps_of(ids).items() if name in METHODS}


def _surest(dataset: Dataset, one: Subject) -> int:
    """Place of the right answer of the highest probability, with a lesion if any has one."""
    right = one.targets.cpu().numpy() == dataset.labels[one.ids]
    marked = np.array([image in one.outlines for image in one.ids.tolist()])
    return int(np.argmax(one.probabilities + 2 * right + marked))


def removals(dataset: Dataset, one: Subject, ids: Ids, seed: int) -> dict[str, list[tuple[NDArray[np.uint8], float]]]:
    """One image without its highest pixels, method by method: see :func:`heatmaps.removal`.

    Args:
        dataset: the images.
        one: the classifier.
        ids: of the image, shape (1,).
        seed: of the order among equal pixels.
    """
    image = torch.from_numpy(np.asarray(dataset.images[ids])).to(one.images.device).float()
    place = torch.from_numpy(one.places(ids)).to(one.images.device)
    model = one.explainer.model
    frames: dict[str, list[tuple[NDArray[np.uint8], float]]] = {}
    for name, maps in one.maps.items():
        if name not in METHODS:
            continue
        order = faithfulness.ranks(maps[place], seed)[:, None]
        frames[name] = []
        for share in REMOVED:
            seen, shown = (
                torch.where(order < share, faithfulness.blurred(whole), whole) for whole in (one.images[place], image)
            )
            p = faithfulness.probability(model, seen, one.targets[place])
            frames[name].append((shown[0].round().byte().cpu().numpy(), float(p[0])))
    return frames


def randomised(one: Subject, ids: Ids, stages: int, seed: int) -> dict[str, list[NDArray[np.float32]]]:
    """Maps of one image by the trained classifier and after each randomisation, by method.

    Args:
        one: the classifier.
        ids: of the image, shape (1,).
        stages: see :func:`sanity.cascade`.
        seed: of the randomisation.
    """
    place = torch.from_numpy(one.places(ids)).to(one.images.device)
    explainers = [one.explainer] + [
        one.explainer.of_copy(model) for _, model in sanity.cascade(one.explainer.model, stages, seed)
    ]
    image, target = one.images[place], one.targets[place]
    return {
        name: [explainer.maps(image, target, name)[0].cpu().numpy() for explainer in explainers]
        for name in one.maps
        if name in METHODS
    }


def neighbours(dataset: Dataset, embeddings: NDArray[np.float32], ids: Ids) -> Ids:
    """The training image most similar to each of ``ids`` by cosine, no copy and none of its patient."""
    train = dataset.indices("train")
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True).clip(1e-12)
    cosine = unit[ids] @ unit[train].T
    cosine[dataset.clusters(ids)[:, None] == dataset.clusters(train)] = -np.inf
    found: Ids = train[cosine.argmax(axis=1)]
    return found


def similar(
    folder: Path, dataset: Dataset, data: Path, one: Subject, encoder: Path, embeddings: Path
) -> tuple[Path, str]:
    """What makes the pretrained encoder, which knows no classes, find test images similar to training images.

    Args:
        folder: to write a PNG into.
        dataset: the images.
        data: the folder that they are of.
        one: whose shown images are taken.
        encoder: the pretrained encoder and its card.
        embeddings: of all images by it, (N, features).
    """
    network, card = encoders.load(encoder, data)
    device = one.images.device
    network.to(device)
    queries = one.drawn["shown"]
    found = neighbours(dataset, np.asarray(embedded.read(embeddings, dataset.images, encoder, data)), queries)
    raw = [torch.from_numpy(np.asarray(dataset.images[ids])).to(device).float() / 255 for ids in (queries, found)]
    here, there = ((x - card["mean"]) / card["std"] for x in raw)
    maps, cosines = similarity_maps(network, here, there)
    back, _ = similarity_maps(network, there, here)
    names = dataset.classes
    pairs = [
        [Case(np.asarray(dataset.images[i]), one.outlines.get(int(i)), names[dataset.labels[i]], "", 0.0) for i in pair]
        for pair in zip(queries, found, strict=True)
    ]
    path = folder / "similar.png"
    heatmaps.similar(path, pairs, torch.stack([maps, back], dim=1).cpu().numpy(), cosines.tolist())
    return path, (
        "Test images and the training image that the pretrained encoder finds most similar, copies and "
        "images of its patient left out, each with a Grad-CAM of the cosine similarity. No class is used. Coloured: "
        "the neighbour is of another class."
    )
