"""Laying one image over another, and how well their edges then agree.

Images live in the square [-1, 1] x [-1, 1], x to the right and y down, whatever their shape in pixels. A *map* is a
2 x 3 array that takes points of image b to points of image a: (x, y) -> map @ (x, y, 1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tumorxai.dedupe.hashing import VIEW

Index = NDArray[np.int64]
Floats = NDArray[np.float32]

COARSE, FINE = 32, 64  # points on a side that images are compared at, first and last
LAYER = 48  # pixels on a side of the coarse layer
STEPS = 5, 3  # of the refinement, coarse and fine
LEVELS = 1024  # of grey in the equalised tone
BLUR = 1.35  # total blur of a view in its own pixels: of its Lanczos filter, of DETAIL and of reading between pixels
DETAIL = 0.7  # blur of what edges are taken from, pixels of a view
BATCH = 32  # pairs laid over each other at once: they fit into a core's cache
IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)


class Layers(NamedTuple):
    """What N views are compared by.

    Attributes:
        coarse: strength of the edges, blurred, uint8 of shape (N, LAYER, LAYER).
        fine: the same, sharper, uint8 of shape (N, VIEW, VIEW).
        detail: the grey values, float16 of shape (N, VIEW, VIEW).
    """

    coarse: NDArray[np.uint8]
    fine: NDArray[np.uint8]
    detail: NDArray[np.float16]


def layers(views: NDArray[np.uint8], equalised: bool) -> Layers:
    """Layers of views, of shape (N, VIEW, VIEW), in their own tone or with their histograms made flat."""
    out = Layers(
        np.empty((len(views), LAYER, LAYER), np.uint8),
        np.empty(views.shape, np.uint8),
        np.empty(views.shape, np.float16),
    )
    for start in range(0, len(views), 256):
        part = slice(start, start + 256)
        smooth, detail = blurred(views[part], 1.5), blurred(views[part], DETAIL)
        if equalised:
            smooth, detail = equalise(smooth), equalise(detail)
        edges = 255 * strength(smooth)
        fine, coarse = blurred(edges, 1.0), blurred(edges, 2.25)
        step = VIEW // LAYER
        out.coarse[part] = np.rint(coarse.reshape(-1, LAYER, step, LAYER, step).mean(axis=(2, 4)))
        out.fine[part], out.detail[part] = np.rint(fine), detail
    return out


def blurred(images: NDArray[Any], sigma: float) -> Floats:
    """Gaussian blur of images of shape (N, S, S); ``sigma`` in pixels."""
    out: Floats = gaussian_filter(images.astype(np.float32), (0, sigma, sigma))
    return out


def equalise(images: Floats) -> Floats:
    """Grey values, 0 to 255, by their rank within the image: any monotone change of tone leaves it the same."""
    count = len(images)
    level = np.rint(images.reshape(count, -1) * ((LEVELS - 1) / 255)).clip(0, LEVELS - 1).astype(np.int64)
    number = np.bincount((level + LEVELS * np.arange(count)[:, None]).ravel(), minlength=count * LEVELS)
    number = number.reshape(count, LEVELS)
    rank = number.cumsum(axis=1) - (number + 1) / 2  # of ties the middle
    first = np.take_along_axis(rank, level, axis=1)
    low = first.min(axis=1, keepdims=True)
    out = (first - low) * (255 / np.maximum(first.max(axis=1, keepdims=True) - low, 1))
    flat: Floats = out.reshape(images.shape).astype(np.float32)
    return flat


def strength(images: Floats) -> Floats:
    """Strength of the edges of N images, 0 to 1, damped so that a strong edge counts hardly more than a fine one."""
    across, down = np.zeros_like(images), np.zeros_like(images)
    across[:, :, 1:-1] = images[:, :, 2:] - images[:, :, :-2]
    down[:, 1:-1] = images[:, 2:] - images[:, :-2]
    found = np.hypot(across, down)
    floor = found.mean(axis=(1, 2), keepdims=True) / 2 + 1  # a grey level is rounding
    out: Floats = found / np.hypot(found, floor)
    return out


def points(count: int) -> Floats:
    """Centres of ``count`` equal parts of [-1, 1]."""
    return ((np.arange(count) + 0.5) / count * 2 - 1).astype(np.float32)


def compose(first: Floats, second: Floats) -> Floats:
    """Maps of shape (P, 2, 3): ``second``, then ``first``."""
    out = first[:, :, :2] @ second
    out[:, :, 2] += first[:, :, 2]
    return out


def inverse(maps: Floats) -> Floats:
    """Maps of shape (P, 2, 3) the other way round."""
    linear = np.linalg.inv(maps[:, :, :2])
    out: Floats = np.concatenate([linear, -linear @ maps[:, :, 2:]], axis=2)
    return out


def sample(images: NDArray[Any], which: Index, maps: Floats, count: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Read images at mapped points, linearly between pixels.

    Args:
        images: of shape (N, S, S).
        which: the image of each pair, shape (P,).
        maps: of shape (P, 2, 3).
        count: points on a side of the grid that is mapped.

    Returns:
        Values of shape (P, count, count), and which of them lie a point's width or more inside the image.
    """
    side, grid = images.shape[1], points(count)
    across, down = (
        (row[:, 0, None, None] * grid[None, None] + row[:, 1, None, None] * grid[None, :, None] + row[:, 2, None, None])
        * (side / 2) + (side - 1) / 2
        for row in (maps[:, 0], maps[:, 1])
    )  # fmt: skip
    margin = side / count
    inside = (across >= margin) & (across <= side - 1 - margin) & (down >= margin) & (down <= side - 1 - margin)
    np.clip(across, 0, side - 1.001, out=across)
    np.clip(down, 0, side - 1.001, out=down)
    left, top = across.astype(np.int32), down.astype(np.int32)
    across -= left
    down -= top
    flat = images.ravel()
    place = which[:, None, None] * (side * side) + (top * side + left)
    corners = [flat[place + step].astype(np.float32) for step in (0, 1, side, side + 1)]
    upper = corners[0] + across * (corners[1] - corners[0])
    lower = corners[2] + across * (corners[3] - corners[2])
    return upper + down * (lower - upper), inside


