"""Work on many files at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from tumorxai.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")


def mapped(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int | None = None, chunk: int = 1
) -> Iterator[Result]:
    """Results of ``function`` for each task, in order.

    Args:
        function: at the top of a module, so that it can be sent to a process.
        tasks: its arguments.
        workers: processes; one per core if None, never more than tasks.
        chunk: tasks that a process takes at once.

    Raises:
        UserError: a process was killed.
    """
    count = max(1, min(workers or os.cpu_count() or 1, len(tasks)))
    with ProcessPoolExecutor(count, mp_context=get_context("fork")) as pool:  # spawned ones import everything again
        try:
            yield from pool.map(function, tasks, chunksize=chunk)
        except BrokenProcessPool:
            raise UserError(
                "got a worker process ended from outside, most likely for want of memory; expected it to finish; give "
                "the run more memory, or fewer cores with `taskset`"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
