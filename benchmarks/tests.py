"""How long the tests take, by folder: `make test-times`, or `python benchmarks/tests.py [arguments of pytest]`.

Seconds by the clock of each test, its fixtures included, which count towards the first test that asks for them. Side by
side (`-n 2`) the sum is longer than the whole took. Prints Markdown; the last line is one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SLOWEST = 25  # tests that are named


class Times:
    """A plugin of pytest that notes what every test took."""

    def __init__(self) -> None:
        self.tests: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what a test's fixtures, its body or their end took, in whichever process."""
        self.tests[report.nodeid] += report.duration


def part(test: str) -> str:
    """The folder of `tests` that a test lies in, or its file."""
    return test.split("::")[0].removeprefix("tests/").split("/")[0]


def main(arguments: list[str]) -> int:
    times, start = Times(), time.perf_counter()
    status = pytest.main(["--rootdir", str(ROOT), *arguments], plugins=[times])
    whole = time.perf_counter() - start
    seconds, counts = Counter[str](), Counter(map(part, times.tests))
    for name, took in times.tests.items():
        seconds[part(name)] += took
    print("\n| part | tests | seconds |\n|---|---|---|")
    for name, took in seconds.most_common():
        print(f"| {name} | {counts[name]} | {took:.1f} |")
    print(f"| sum | {len(times.tests)} | {sum(seconds.values()):.1f} |\n| by the clock | | {whole:.1f} |")
    print("\n| slowest tests | seconds |\n|---|---|")
    for name, took in times.tests.most_common(SLOWEST):
        print(f"| {name} | {took:.1f} |")
    print(json.dumps({name: round(took, 2) for name, took in seconds.most_common()} | {"whole": round(whole, 1)}))
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
