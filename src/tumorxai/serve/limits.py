"""What one server takes on."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Limits:
    """Bounds that keep the server answering whatever is sent to it.

    Attributes:
        upload_bytes: largest request body.
        header_seconds: longest time that the headers of a request may take to arrive.
        upload_seconds: longest time that a body may take to arrive.
        uploads: largest bodies that memory is set aside for; what arrives beyond is refused with 503.
        small_bytes: uploads up to this size are decoded in a process of their own, which larger ones do not hold up.
        quick_seconds: longest time for one of them; then it goes the way of the larger ones.
        decode_seconds: longest time to decode an upload; then it is refused and its process ended.
        decode_memory: bytes that such a process may take beyond what it starts with.
        workers: threads that run the networks, each on one core; by default one for each core.
        queue: pieces of work that may wait for a thread; one more is refused with 503.
        work_seconds: longest time for one piece of work, waiting included.
        cases: uploaded images kept in memory for their result pages, the oldest leave first.
        case_seconds: how long they are kept at most.
        neighbours: most similar cases in one answer.
        drawn: most images on the explorer's map.
        hosts: names in the Host header that are answered; anything else may be DNS rebinding.
    """

    upload_bytes: int = 20_000_000
    header_seconds: float = 10.0
    upload_seconds: float = 30.0
    uploads: int = 16
    small_bytes: int = 1_000_000
    quick_seconds: float = 2.0
    decode_seconds: float = 20.0
    decode_memory: int = 2**30
    workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    queue: int = 256
    work_seconds: float = 60.0
    cases: int = 64
    case_seconds: float = 1800.0
    neighbours: int = 50
    drawn: int = 4000
    hosts: tuple[str, ...] = LOOPBACK
