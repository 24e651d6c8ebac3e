from __future__ import annotations

import time
from multiprocessing import get_context

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from tumorxai.archives.workers import AHEAD, mapped


def threads(size: int) -> list[int]:
    np.ones((size, size)) @ np.ones((size, size))
    return [library["num_threads"] for library in threadpool_info()]


def test_a_process_takes_one_core() -> None:
    for found in mapped(threads, [2, 3], workers=2):
        assert found
        assert set(found) == {1}


MADE = get_context("fork").Value("i", 0)


def counted(task: int) -> int:
    with MADE.get_lock():
        MADE.value += 1
    return task


@pytest.mark.parametrize("chunk", [1, 3])
def test_results_come_in_order_and_few_wait_for_whoever_asks_for_them(chunk: int) -> None:
    """A stage that is slower than its workers would hold all that they made: of a million images 50 GB."""
    MADE.value = 0
    results = mapped(counted, range(100), workers=2, chunk=chunk)
    assert next(results) == 0
    most = (2 * AHEAD + 1) * chunk  # with the chunk that the first result came with
    for _ in range(20):
        time.sleep(0.02)
        assert MADE.value <= most
    assert [0, *results] == list(range(100))
    assert MADE.value == 100


def test_a_fault_of_a_worker_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        list(mapped(reciprocal, [1, 0, 2], workers=2))
    assert not list(mapped(reciprocal, [], workers=2))


def reciprocal(task: int) -> float:
    return 1 / task
