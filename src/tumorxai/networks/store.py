"""Where a run's images lie while it trains: on the device where they fit, else copied one batch ahead of their step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHARE = 0.5  # of a device's free memory that the images may take: the rest is for the network
CHUNK = 1024  # images copied at a time when all go to the device


def sent(value: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device, without waiting for it: from pinned memory the copy runs beside other work."""
    return (value.pin_memory() if device.type == "cuda" else value).to(device, non_blocking=True)


class Store(Protocol):
    """Images by their ids. What :meth:`fetch` gives has a fixed shape, and :meth:`pixels` no need of the host."""

    def fetch(self, ids: NDArray[np.int64], then: NDArray[np.int64] | None) -> Tensor:
        """What the images of a step are found by; ``then`` are those of the step after it, None if unknown."""

    def pixels(self, fetched: Tensor) -> Tensor:
        """uint8 (B, C, S, S) on the device."""


class AsTheyAre:
    """Images in the host's memory or on its disk, copied when they are asked for.

    Args:
        images: uint8 (N, C, S, S), may be memory-mapped.
        device: where to.
    """

    def __init__(self, images: NDArray[np.uint8], device: torch.device) -> None:
        self.images, self.device = images, device

    def fetch(self, ids: NDArray[np.int64], then: NDArray[np.int64] | None = None) -> Tensor:
        """The images, uint8 (B, C, S, S), on the device."""
        return sent(torch.from_numpy(self.images[ids]), self.device)

    def pixels(self, fetched: Tensor) -> Tensor:
        """They themselves."""
        return fetched


class Resident:
    """All images on the device.

    Args:
        images: uint8 (N, C, S, S).
        device: where to.
    """

    def __init__(self, images: NDArray[np.uint8], device: torch.device) -> None:
        self.device = device
        self.pack = torch.empty(images.shape, dtype=torch.uint8, device=device)
        for start in range(0, len(images), CHUNK):
            self.pack[start : start + CHUNK].copy_(torch.from_numpy(np.array(images[start : start + CHUNK])))

    def fetch(self, ids: NDArray[np.int64], then: NDArray[np.int64] | None = None) -> Tensor:
        """The ids, int64 (B,), on the device."""
        return sent(torch.from_numpy(np.array(ids)), self.device)

    def pixels(self, fetched: Tensor) -> Tensor:
        """Their images."""
        return self.pack.index_select(0, fetched)


class Ahead:
    """Images in the host's memory or on its disk, two batches of them on the device.

    While the device works on one batch, the next is gathered into pinned memory and copied on a stream of its own. The
    host is never more than two steps ahead of the device.

    Args:
        images: uint8 (N, C, S, S), may be memory-mapped.
        device: where to.
    """

    def __init__(self, images: NDArray[np.uint8], device: torch.device) -> None:
        self.images, self.device = images, device
        self.streams: Any = torch.get_device_module(device)  # torch.cuda; torch.cpu's streams and events do nothing
        self.side = self.streams.Stream()
        self.slots: list[_Slot] = []
        self.next = 0  # slot to be filled
        self.filled: Sequence[NDArray[np.int64]] = ()  # ids in the slot that waits to be fetched

    def fetch(self, ids: NDArray[np.int64], then: NDArray[np.int64] | None = None) -> Tensor:
        """The images, uint8 (B, C, S, S), on the device; they stay until the fetch after the next one."""
        current = self.streams.current_stream()
        for slot in self.slots:
            slot.used.record(current)  # all that was launched so far may look at them
        if not self.filled or not np.array_equal(self.filled[0], ids):
            self._fill(ids)
        slot = self.slots[1 - self.next]
        current.wait_event(slot.copied)
        self.filled = ()
        if then is not None:
            self._fill(then)
        return slot.device[: len(ids)]

    def pixels(self, fetched: Tensor) -> Tensor:
        """They themselves."""
        return fetched

    def _fill(self, ids: NDArray[np.int64]) -> None:
        if not self.slots or len(ids) > len(self.slots[0].host):
            self.streams.synchronize()
            self.slots, self.next = [_Slot(self, len(ids)) for _ in range(2)], 0
        slot = self.slots[self.next]
        slot.copied.synchronize()  # the copy before the last one, from the memory that is now written to
        np.take(self.images, ids, axis=0, out=slot.host.numpy()[: len(ids)], mode="clip")
        self.side.wait_event(slot.used)
        with self.streams.stream(self.side):
            slot.device[: len(ids)].copy_(slot.host[: len(ids)], non_blocking=True)
            slot.copied.record(self.side)
        self.filled, self.next = (ids,), 1 - self.next


class _Slot:
    """One batch in pinned memory and on the device."""

    def __init__(self, of: Ahead, count: int) -> None:
        shape = (count, *of.images.shape[1:])
        self.host = torch.empty(shape, dtype=torch.uint8, pin_memory=of.device.type == "cuda")
        self.device = torch.empty(shape, dtype=torch.uint8, device=of.device)
        self.used, self.copied = of.streams.Event(), of.streams.Event()


def fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes take at most their share of a GPU's free memory."""
    free: int = torch.cuda.mem_get_info(device)[0]
    return size <= SHARE * free


def choose(images: NDArray[np.uint8], device: torch.device) -> Store:
    """The way for these images and this device."""
    if device.type != "cuda":
        return AsTheyAre(images, device)
    return Resident(images, device) if fits(images.nbytes, device) else Ahead(images, device)