def align(images: NDArray[np.uint8], a: Index, b: Index, maps: Floats, count: int, steps: int) -> Floats:
    """Refine maps by Gauss-Newton steps that bring images a and b together up to gain and offset.

    The inverse compositional algorithm (Baker and Matthews, "Lucas-Kanade 20 Years On", IJCV 2004, section 3.2) with
    six parameters, on the part that both images cover.
    """
    grid = points(count)
    wanted, _ = sample(images, b, np.broadcast_to(IDENTITY, maps.shape), count)
    across, down = np.zeros_like(wanted), np.zeros_like(wanted)
    across[:, :, 1:-1] = (wanted[:, :, 2:] - wanted[:, :, :-2]) * (count / 4)
    down[:, 1:-1] = (wanted[:, 2:] - wanted[:, :-2]) * (count / 4)
    x, y = grid[None, None, :], grid[None, :, None]
    descent = np.stack([across * x, across * y, across, down * x, down * y, down], axis=1).reshape(len(a), 6, count**2)
    wanted = wanted.reshape(len(a), count**2)
    for _ in range(steps):
        got, inside = sample(images, a, maps, count)
        mask = inside.reshape(len(a), count**2).astype(np.float32)
        total = mask.sum(axis=1, keepdims=True) + 1e-3
        got = got.reshape(len(a), count**2)
        got = (got - (got * mask).sum(axis=1, keepdims=True) / total) * mask
        held = (wanted - (wanted * mask).sum(axis=1, keepdims=True) / total) * mask
        gain = ((got * held).sum(axis=1, keepdims=True) / ((got * got).sum(axis=1, keepdims=True) + 1)).clip(0.3, 3)
        slope = descent * mask[:, None]
        slope -= slope.sum(axis=2, keepdims=True) / total[:, None] * mask[:, None]
        hessian = slope @ slope.transpose(0, 2, 1)
        ridge = 1e-3 * np.trace(hessian, axis1=1, axis2=2)[:, None, None] / 6 + 1
        step = np.linalg.solve(hessian + ridge * np.eye(6, dtype=np.float32), slope @ (gain * got - held)[:, :, None])
        moved = np.broadcast_to(IDENTITY, maps.shape) + step[:, :, 0].clip(-0.1, 0.1).reshape(len(a), 2, 3)
        maps = compose(maps, inverse(moved))
    return maps


