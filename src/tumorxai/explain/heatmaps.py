"""Pictures of heat-maps on their images: tiles of one canvas, which is faster than an axis for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tumorxai.base import drawing
from tumorxai.base.drawing import WRONG
from tumorxai.explain.methods import NAMES

COLOURS = "plasma"
OUTLINE = (0x3F, 0xE0, 0xFF)
TILE, GAP, TITLE, HEADING = 84, 4, 15, 20  # pixels
DPI = 100.0
OPAQUE = 0.7  # of a map where it is highest

Maps = Mapping[str, NDArray[np.float32]]  # by method or floor, (n, S, S) in [0, 1]
Pixels = NDArray[np.float32]  # (TILE, TILE, 3) in [0, 1]


@dataclass(frozen=True)
class Case:
    """One image and what the classifier says of it.

    Attributes:
        image: uint8 (C, S, S).
        mask: of the lesion, bool (S, S), or None.
        truth: its class, or None where that is not known.
        predicted: the class that is explained.
        probability: of that class.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    truth: str | None
    predicted: str
    probability: float


def _enlarge(values: NDArray[np.float32], size: int = TILE) -> NDArray[np.float32]:
    """(C, h, w) to (C, size, size)."""
    enlarged = F.interpolate(torch.from_numpy(values)[None], size=(size, size), mode="bilinear", antialias=True)
    return np.asarray(enlarged[0].numpy())


def tile(
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_] | None = None,
    heat: NDArray[np.float32] | None = None,
    opaque: NDArray[np.float32] | None = None,
) -> Pixels:
    """An image, with its heat-map over it and its lesion's outline over that.

    Args:
        image: (C, h, w).
        mask: (h, w).
        heat: (h, w) in [0, 1]. The more evidence the more colour: where there is none the image stays as it is.
        opaque: (h, w), how much of the image the map hides instead.
    """
    pixels = _enlarge(np.asarray(image / 255, dtype=np.float32)).clip(0, 1).transpose(1, 2, 0)
    pixels = np.broadcast_to(pixels, (TILE, TILE, 3)).astype(np.float32)
    if heat is not None:
        values = _enlarge(heat[None])[0].clip(0, 1)
        cover = OPAQUE * values if opaque is None else _enlarge(opaque[None])[0]
        colour = mpl.colormaps[COLOURS](values)[..., :3].astype(np.float32)
        pixels = pixels * (1 - cover[..., None]) + colour * cover[..., None]
    if mask is not None and mask.any():
        inside = torch.from_numpy(_enlarge(mask[None].astype(np.float32))) >= 0.5
        grown = F.max_pool2d(inside.float(), 3, stride=1, padding=1)
        pixels[((grown > 0) & ~inside)[0].numpy()] = np.array(OUTLINE) / 255
    return np.asarray(pixels, dtype=np.float32)


def _canvas(
    tiles: Sequence[Sequence[Pixels]], columns: Sequence[str], left: int = 0, bar: str | None = None
) -> tuple[Figure, Axes]:
    """One picture of rows of tiles, room for a title over each; text is placed in pixels of it.

    Args:
        tiles: rows of equal length.
        columns: headings.
        left: room for names of rows, pixels.
        bar: what the colours mean, if there is to be a colour bar.
    """
    step = TILE + GAP
    height, width = HEADING + len(tiles) * (step + TITLE), left + len(tiles[0]) * step
    pixels = np.ones((height, width, 3), dtype=np.float32)
    for i, row in enumerate(tiles):
        for j, one in enumerate(row):
            top, start = HEADING + i * (step + TITLE) + TITLE, left + j * step
            pixels[top : top + TILE, start : start + TILE] = one
    room = 64 if bar else 0
    figure = Figure(figsize=((width + room) / DPI, height / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, width / (width + room), 1))
    axes.set_axis_off()
    axes.imshow(pixels, interpolation="nearest", aspect="auto")
    for j, heading in enumerate(columns):
        axes.text(left + j * step + TILE / 2, HEADING - 6, heading, ha="center", va="baseline", fontsize=7.5)
    if bar:
        place = figure.add_axes(((width + 8) / (width + room), 0.25, 12 / (width + room), 0.5))
        figure.colorbar(ScalarMappable(cmap=COLOURS), cax=place)
        place.tick_params(labelsize=6)
        place.set_ylabel(bar, fontsize=6)
    return figure, axes


