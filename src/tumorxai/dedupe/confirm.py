"""Each candidate pair laid over each other, and whether it is then a pair of copies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tumorxai.archives.workers import mapped
from tumorxai.config import Dedupe
from tumorxai.dedupe import registration
from tumorxai.dedupe.nearest import Near, orientation_map
from tumorxai.dedupe.registration import BATCH, COARSE, FINE, IDENTITY, STEPS, Floats, Index, Layers

TASK = 1024  # candidates that a process takes at once
MARGIN = 0.1  # by which the coarse correlation may fall short of what the fine one must reach
DRIFT = 0.03  # shift of a corner, as a share of the side, up to which a candidate is also tried in place
SHARED = 0.5  # least share of the edges of an image that must lie within the other
STRETCHED = 1.6  # largest ratio of the scales along two directions
SCALES = 0.4, 2.5  # of one image against the other


class Confirmed(NamedTuple):
    """Candidates that are copies: their numbers, refined maps and correlations of the edges, negative if inverted."""

    candidate: Index
    map: Floats
    correlation: Floats


def displacement(maps: Floats) -> Floats:
    """How far maps of shape (P, 2, 3) move the corner that they move most, as a share of the side."""
    corners = np.array([[x, y, 1] for x in (-1, 1) for y in (-1, 1)], dtype=np.float32)
    moved: Floats = np.linalg.norm((maps - IDENTITY) @ corners.T, axis=1).max(axis=1) / 2
    return moved


def plausible(maps: Floats) -> NDArray[np.bool_]:
    """Which maps neither stretch nor scale beyond what copies are."""
    scales = np.linalg.svd(maps[:, :, :2], compute_uv=False)
    within = (scales[:, 1] >= SCALES[0]) & (scales[:, 0] <= SCALES[1])
    fits: NDArray[np.bool_] = within & (scales[:, 0] <= STRETCHED * scales[:, 1])
    return fits


def confirm(found: Near, layers: Layers, settings: Dedupe, workers: int | None = None) -> Confirmed:
    """Refine candidates of one tone and keep the copies.

    Args:
        found: the candidates.
        layers: of all images in this tone.
        settings: what counts as a copy.
        workers: processes; all cores if None. The result does not depend on it.
    """
    global _layers
    _layers = layers
    tasks = [(found.part(slice(start, start + TASK)), start, settings) for start in range(0, len(found.a), TASK)]
    if not tasks:
        return Confirmed(np.zeros(0, np.int64), np.zeros((0, 2, 3), np.float32), np.zeros(0, np.float32))
    parts = list(tqdm(mapped(_task, tasks, workers), "confirming", len(tasks)))
    return Confirmed(*(np.concatenate(each) for each in zip(*parts, strict=True)))


_layers = Layers(*(np.zeros((0, 0, 0), kind) for kind in (np.uint8, np.uint8, np.float16)))  # inherited when forked


def _task(task: tuple[Near, int, Dedupe]) -> Confirmed:
    found, start, settings = task
    parts = [decide(found.part(slice(at, at + BATCH)), _layers, settings) for at in range(0, len(found.a), BATCH)]
    candidate = np.concatenate([start + number * BATCH + part.candidate for number, part in enumerate(parts)])
    return Confirmed(candidate, *(np.concatenate([part[field] for part in parts]) for field in (1, 2)))


def decide(found: Near, layers: Layers, settings: Dedupe) -> Confirmed:
    """Copies among a few candidates: those that lie in place as they are, and those that do once they are aligned."""
    a, b, maps, _ = found
    correlation = np.zeros(len(a), np.float32)
    placed = np.broadcast_to(IDENTITY, maps.shape)
    still = displacement(maps) <= DRIFT
    for count, wanted in ((COARSE, settings.similarity - MARGIN), (FINE, settings.similarity)):
        correlation[still], _ = registration.agreement(layers.detail, a[still], b[still], placed[still], count)
        still &= np.abs(correlation) >= wanted
    correlation[~still] = 0

    aligned = registration.align(layers.coarse, a, b, maps, COARSE, STEPS[0])
    moved, _ = registration.agreement(layers.detail, a, b, aligned, COARSE)
    near = np.flatnonzero(plausible(aligned) & (np.abs(moved) >= settings.strict - MARGIN))
    aligned = registration.align(layers.fine, a[near], b[near], aligned[near], FINE, STEPS[1])
    moved, share = registration.agreement(layers.detail, a[near], b[near], aligned, FINE)
    sure = plausible(aligned) & (share >= SHARED) & (np.abs(moved) >= settings.strict)
    sure &= np.abs(moved) > np.abs(correlation[near])

    maps = placed.copy()
    maps[near[sure]], correlation[near[sure]] = aligned[sure], moved[sure]
    kept = np.flatnonzero(correlation)
    return Confirmed(kept, maps[kept], correlation[kept])


def orientations(maps: Floats) -> tuple[Index, Floats]:
    """The orientation nearest to maps of shape (P, 2, 3), and the rotation beside it, degrees anticlockwise."""
    turned = np.stack([orientation_map(o)[:, :2] for o in range(8)])
    rest = turned.transpose(0, 2, 1)[None] @ maps[:, None, :, :2]  # shape (P, 8, 2, 2)
    fit = rest[..., 0, 0] + rest[..., 1, 1]
    fit[np.linalg.det(rest) <= 0] = -np.inf
    best = fit.argmax(axis=1)
    rest = rest[np.arange(len(maps)), best]
    angle = np.rad2deg(np.arctan2(rest[:, 1, 0] - rest[:, 0, 1], rest[:, 0, 0] + rest[:, 1, 1]))
    return best.astype(np.int64), angle
