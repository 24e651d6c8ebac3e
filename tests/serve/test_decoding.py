"""An uploaded file costs its own process at most, never the answer to another visitor."""

from __future__ import annotations

import asyncio
import dataclasses
import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tumorxai.archives.archives import UnreadableError
from tumorxai.archives.images import Fit
from tumorxai.run import decode
from tumorxai.serve.decoding import Decoders, Lane, SlowError
from tumorxai.serve.limits import Limits
from tumorxai.serve.refusals import RefusedError

pytestmark = pytest.mark.slow  # each starts processes
FIT = Fit(32, 1, "pad")


def png(side: int) -> bytes:
    y, x = np.mgrid[:side, :side]
    stream = io.BytesIO()
    Image.fromarray(((x * y) % 251).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def lane() -> Iterator[Lane]:
    found = Lane(FIT, 2**30, 60.0)
    yield found
    found.close()


def equal(one: tuple[np.ndarray, tuple[np.ndarray, ...]], other: tuple[np.ndarray, tuple[np.ndarray, ...]]) -> bool:
    pairs = zip((one[0], *one[1]), (other[0], *other[1]), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_a_process_says_what_this_one_would(lane: Lane) -> None:
    assert equal(lane.decode(png(40)), decode.read(png(40), FIT))
    for content in (b"", b"text", png(40)[:100]):
        with pytest.raises(UnreadableError) as there:
            lane.decode(content)
        with pytest.raises(UnreadableError) as here:
            decode.read(content, FIT)
        assert str(there.value) == str(here.value)
    assert equal(lane.decode(png(40)), decode.read(png(40), FIT))


def test_a_file_that_takes_too_long_costs_its_process_alone(lane: Lane) -> None:
    lane.start()
    first = lane._process
    lane._seconds = 0.0
    with pytest.raises(SlowError):
        lane.decode(png(3000))
    assert first is not None
    assert not first.is_alive()
    lane._seconds = 60.0
    assert equal(lane.decode(png(40)), decode.read(png(40), FIT))


def test_a_file_that_takes_too_much_memory_is_refused() -> None:
    lane = Lane(FIT, 20 * 2**20, 60.0)
    try:
        with pytest.raises(UnreadableError, match=r"[Mm]emory"):
            lane.decode(png(6000))
        assert equal(lane.decode(png(40)), decode.read(png(40), FIT))
    finally:
        lane.close()


def test_a_process_that_was_killed_is_replaced(lane: Lane) -> None:
    lane.start()
    assert lane._process is not None
    lane._process.kill()
    lane._process.join()
    assert equal(lane.decode(png(40)), decode.read(png(40), FIT))


def test_large_files_do_not_hold_up_small_ones_and_wait_no_longer_than_allowed() -> None:
    limits = dataclasses.replace(Limits(), small_bytes=len(png(40)), decode_seconds=0.0)
    decoders = Decoders(FIT, limits)
    try:
        assert equal(asyncio.run(decoders.decode(png(40))), decode.read(png(40), FIT))
        with pytest.raises(UnreadableError, match="takes more than 0 seconds to decode"):
            asyncio.run(decoders.decode(png(2000)))
        hurried = Decoders(FIT, dataclasses.replace(limits, work_seconds=0.0))
        with pytest.raises(RefusedError, match="got no answer within 0 seconds"):
            asyncio.run(hurried.decode(png(40)))
        hurried.close()
    finally:
        decoders.close()
    for one in (decoders._quick, decoders._slow):
        assert one._process is None