def _title(axes: Axes, row: int, column: int, text: str, left: int = 0, wrong: bool = False) -> None:
    x, y = left + column * (TILE + GAP) + TILE / 2, HEADING + row * (TILE + GAP + TITLE) + TITLE - 4
    axes.text(x, y, text, ha="center", va="baseline", fontsize=6, color=WRONG if wrong else "black")


def _mark_flat(axes: Axes, row: int, column: int, heat: NDArray[np.float32], left: int = 0) -> None:
    """Say so where a map shows nothing."""
    if not heat.any():
        y = HEADING + row * (TILE + GAP + TITLE) + TITLE + TILE - 5
        axes.text(left + column * (TILE + GAP) + TILE / 2, y, "flat", ha="center", fontsize=6, color="white")


def _row_names(axes: Axes, names: Sequence[str], left: int) -> None:
    for i, name in enumerate(names):
        y = HEADING + i * (TILE + GAP + TITLE) + TITLE + TILE / 2
        axes.text(left - 6, y, name, ha="right", va="center", fontsize=7)


def grid(path: Path, cases: Sequence[Case], maps: Maps) -> None:
    """Images x methods: the image with its true class, then each method's map; a lesion is outlined where it is known.

    Args:
        path: to write.
        cases: the images.
        maps: of these images.
    """
    tiles = [
        [tile(case.image, case.mask), *(tile(case.image, case.mask, own[i]) for own in maps.values())]
        for i, case in enumerate(cases)
    ]
    bar = "evidence for the explained class, of each map's maximum"
    figure, axes = _canvas(tiles, ["", *(NAMES[name] for name in maps)], bar=bar)
    for i, case in enumerate(cases):
        said = f"{case.predicted} {case.probability:.2f}"
        if case.truth is None:
            _title(axes, i, 1, said)
        else:
            right = case.truth == case.predicted
            _title(axes, i, 0, case.truth)
            _title(axes, i, 1, f"{'✓' if right else '✗'} {said}", wrong=not right)
        for j, own in enumerate(maps.values(), start=1):
            _mark_flat(axes, i, j, own[i])
    drawing.save(figure, path, DPI)


