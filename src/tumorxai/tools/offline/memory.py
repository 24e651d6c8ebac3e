"""How many runs fit beside each other into the memory of a card, or of the machine where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

SPARE = 1.5  # times what a run takes now has to be free for one more: runs take more in later stages
SETTLE = 60.0  # seconds from a run's start until its memory is read: by then it trains


class Slots:
    """Whether one more run may start.

    Args:
        limit: of runs at once; 0: as many as fit.
        look: gives free and used bytes of the memory that runs share.
        clock: in seconds.
    """

    def __init__(
        self, limit: int, look: Callable[[], tuple[int, int]] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit, self.look, self.clock = limit, look or memory, clock
        self.before = 0 if limit else self.look()[1]
        self.last = -SETTLE
        self.largest = 0.0  # bytes of one run, as far as was seen

    def free(self, running: int) -> bool:
        """Whether one more may start beside ``running`` ones; the answer yes counts as a start."""
        if self.limit:
            return running < self.limit
        now = self.clock()
        if running:
            if running >= (os.cpu_count() or 1) or now < self.last + SETTLE:
                return False
            free, used = self.look()
            self.largest = max(self.largest, (used - self.before) / running)
            if free < SPARE * self.largest:
                return False
        self.last = now
        return True


def memory() -> tuple[int, int]:
    """Free and used bytes of the first visible card, or of the machine where there is none or nothing to ask it by."""
    card = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if card and (tool := shutil.which("nvidia-smi")):
        asked = [tool, f"--id={card}", "--query-gpu=memory.free,memory.used", "--format=csv,noheader,nounits"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode == 0 and done.stdout.strip():
            free, used = (int(value) * 2**20 for value in done.stdout.splitlines()[0].split(","))
            return free, used
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    kilobytes = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
    free = 1024 * kilobytes["MemAvailable"]
    return free, 1024 * kilobytes["MemTotal"] - free
