"""Counters in the text format of Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.4, 1.0, 2.5, 10.0)  # upper bounds of the histogram's buckets
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Memory of this process; 0 where the system does not tell."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


class Metrics:
    """Requests by route, method and status, and how long they took; used from one event loop."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """Note one answered request."""
        method = method if method in METHODS else "other"  # a client may send any word
        self._requests[route, method, status] += 1
        buckets = self._buckets.setdefault(route, [0] * (len(SECONDS) + 1))
        buckets[bisect_left(SECONDS, seconds)] += 1
        self._seconds[route] += seconds

    def text(self, gauges: Mapping[str, float]) -> str:
        """All of it, with the present values of ``gauges``."""
        lines = ["# TYPE tumorxai_requests_total counter"]
        for (route, method, status), count in sorted(self._requests.items()):
            lines.append(f'tumorxai_requests_total{{route="{route}",method="{method}",status="{status}"}} {count}')
        lines.append("# TYPE tumorxai_request_seconds histogram")
        for route, buckets in sorted(self._buckets.items()):
            total = 0
            for bound, count in zip((*map(str, SECONDS), "+Inf"), buckets, strict=True):
                total += count
                lines.append(f'tumorxai_request_seconds_bucket{{route="{route}",le="{bound}"}} {total}')
            lines.append(f'tumorxai_request_seconds_sum{{route="{route}"}} {self._seconds[route]:.6f}')
            lines.append(f'tumorxai_request_seconds_count{{route="{route}"}} {total}')
        for name, value in {**gauges, "process_resident_memory_bytes": resident_bytes()}.items():
            lines += [f"# TYPE {name} gauge", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"