def agreement(detail: NDArray[np.float16], a: Index, b: Index, maps: Floats, count: int) -> tuple[Floats, Floats]:
    """Correlation of the edges of image a, laid over image b, with b's, in [-1, 1], where both have pixels.

    Edges are Roberts crosses, damped so that a strong one counts hardly more than a fine one: the outline of a head or
    of a fundus is common to all images of its kind. (Compare the orientation correlation of Fitch et al., BMVC 2002,
    which normalises every gradient and so raises the noise of flat parts.) An inverted copy correlates with -1, a blank
    image with nothing.

    Returns:
        The correlation and the share of b's edges that lie in the common part, each of shape (P,).
    """
    got, inside = sample(detail, a, maps, count)
    wanted, _ = sample(detail, b, np.broadcast_to(IDENTITY, maps.shape), count)
    got, wanted = _equally_sharp(got, wanted, maps)
    mask = (inside[:, 1:, 1:] & inside[:, :-1, :-1] & inside[:, 1:, :-1] & inside[:, :-1, 1:])[:, None]
    one, other = _edges(got, mask), _edges(wanted, mask)
    whole = (other**2).sum(axis=(1, 2, 3))
    one, other = one * mask, other * mask
    common = (other**2).sum(axis=(1, 2, 3))
    norm = np.sqrt((one**2).sum(axis=(1, 2, 3)) * common)
    product = (one * other).sum(axis=(1, 2, 3))
    correlation: Floats = np.divide(product, norm, out=np.zeros_like(norm), where=norm > 1e-6)
    share: Floats = np.divide(common, whole, out=np.zeros_like(norm), where=whole > 1e-6)
    return correlation, share


def _edges(images: Floats, mask: NDArray[np.bool_]) -> Floats:
    """Damped Roberts crosses, shape (P, 2, S - 1, S - 1)."""
    edges = np.stack([images[:, 1:, 1:] - images[:, :-1, :-1], images[:, 1:, :-1] - images[:, :-1, 1:]], axis=1)
    found = np.sqrt((edges**2).sum(axis=1, keepdims=True))
    total = mask.sum(axis=(2, 3), keepdims=True) + 1
    floor = (found * mask).sum(axis=(2, 3), keepdims=True) / total / 2 + 0.5  # half a grey level is rounding
    out: Floats = edges / np.hypot(found, floor)
    return out


def _equally_sharp(got: Floats, wanted: Floats, maps: Floats) -> tuple[Floats, Floats]:
    """Blur whichever image shows more detail: the one that the map magnifies less."""
    count = got.shape[1]
    scale = np.sqrt((maps[:, :, :2] ** 2).sum(axis=1))  # along x and y of b
    blur = BLUR * count / VIEW
    # Reading a at steps `scale` apart leaves it a blur of `blur / scale` points of the grid.
    sharper = blur * np.sqrt(np.maximum(1 - scale**-2.0, 0)), blur * np.sqrt(np.maximum(scale**-2.0 - 1, 0))
    return _blurred_by(got, sharper[0]), _blurred_by(wanted, sharper[1])


def _blurred_by(images: Floats, sigma: NDArray[Any]) -> Floats:
    """Images of shape (P, S, S), blurred by a Gaussian of ``sigma`` points along x and y, shape (P, 2)."""
    count = images.shape[1]
    down, across = (_kernel(sigma[:, axis], count) for axis in (1, 0))
    out: Floats = np.matmul(np.matmul(down, images), across.transpose(0, 2, 1))
    return out


def _kernel(sigma: NDArray[Any], count: int) -> Floats:
    """Gaussian blur along one axis as matrices, shape (P, count, count)."""
    apart = np.subtract.outer(np.arange(count), np.arange(count)).astype(np.float32) ** 2
    weights = np.exp(-apart / (2 * np.maximum(sigma, 0.05)[:, None, None].astype(np.float32) ** 2))
    out: Floats = weights / weights.sum(axis=2, keepdims=True)
    return out
