"""Heavy work in a few threads: what cannot run at once waits, and what would wait too long is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

import torch

from tumorxai.serve.limits import Limits
from tumorxai.serve.refusals import RefusedError

P = ParamSpec("P")
T = TypeVar("T")


class Work:
    """A pool of threads with a bounded queue; used from one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # One thread of torch's in each: more would wait for each other over images as small as one.
        self._threads = ThreadPoolExecutor(limits.workers, "work", torch.set_num_threads, (1,))
        self.pending = 0  # waiting and running

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result.

        Raises:
            RefusedError: 503 when too much is waiting already, 504 when it takes too long.
        """
        if self.pending >= self._limits.workers + self._limits.queue:
            raise RefusedError(503, f"got more requests than the {self._limits.queue} that may wait; try again later")
        self.pending += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args, **kwargs))
        future.add_done_callback(self._done)  # a thread cannot be stopped: it counts until it has ended
        try:
            return await asyncio.wait_for(asyncio.shield(future), self._limits.work_seconds)
        except TimeoutError:
            future.cancel()
            seconds = f"{self._limits.work_seconds:g}"
            raise RefusedError(
                504, f"got no answer within {seconds} seconds; try again when less is going on"
            ) from None

    def _done(self, future: asyncio.Future[T]) -> None:
        self.pending -= 1
        if not future.cancelled():
            future.exception()  # seen, even where nobody waits for it any more

    def close(self) -> None:
        """Drop what waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)
