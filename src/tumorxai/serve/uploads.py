"""Uploaded files, counted while they arrive and held in memory only."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from tumorxai.serve.limits import Limits
from tumorxai.serve.refusals import RefusedError

FIELD = "image"
FIELDS = 16  # most fields of a form besides the image


class _InMemory(MultiPartParser):
    """Starlette's parser, which would write a file of more than 1 MB to the disk."""

    spool_max_size = sys.maxsize


def megabytes(count: int) -> str:
    """A number of bytes for readers."""
    return f"{count / 1e6:.3g} MB"


class Arriving:
    """The bytes of all bodies that are in memory: many slow ones hold little and keep nobody waiting."""

    def __init__(self, limits: Limits) -> None:
        self._most = limits.uploads * limits.upload_bytes
        self.total = 0

    @contextmanager
    def body(self) -> Iterator[Callable[[int], None]]:
        """One body, until its image has been decoded: call what is yielded with the size of each piece of it."""
        own = 0

        def count(size: int) -> None:
            nonlocal own
            own += size
            self.total += size
            if self.total > self._most:
                raise RefusedError(503, "got more uploads than memory is set aside for; try again later")

        try:
            yield count
        finally:
            self.total -= own


async def _counted(request: Request, limits: Limits, count: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    """The body's pieces. The rest of a body that is too large is read and dropped, so that the client hears why."""
    total = 0
    async for piece in request.stream():
        total += len(piece)
        if total <= limits.upload_bytes:
            count(len(piece))
            yield piece
    if total > limits.upload_bytes:
        most = megabytes(limits.upload_bytes)
        raise RefusedError(413, f"got {megabytes(total)}; expected at most {most}; send a smaller image")


async def read(request: Request, limits: Limits, count: Callable[[int], None]) -> bytes:
    """The one uploaded image of a form.

    Args:
        request: with the form.
        limits: of the body.
        count: told the size of each piece that is kept, see :meth:`Arriving.body`.

    Raises:
        RefusedError: the body is too large, too slow, no form, holds no image or several, or there is no memory for it.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RefusedError(415, f"got no form with a file; expected multipart/form-data with the field {FIELD!r}")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limits.upload_bytes and "expect" in request.headers:
        most = megabytes(limits.upload_bytes)  # a client that asks first is told before it sends anything
        raise RefusedError(413, f"got {megabytes(int(announced))}; expected at most {most}; send a smaller image")
    stream = _counted(request, limits, count)
    parser = _InMemory(request.headers, stream, max_files=1, max_fields=FIELDS)
    try:
        async with asyncio.timeout(limits.upload_seconds):
            try:
                form = await parser.parse()
            except MultiPartException as error:
                async for _ in stream:  # drop the rest
                    pass
                if "Too many files" in error.message:
                    raise RefusedError(400, "got several files; expected one image; send them one by one") from None
                raise RefusedError(400, f"got a form that cannot be read ({error.message}); send it again") from None
    except TimeoutError:
        raise RefusedError(408, f"got no whole file within {limits.upload_seconds:g} seconds; send it again") from None
    except ClientDisconnect:
        raise RefusedError(400, "got a file that ends too early; send it again") from None
    found = form.get(FIELD)
    if not isinstance(found, UploadFile):
        raise RefusedError(422, f"got no file; expected one image in the field {FIELD!r}; choose one")
    content = await found.read()
    await form.close()
    if not content:
        raise RefusedError(422, "got an empty file, 0 bytes; expected an image; choose another")
    return content
