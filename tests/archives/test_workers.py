from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info

from tumorxai.archives.workers import mapped


def threads(size: int) -> list[int]:
    np.ones((size, size)) @ np.ones((size, size))
    return [library["num_threads"] for library in threadpool_info()]


def test_a_process_takes_one_core() -> None:
    for found in mapped(threads, [2, 3], workers=2):
        assert found
        assert set(found) == {1}
