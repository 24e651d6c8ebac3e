"""Uploaded files are decoded in processes of their own, with bounds on memory and time.

Small files and large ones have a process each: a file that takes long keeps none waiting but others like it. One that
takes too long, or too much memory, costs its process, and the next file gets a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import resource
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tumorxai.archives.archives import UnreadableError
from tumorxai.archives.images import Fit
from tumorxai.dedupe.hashing import Images
from tumorxai.run.decode import read
from tumorxai.serve.limits import Limits
from tumorxai.serve.refusals import RefusedError

CONTEXT = multiprocessing.get_context("forkserver")  # a fork of the server itself would copy its threads' locks
CONTEXT.set_forkserver_preload(["tumorxai.serve.decoding"])
START = 60.0  # seconds that a process may take to import what it needs

Decoded = tuple[NDArray[np.uint8], Images]


def _serve(pipe: Connection, fit: Fit, memory: int) -> None:
    """The process: it is sent files and answers with what is in them, or with why nothing is."""
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + memory, has + memory))
    pipe.send(None)
    while True:
        try:
            content = pipe.recv_bytes()
        except (EOFError, OSError, KeyboardInterrupt):  # the server has ended
            return
        try:
            pipe.send(read(content, fit))
        except UnreadableError as error:
            pipe.send(str(error))
        except MemoryError:
            pipe.send("it takes too much memory to decode")


class SlowError(Exception):
    """A file takes longer to decode than it may."""


class Lane:
    """One process, and the thread that waits for it."""

    def __init__(self, fit: Fit, memory: int, seconds: float) -> None:
        self._fit, self._memory, self._seconds = fit, memory, seconds
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="decoding")

    def start(self) -> None:
        """Have a process that is ready."""
        if self._process is not None and self._process.is_alive():
            return
        self.stop()
        self._pipe, other = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_serve, args=(other, self._fit, self._memory), daemon=True)
        self._process.start()
        other.close()
        if not self._pipe.poll(START):
            raise OSError("a process to decode images in did not start")
        self._pipe.recv()

    def decode(self, content: bytes) -> Decoded:
        """What is in a file.

        Raises:
            UnreadableError: it is no image that can be used, or the process has ended over it.
            SlowError: it takes longer than this lane allows.
        """
        try:
            self.start()
            self._pipe.send_bytes(content)
            if not self._pipe.poll(self._seconds):
                raise SlowError
            answer: Decoded | str = self._pipe.recv()
        except SlowError:
            self.stop()
            raise
        except (EOFError, OSError):
            self.stop()
            raise UnreadableError("decoding it ended the process, most likely for want of memory") from None
        if isinstance(answer, str):
            raise UnreadableError(answer)
        return answer

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None

    def close(self) -> None:
        """End the process and the thread; what is being decoded is given up."""
        process = self._process
        if process is not None and process.is_alive():
            process.kill()
        self.thread.shutdown(wait=True, cancel_futures=True)
        self.stop()


class Decoders:
    """The processes of one server; used from one event loop.

    Args:
        fit: how images become squares.
        limits: of the server.
    """

    def __init__(self, fit: Fit, limits: Limits) -> None:
        self._small = limits.small_bytes
        self._seconds, self._wait = limits.decode_seconds, limits.work_seconds
        self._quick = Lane(fit, limits.decode_memory, limits.quick_seconds)
        self._slow = Lane(fit, limits.decode_memory, limits.decode_seconds)

    def start(self) -> None:
        """Start the processes, so that the first visitor does not wait for them."""
        for lane in (self._quick, self._slow):
            lane.thread.submit(lane.start)

    async def decode(self, content: bytes) -> Decoded:
        """What is in a file: its pixels as the pack has them, and the two sizes by which copies are found.

        Raises:
            UnreadableError: it is no image that can be used, or takes too long or too much memory to decode.
        RefusedError: 504 when too many files are before it.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._wait):
                if len(content) <= self._small:
                    with contextlib.suppress(SlowError):  # a bomb, or a machine with much to do
                        return await loop.run_in_executor(self._quick.thread, self._quick.decode, content)
                return await loop.run_in_executor(self._slow.thread, self._slow.decode, content)
        except SlowError:
            raise UnreadableError(f"it takes more than {self._seconds:g} seconds to decode") from None
        except TimeoutError:
            raise RefusedError(
                504, f"got no answer within {self._wait:g} seconds; try again when less is going on"
            ) from None

    def close(self) -> None:
        """End the processes."""
        for lane in (self._quick, self._slow):
            lane.close()
