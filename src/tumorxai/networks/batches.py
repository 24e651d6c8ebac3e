"""Batches of a self-supervised run: which images a step takes, and their views, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tumorxai.networks import fused, views
from tumorxai.networks.store import Store, choose, sent

# Views are drawn in blocks of this many images of the global batch, each seeded by (seed, step, block). A process draws
# the blocks in which its images lie, so that an image's views do not depend on how many processes share the batch.
# Small blocks cost launches of kernels, large ones are drawn in part for nothing where a process holds fewer images.
BLOCK = 64


def seed_draws(*key: int) -> None:
    """Make all of torch's draws that follow a function of ``key`` (integers >= 0, the last above 0)."""
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1)))


@lru_cache(maxsize=4)  # of an epoch, and of the next one while its first batch is copied ahead, in both pools
def _order(count: int, seed: int, *turn: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, *turn]).permutation(count)


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
        labelled: images of a step that are drawn from those with a label, the others then from those without; 0: all
            are drawn together.
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
    labelled: int = 0

    @property
    def per_epoch(self) -> int:
        """Steps of one epoch, of the images without a label where the others are drawn apart.

        The incomplete last batch is left out.
        """
        return len(self.pools[0]) // (self.size - self.labelled)

    @cached_property
    def pools(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What steps are drawn from: the images, and apart from them, if they are, those with a label."""
        apart = (self.labels.numpy()[self.ids] >= 0) & (self.labelled > 0)
        return self.ids[~apart], self.ids[apart]

    def at(self, step: int) -> NDArray[np.int64]:
        """The images of one step, over all processes; each epoch is a new permutation."""
        turn, place = divmod(step, self.per_epoch)
        count = self.size - self.labelled
        drawn = self.pools[0][_order(len(self.pools[0]), self.seed, turn)[place * count : (place + 1) * count]]
        if not self.labelled:
            return drawn
        batch, rows = np.empty(self.size, dtype=np.int64), np.zeros(self.size, dtype=np.bool_)
        rows[np.arange(self.labelled) * self.size // self.labelled] = True  # each process and part has its share
        batch[rows], batch[~rows] = self.labelled_at(step), drawn
        return batch

    def labelled_at(self, step: int) -> NDArray[np.int64]:
        """Those of a step that were drawn for their label; when all have been, a new permutation begins."""
        pool = self.pools[1]
        turn, place = divmod(step, len(pool) // self.labelled)
        return pool[_order(len(pool), self.seed, turn, 1)[place * self.labelled : (place + 1) * self.labelled]]

    def apart(self, step: int, view: views.View) -> tuple[Tensor, Tensor]:
        """The images of :meth:`labelled_at` in a view of their own, normalised, and their labels, on the device."""
        ids = self.labelled_at(step)
        seed_draws(self.seed, step, 3)
        drawn = views.draw(torch.from_numpy(self.images[ids]), view, views.side(view, self.side))
        return self._normalise(sent(drawn, self.device)), sent(self.labels[ids], self.device)

    def draw(self, step: int, rows: range) -> list[Tensor]:
        """Normalised views of some rows of a step's batch: one float32 tensor (len(rows), C, s, s) for each recipe."""
        return self.make(self.load(step, rows))

    def load(self, step: int, rows: range, then: tuple[int, range] | None = None) -> list[Tensor]:
        """All that the host gives to the views of some rows: tensors on the device, of the same shapes for each step.

        Args:
            step: of the run.
            rows: of its batch.
            then: step and rows that will be asked for next, to copy them ahead; None if unknown.

        Returns:
            What :meth:`make` takes. On the CPU the views themselves; elsewhere where the images are, a table of what
            was drawn for each, and of each view that has noise its noise.
        """
        if self.on_host:
            return self._blocks(step, rows)
        following = self.at(then[0])[then[1].start : then[1].stop] if then else None
        fetched = self.store.fetch(self.at(step)[rows.start : rows.stop], following)
        tables, noises = [], []
        for first, wanted, count in self._parts(rows):
            seed_draws(self.seed, step, first, 1)
            tables.append(torch.cat([fused.sample(count, view, self.side) for view in self.recipes], dim=1)[wanted])
            noises.append([self._noise(count, view)[wanted] for view in self.recipes if view.noise])
        return [fetched, sent(torch.cat(tables), self.device), *map(torch.cat, zip(*noises, strict=True))]

    def make(self, loaded: Sequence[Tensor]) -> list[Tensor]:
        """Normalised views of what :meth:`load` gave; on a device nothing here needs the host."""
        if self.on_host:
            return [self._normalise(x) for x in loaded]
        fetched, table, *noises = loaded
        raw, noise = self.store.pixels(fetched).float(), iter(noises)
        tables = torch.split(table, [sum(fused.widths(view, self.side).values()) for view in self.recipes], dim=1)
        return [
            self._normalise(fused.apply(raw, own, view, next(noise) if view.noise else None))
            for own, view in zip(tables, self.recipes, strict=True)
        ]

    def labels_at(self, step: int) -> Tensor:
        """Labels of a step's batch, int64 (B,), on the device."""
        return sent(self.labels[self.at(step)], self.device)

    def plain(self, ids: NDArray[np.int64]) -> Tensor:
        """Normalised images as they are, (len(ids), C, S, S)."""
        return self._normalise(self.store.pixels(self.store.fetch(ids, None)).float() / 255.0)

    @cached_property
    def store(self) -> Store:
        """Where the images lie."""
        return choose(self.images, self.device)

    @property
    def on_host(self) -> bool:
        """Whether views are drawn block by block, on the CPU: what repeats there must stay as it is, to the bit."""
        return self.device.type == "cpu"

    @property
    def side(self) -> int:
        """Of the pack's images, pixels."""
        return int(self.images.shape[-1])

    def _parts(self, rows: range) -> Iterator[tuple[int, slice, int]]:
        """The blocks in which some rows lie: the first row of each, which of its own are wanted, how many it has."""
        for first in range(rows.start - rows.start % BLOCK, rows.stop, BLOCK):
            yield first, slice(max(rows.start - first, 0), rows.stop - first), min(BLOCK, self.size - first)

    def _blocks(self, step: int, rows: range) -> list[Tensor]:
        batch, blocks = self.at(step), []
        for first, wanted, count in self._parts(rows):
            raw = self.store.pixels(self.store.fetch(batch[first : first + count], None))
            seed_draws(self.seed, step, first, 1)
            blocks.append([views.draw(raw, view, views.side(view, self.side))[wanted] for view in self.recipes])
        return [torch.cat(parts) for parts in zip(*blocks, strict=True)]

    def _noise(self, count: int, view: views.View) -> Tensor:
        size = views.side(view, self.side)
        return torch.randn(count, self.images.shape[1], size, size, device=self.device)

    def _normalise(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
