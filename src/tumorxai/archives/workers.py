"""Work on many files at once."""

from __future__ import annotations

import os
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from tumorxai.archives.archives import open_zip, read
from tumorxai.errors import UserError

BATCH = 64  # files a worker takes at once
AHEAD = 4  # chunks that are given to each process before their turn: what is done and not yet taken waits in memory

Task = TypeVar("Task")
Result = TypeVar("Result")


def mapped(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int | None = None, chunk: int = 1
) -> Iterator[Result]:
    """Results of ``function`` for each task, in order; few are made before they are asked for.

    A process takes one core: the products of small matrices that it computes would otherwise be spread over all cores
    in each process, which wait for each other most of the time.

    Args:
        function: at the top of a module, so that it can be sent to a process.
        tasks: its arguments.
        workers: processes; one per core if None, never more than tasks.
        chunk: tasks that a process takes at once.

    Raises:
        UserError: a process was killed.
    """
    count = max(1, min(workers or os.cpu_count() or 1, len(tasks)))
    # forked, for spawned ones would import everything again
    with ProcessPoolExecutor(count, get_context("fork"), initializer=threadpool_limits, initargs=(1,)) as pool:
        waiting: deque[Future[list[Result]]] = deque()
        try:
            for start in range(0, len(tasks), chunk):
                if len(waiting) == AHEAD * count:
                    yield from waiting.popleft().result()
                waiting.append(pool.submit(_each, function, tasks[start : start + chunk]))
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                "got a worker process ended from outside, most likely for want of memory; expected it to finish; give "
                "the run more memory, or fewer cores with `taskset`"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _each(function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
    return [function(task) for task in tasks]


def read_batches(
    function: Callable[[Iterable[bytes]], Result],
    files: Sequence[tuple[Path, str]],
    title: str,
    workers: int | None = None,
) -> Iterator[tuple[slice, Result]]:
    """Read many files of archives, in parallel and with a bar.

    Args:
        function: of the contents of a run of files, which are read one after the other as it asks for them; at the top
            of a module.
        files: archive and path inside it; neighbours should share an archive.
        title: of the bar.
        workers: processes; all cores if None.

    Yields:
        Which of the files a result is of, in order, and the result.
    """
    runs = list(_runs(files))
    tasks = [(files[run.start][0], [path for _, path in files[run]]) for run in runs]
    with tqdm(total=len(files), desc=title, unit="image") as bar:
        for run, result in zip(runs, mapped(partial(_read_run, function), tasks, workers), strict=True):
            yield run, result
            bar.update(run.stop - run.start)


def _runs(files: Sequence[tuple[Path, str]]) -> Iterator[slice]:
    """Runs of at most BATCH files of one archive."""
    start = 0
    for end in range(1, len(files) + 1):
        if end == len(files) or files[end][0] != files[start][0] or end - start == BATCH:
            yield slice(start, end)
            start = end


@lru_cache(maxsize=2)  # a worker meets the archives one after the other
def opened(archive: Path) -> zipfile.ZipFile:
    """An archive that stays open in this worker, whose list of files is read once."""
    return open_zip(archive)


def _read_run(function: Callable[[Iterable[bytes]], Result], task: tuple[Path, list[str]]) -> Result:
    archive = opened(task[0])
    return function(read(archive, archive.getinfo(path)) for path in task[1])
