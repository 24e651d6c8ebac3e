"""The connection: a client that does not finish its request is not waited for without end."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from tumorxai.serve.limits import Limits


def protocol(seconds: float) -> type[H11Protocol]:
    """HTTP as uvicorn speaks it, but a connection is closed on which a request's headers are not whole in time.

    uvicorn has no such bound of its own: after the first byte it waits as long as the client likes.

    Args:
        seconds: from the opening of the connection, or from the first byte of a further request.
    """

    class Patient(H11Protocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _wait(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop()  # the headers are whole; the body has its own bound
            elif self._waiting is None and not self.transport.is_closing():
                self._waiting = self.loop.call_later(seconds, self._give_up)

        def _stop(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _give_up(self) -> None:
            self._waiting = None
            if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
                self.transport.close()

    return Patient


def server(app: FastAPI, limits: Limits | None = None) -> uvicorn.Server:
    """A server for the application; it runs until its ``should_exit``."""
    http = protocol((limits or Limits()).header_seconds)
    return uvicorn.Server(uvicorn.Config(app, http=http, log_level="warning", server_header=False))
