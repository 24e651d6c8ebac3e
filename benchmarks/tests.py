"""How long the tests take, by folder: `make test-times`, or `python benchmarks/tests.py [arguments of pytest]`.

Seconds by the clock, and seconds of processor time, the processes that a test starts included: these say what a test
costs when others use the machine too. A fixture counts towards the first test that asks for it. Prints Markdown; the
last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SLOWEST = 15  # tests that are named


def clocks() -> np.ndarray:
    """Seconds by the clock, and of processor time."""
    used = os.times()
    return np.array([time.perf_counter(), used.user + used.system + used.children_user + used.children_system])


class Times:
    """A plugin of pytest that notes what collection and every test took."""

    def __init__(self) -> None:
        self.start = clocks()
        self.collected = np.zeros(2)
        self.tests: dict[str, np.ndarray] = {}

    def pytest_collection_finish(self) -> None:
        """Note what the imports of all tests took."""
        self.collected = clocks() - self.start

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note what a test took, with its fixtures."""
        before = clocks()
        done = yield
        self.tests[item.nodeid] = clocks() - before
        return done


def part(test: str) -> str:
    """The folder of `tests` that a test lies in, or its file."""
    return test.split("::")[0].removeprefix("tests/").split("/")[0]


def main(arguments: list[str]) -> int:
    times = Times()
    status = pytest.main(["--rootdir", str(ROOT), *arguments], plugins=[times])
    parts = {"collection": (times.collected, 0)}
    for name, took in times.tests.items():
        total, count = parts.get(part(name), (np.zeros(2), 0))
        parts[part(name)] = (total + took, count + 1)
    print("\n| part | tests | seconds | processor seconds |\n|---|---|---|---|")
    for name, (total, count) in sorted(parts.items(), key=lambda item: -item[1][0][1]):
        print(f"| {name} | {count or ''} | {total[0]:.1f} | {total[1]:.1f} |")
    total = np.sum([took for took, _ in parts.values()], axis=0)
    print(f"| all | {len(times.tests)} | {total[0]:.1f} | {total[1]:.1f} |")
    print("\n| slowest tests | seconds | processor seconds |\n|---|---|---|")
    for name, took in sorted(times.tests.items(), key=lambda item: -item[1][1])[:SLOWEST]:
        print(f"| {name} | {took[0]:.1f} | {took[1]:.1f} |")
    print(json.dumps({name: [round(float(x), 2) for x in took] for name, (took, _) in parts.items()}))
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
