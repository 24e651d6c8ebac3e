"""Around every request: who may ask, what every answer says to the browser, and what is counted."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tumorxai.serve.limits import Limits
from tumorxai.serve.prometheus import Metrics
from tumorxai.serve.refusals import SENTENCES

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # under no-referrer a browser sends its own forms with Origin: null
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
COMPUTING = ("/api/", "/cases", "/images/")  # what the networks are asked for; all other pages stand ready
Answer = Callable[[Request, int, str], Response]  # a status and a sentence as a page or as JSON


def host_name(value: str) -> str:
    """A Host header without its port, in lower case; empty where it is no name or address with a port."""
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^\[\]:]*)(:\d*)?", value.strip().lower())
    return found[1] if found else ""


def refusal(headers: Headers, limits: Limits, method: str, path: str) -> tuple[int, str] | None:
    """Why a request is not answered: status and sentence.

    A page elsewhere could point its own name at the loopback address and read the answers (DNS rebinding), send forms
    here in the user's name, or make its visitors' browsers ask for what takes long to compute (an <img> of a heat-map,
    a page that it opens). The first shows in the Host header, the second in Origin, the third in Sec-Fetch-Site, which
    a link that somebody follows has too: it is answered where nothing is computed.
    """
    host = headers.get("host", "")
    if host_name(host) not in limits.hosts:
        return 400, f"got a Host header that is not served; expected one of {', '.join(limits.hosts)}; use that address"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.strip().lower():
        return 403, "got a request from another site; expected one from this page; open the page itself"
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        linked = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if not (linked and method == "GET") or path.startswith(COMPUTING):
            return 403, "got a request from another site; expected one from this page; open the page itself"
    return None


class Guard:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics, answer: Answer) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        begun = False

        async def with_headers(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            if (refused := refusal(Headers(scope=scope), self._limits, scope["method"], scope["path"])) is not None:
                await self._answer(Request(scope), *refused)(scope, receive, with_headers)
            else:
                await self._app(scope, receive, with_headers)
        except Exception:
            if not begun:
                await self._answer(Request(scope), 500, SENTENCES[500])(scope, receive, with_headers)
            raise  # the server logs it
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.count(route, scope["method"], status, time.perf_counter() - started)
