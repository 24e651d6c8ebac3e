"""A server that plays Kaggle on the loopback, and what tests ask of a download from it."""

from __future__ import annotations

import io
import json
import random
import time
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tumorxai.errors import UserError
from tumorxai.fetch import kaggle

ROOT = Path(__file__).resolve().parents[2]
SLUG = "owner/some-set"
KEY = "0123456789secret"
PORT = 7777  # where the client looks under KAGGLE_API_ENVIRONMENT=TEST
SIGNED = "/storage/archive.zip?X-Goog-Signature=alsosecret"


def make_zip(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(20):
            archive.writestr(f"glioma/{number}.jpg", random.Random(seed + number).randbytes(50_000))
    return stream.getvalue()


class Server(ThreadingHTTPServer):
    """Answers each request with the next act of its script, and with success when the script has ended."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", PORT), Handler)
        self.content, self.etag = make_zip(), '"one"'
        self.api: list[Callable[[Handler], None]] = []
        self.storage: list[Callable[[Handler], None]] = []
        self.about: list[Callable[[Handler], None]] = []
        self.version = 2
        self.seen: list[tuple[float, str, str, dict[str, str]]] = []  # time, method, path, headers

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: the client closes an answer that it does not read."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.note()
        assert b"some-set" in body
        if self.path == "/api/v1/datasets.DatasetApiService/GetDataset":
            (self.server.about.pop(0) if self.server.about else current)(self)
            return
        assert self.path == "/api/v1/datasets.DatasetApiService/DownloadDataset"
        (self.server.api.pop(0) if self.server.api else to_storage)(self)

    def do_GET(self) -> None:
        self.note()
        (self.server.storage.pop(0) if self.server.storage else whole)(self)

    def note(self) -> None:
        self.server.seen.append((time.monotonic(), self.command, self.path, dict(self.headers)))

    def answer(self, code: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


def to_storage(handler: Handler) -> None:
    handler.answer(302, Location=f"http://127.0.0.1:{PORT}{SIGNED}")


def current(handler: Handler) -> None:
    """What Kaggle tells of a data set, as far as it matters here."""
    about = {
        "ref": SLUG,
        "title": "Some set",
        "currentVersionNumber": handler.server.version,
        "lastUpdated": f"2024-0{handler.server.version}-17T09:30:00.1234567Z",
    }
    handler.answer(200, json.dumps(about).encode(), Content_Type="application/json; charset=utf-8")


def status(code: int, **headers: str) -> Callable[[Handler], None]:
    def act(handler: Handler) -> None:
        headers.setdefault("Content_Type", "application/json")
        handler.answer(code, b'{"code": %d, "message": "no"}' % code, **headers)

    return act


def body(content: bytes, kind: str = "application/zip") -> Callable[[Handler], None]:
    return lambda handler: handler.answer(200, content, Content_Type=kind, ETag='"odd"')


def whole(handler: Handler) -> None:
    """The file, or the part asked for if the version is still the same, as Google's storage does it."""
    server = handler.server
    asked = handler.headers.get("Range")
    common = {"Content_Type": "application/zip", "ETag": server.etag, "Accept_Ranges": "bytes"}
    if asked and handler.headers.get("If-Range") == server.etag:
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        total = len(server.content)
        handler.answer(206, server.content[start:], Content_Range=f"bytes {start}-{total - 1}/{total}", **common)
    else:
        handler.answer(200, server.content, **common)


def cut(handler: Handler) -> None:
    """Half of the file, announced as the whole, then a closed connection."""
    content = handler.server.content
    handler.answer(
        200, content[: len(content) // 2], length=len(content), Content_Type="application/zip", ETag=handler.server.etag
    )
    handler.wfile.flush()
    handler.close_connection = True


def left(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir())


def download(out: Path) -> None:
    kaggle.download(SLUG, out, pause=0.01)


def refused(out: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        download(out)
    assert "secret" not in str(caught.value)
