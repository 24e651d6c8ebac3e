"""Batches of a self-supervised run: which images a step takes, and their views, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tumorxai.networks import views

# Views are drawn in blocks of this many images of the global batch, each seeded by (seed, step, block). A process draws
# the blocks in which its images lie, so that an image's views do not depend on how many processes share the batch.
# Small blocks cost launches of kernels, large ones are drawn in part for nothing where a process holds fewer images.
BLOCK = 64


def seed_draws(*key: int) -> None:
    """Make all of torch's draws that follow a function of ``key`` (integers >= 0, the last above 0)."""
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1)))


@lru_cache(maxsize=1)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)


@dataclass(frozen=True)
class Batches:
    """The pretraining images and how they become batches of views.

    Attributes:
        images: uint8 (N, C, S, S), the whole pack.
        ids: the images to train on.
        labels: int64 (N,), -1 where a label must not be used.
        recipes: the views that the method asks for.
        mean: of the pixels of ``ids``, on the scale [0, 1].
        std: their standard deviation.
        size: images of a step, over all processes and parts.
        seed: of the order and of the views.
        device: where the views are drawn.
    """

    images: NDArray[np.uint8]
    ids: NDArray[np.int64]
    labels: Tensor
    recipes: Sequence[views.View]
    mean: float
    std: float
    size: int
    seed: int
    device: torch.device

    @property
    def per_epoch(self) -> int:
        """Steps of one epoch; the incomplete last batch is left out."""
        return len(self.ids) // self.size

    def at(self, step: int) -> NDArray[np.int64]:
        """The images of one step, over all processes; each epoch is a new permutation."""
        start = step % self.per_epoch * self.size
        order = _order(len(self.ids), self.seed, step // self.per_epoch)
        return self.ids[order[start : start + self.size]]

    def draw(self, step: int, rows: range) -> list[Tensor]:
        """Normalised views of some rows of a step's batch: one float32 tensor (len(rows), C, s, s) for each recipe."""
        batch, blocks = self.at(step), []
        for first in range(rows.start - rows.start % BLOCK, rows.stop, BLOCK):
            raw = self._load(batch[first : first + BLOCK])
            seed_draws(self.seed, step, first, 1)
            drawn = [views.draw(raw, view, views.side(view, raw.shape[-1])) for view in self.recipes]
            wanted = slice(max(rows.start - first, 0), rows.stop - first)
            blocks.append([x[wanted] for x in drawn])
        return [self._normalise(torch.cat(parts)) for parts in zip(*blocks, strict=True)]

    def plain(self, ids: NDArray[np.int64]) -> Tensor:
        """Normalised images as they are, (len(ids), C, S, S)."""
        return self._normalise(self._load(ids).float() / 255.0)

    def _load(self, ids: NDArray[np.int64]) -> Tensor:
        raw = torch.from_numpy(self.images[ids])
        if self.device.type == "cuda":  # from pinned memory the copy runs beside the step before
            raw = raw.pin_memory()
        return raw.to(self.device, non_blocking=True)

    def _normalise(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
