"""Whether to compile the encoder: a trial on the device itself, before a training that is long enough to pay for it."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING

import torch

from tumorxai.networks import graphs

if TYPE_CHECKING:
    from tumorxai.pretrain.loop import Loop

TIMED = 20  # steps
LEAST = 600.0  # seconds that the steps left must take for a trial: to compile takes one to two minutes
GAIN = 1.03  # times as fast that compiled steps must be: less is within what two timings differ by


def obstacle(loop: Loop, first: int) -> str | None:
    """Why no trial is made, None if one may be.

    Args:
        loop: about to train.
        first: step that it goes on with.
    """
    if loop.params.pretrain.compile != "auto":
        return f"pretrain.compile is {str(loop.params.pretrain.compile).lower()}"
    found = {
        f"the device is {loop.fabric.device.type}, not cuda": loop.fabric.device.type != "cuda",
        "several processes share a batch": loop.fabric.world_size > 1,
        "fewer steps are left than a trial takes": loop.steps - first < graphs.WARM + 1 + TIMED,
    }
    return next((why for why, holds in found.items() if holds), None)


def run(loop: Loop, first: int) -> str:
    """Time some steps as they are and, if those left take long, compiled; the faster way is the loop's from then on.

    The steps are those that the training begins with, and are taken back, whatever comes of them.

    Args:
        loop: about to train, in training mode.
        first: step that it goes on with.

    Returns:
        What came of it, in words.
    """
    before = copy.deepcopy(loop.state())

    finish = torch.get_device_module(loop.fabric.device).synchronize

    def timed(compiled: bool) -> float:
        loop.compile(compiled)
        try:
            for step in range(first, first + graphs.WARM + 1):  # the last is recorded
                loop.step(step)
            finish()
            started = time.perf_counter()
            for step in range(first + graphs.WARM + 1, first + graphs.WARM + 1 + TIMED):
                loop.step(step)
            finish()
            return (time.perf_counter() - started) / TIMED
        finally:
            loop.restore(copy.deepcopy(before))  # the optimiser goes on with what it is given

    plain = timed(False)
    left, batch = plain * (loop.steps - first), loop.params.pretrain.batch_size
    if left < LEAST:
        return f"not tried: the steps left take about {left:.0f} s, less than the {LEAST:.0f} s that a trial pays for"
    try:
        fast = timed(True)
    except Exception as error:  # whatever the compiler cannot do: the training goes on without it
        loop.compile(False)
        return f"tried and failed: {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    faster = plain >= GAIN * fast
    loop.compile(faster)
    rates = f"{batch / plain:,.0f} images/s as it is, {batch / fast:,.0f} compiled"
    return f"tried: {rates}; {'compiled' if faster else 'not compiled'}"