def brain_box(image: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Where the head is: rows and columns, first and past the last, of what is brighter than an eighth of the maximum.

    Args:
        image: (C, S, S).
    """
    grey = image.mean(axis=0)
    bright = grey > grey.max() / 8
    rows, columns = np.flatnonzero(bright.mean(axis=1) > 0.05), np.flatnonzero(bright.mean(axis=0) > 0.05)
    if len(rows) < 2 or len(columns) < 2:
        return 0, grey.shape[0], 0, grey.shape[1]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def aligned(values: NDArray[np.float32], boxes: Sequence[tuple[int, int, int, int]]) -> NDArray[np.float32]:
    """Cut each (S, S) of ``values`` (n, S, S) to its box and stretch that to (S, S) again."""
    cut = [one[None, top:end, left:right] for one, (top, end, left, right) in zip(values, boxes, strict=True)]
    return np.concatenate([_enlarge(one, values.shape[1]) for one in cut])


def means(path: Path, images: NDArray[np.uint8], maps: Maps, truth: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Mean image and mean map of each class, heads cut out and stretched to the same box. Planes are not told apart.

    Args:
        path: to write.
        images: uint8 (n, C, S, S).
        maps: of these images.
        truth: class of each image (n,).
        classes: their names.
    """
    boxes = [brain_box(image) for image in images]
    grey = aligned(images.mean(axis=1).astype(np.float32), boxes)
    heats = {name: aligned(own, boxes) for name, own in maps.items()}
    shown = [k for k in range(len(classes)) if (truth == k).any()]
    tiles = []
    for k in shown:
        image = grey[truth == k].mean(axis=0)[None].round().astype(np.uint8)
        cover = np.full(image.shape[1:], 0.6, dtype=np.float32)
        tiles.append([tile(image), *(tile(image, None, own[truth == k].mean(axis=0), cover) for own in heats.values())])
    figure, axes = _canvas(tiles, ["", *(NAMES[name] for name in maps)], bar="mean map")
    for i, k in enumerate(shown):
        _title(axes, i, 0, f"{classes[k]} (n = {(truth == k).sum()})")
    drawing.save(figure, path, DPI)


def removal(
    path: Path,
    frames: Mapping[str, Sequence[tuple[NDArray[np.uint8], float]]],
    shares: Sequence[float],
    mask: NDArray[np.bool_] | None,
) -> None:
    """One image losing its highest pixels, method by method.

    Args:
        path: to write.
        frames: by method, for each share the image (C, S, S) and the probability of the class that was predicted.
        shares: of the pixels that are removed.
        mask: of its lesion.
    """
    left = 90
    tiles = [[tile(image, mask) for image, _ in steps] for steps in frames.values()]
    figure, axes = _canvas(tiles, [f"{100 * share:g} % removed" for share in shares], left)
    _row_names(axes, [NAMES[name] for name in frames], left)
    for i, steps in enumerate(frames.values()):
        for j, (_, probability) in enumerate(steps):
            _title(axes, i, j, f"p = {probability:.2f}", left)
    drawing.save(figure, path, DPI)


def cascade(
    path: Path,
    case: Case,
    maps: Mapping[str, Sequence[NDArray[np.float32]]],
    stages: Sequence[str],
    similar: Mapping[str, Sequence[float | None]],
) -> None:
    """Maps of one image while the weights are randomised from the head downwards.

    Args:
        path: to write.
        case: the image.
        maps: by method, the original map and one after each stage, (S, S) each.
        stages: their names.
        similar: by method, mean rank correlation with the original over all images after each stage; None where flat.
    """
    left = 90
    tiles = [[tile(case.image, case.mask, heat) for heat in own] for own in maps.values()]
    figure, axes = _canvas(tiles, ["trained", *stages], left)
    _row_names(axes, [NAMES[name] for name in maps], left)
    for i, (name, own) in enumerate(maps.items()):
        for j, value in enumerate(similar[name], start=1):
            _title(axes, i, j, "all flat" if value is None else f"ρ = {value:.2f}", left)
        for j, heat in enumerate(own):
            _mark_flat(axes, i, j, heat, left)
    drawing.save(figure, path, DPI)


def similar(path: Path, pairs: Sequence[Sequence[Case]], maps: NDArray[np.float32], cosines: Sequence[float]) -> None:
    """Images and their neighbours, each with a map of what makes it similar to the other.

    Args:
        path: to write.
        pairs: query and neighbour, n times.
        maps: of both, (n, 2, S, S).
        cosines: their similarities.
    """
    tiles = [
        [tile(case.image, case.mask, heat) for case, own in zip(pair, both, strict=True) for heat in (None, own)]
        for pair, both in zip(pairs, maps, strict=True)
    ]
    figure, axes = _canvas(tiles, ["image", "its evidence", "neighbour", "its evidence"], bar="evidence of similarity")
    for i, (pair, cosine) in enumerate(zip(pairs, cosines, strict=True)):
        _title(axes, i, 0, pair[0].truth or "")
        _title(axes, i, 2, f"{pair[1].truth}, cos {cosine:.2f}", wrong=pair[0].truth != pair[1].truth)
        for j, heat in zip((1, 3), maps[i], strict=True):
            _mark_flat(axes, i, j, heat)
    drawing.save(figure, path, DPI)
