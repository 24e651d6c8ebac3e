"""Whatever is sent, the answer is a sentence with a status of 400 or above, and the server goes on."""

from __future__ import annotations

import asyncio
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request

from tests.serve.conftest import png
from tumorxai.run.case import Workspace
from tumorxai.serve import uploads
from tumorxai.serve.limits import Limits
from tumorxai.serve.refusals import RefusedError

UPLOADS = ("/api/predict", "/api/explain", "/api/search", "/api/case", "/cases")


def bomb() -> bytes:
    """A valid PNG of 40,000 x 40,000 pixels in a few kilobytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(5001 * 40_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows[:60_000]) + chunk(b"IEND", b"")


FILES = {
    "empty": (b"", "0 bytes"),
    "text": (b"this is no image, whatever its name says\n" * 50, "no image of a known format"),
    "html": (b"<html><script>alert(1)</script></html>", "no image of a known format"),
    "bomb": (bomb(), "too many pixels"),
    "damaged": (png(np.zeros((64, 64), np.uint8))[:60], "cannot be decoded"),
    "tiny": (png(np.zeros((4, 4), np.uint8)), "at least 16 x 16"),
    "dicom": (bytes(128) + b"DICM" + bytes(64), "DICOM"),
    "zip": (b"PK\x03\x04" + bytes(100), "no image of a known format"),
}


def sentence(response: object) -> str:
    """The one sentence of a refusal, from JSON or out of the page's alert."""
    if response.headers["content-type"] == "application/json":  # type: ignore[attr-defined]
        content = response.json()  # type: ignore[attr-defined]
        assert set(content) == {"error"}
        return str(content["error"])
    text = response.text  # type: ignore[attr-defined]
    assert text.count('role="alert">') >= 1
    return text.split('role="alert">')[1].split("</p>")[0]


@pytest.fixture
def traces(own: Workspace) -> Iterator[None]:
    """Holds that a test leaves no file behind, in the run or among the temporary files."""

    def files() -> set[Path]:
        found = set(own.root.rglob("*"))
        return found | {Path(entry.path) for entry in os.scandir(tempfile.gettempdir()) if entry.is_file()}

    before = files()
    yield
    assert files() - before == set()


@pytest.mark.usefixtures("traces")
@pytest.mark.parametrize("path", UPLOADS)
@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_image(client: TestClient, path: str, kind: str) -> None:
    content, said = FILES[kind]
    response = client.post(path, files={"image": ("../../etc/scan.png", content, "image/png")})
    assert response.status_code == 422
    assert said in sentence(response)
    assert "Traceback" not in response.text
    assert "etc/scan" not in response.text


@pytest.mark.usefixtures("traces")
@pytest.mark.parametrize("path", UPLOADS)
def test_too_large_however_it_is_sent(client: TestClient, path: str) -> None:
    response = client.post(path, files={"image": ("a.png", bytes(1_000_000), "image/png")})
    assert response.status_code == 413
    assert "expected at most 0.3 MB" in sentence(response)

    def pieces() -> Iterator[bytes]:  # no Content-Length
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
        for _ in range(200):
            yield bytes(10_000)
        yield b"\r\n--b--\r\n"

    response = client.post(path, content=pieces(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert response.status_code == 413


@pytest.mark.parametrize("path", UPLOADS)
def test_fifty_at_once(client: TestClient, path: str, picture: bytes) -> None:
    response = client.post(path, files=[("image", (f"{i}.png", picture, "image/png")) for i in range(50)])
    assert response.status_code == 400
    assert "one by one" in sentence(response)


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (415, {"content": b"abc"}),
        (415, {"data": {"image": "abc"}}),
        (415, {"json": {"image": "abc"}}),
        (422, {"files": {"other": ("a.png", b"abc")}}),
        (422, {"files": {"image": (None, b"a text field")}}),
        (400, {"content": b"abc", "headers": {"content-type": "multipart/form-data"}}),
        (422, {"content": b"--x\r\nabc", "headers": {"content-type": "multipart/form-data; boundary=x"}}),
    ],
)
@pytest.mark.parametrize("path", UPLOADS)
def test_no_form_with_a_file(client: TestClient, path: str, status: int, sent: dict[str, object]) -> None:
    response = client.post(path, **sent)  # type: ignore[arg-type]
    assert response.status_code == status
    assert sentence(response)


def test_a_body_that_never_ends_is_given_up() -> None:
    """On the function itself, as the test client reads a body before it calls the application."""

    async def receive() -> dict[str, object]:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"--b\r\n", "more_body": True}

    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    request = Request({"type": "http", "method": "POST", "path": "/cases", "headers": headers}, receive)
    with pytest.raises(RefusedError, match="no whole file within") as refused:
        asyncio.run(uploads.read(request, Limits(upload_seconds=0.3), lambda _: None))
    assert refused.value.status == 408


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/case?label=rings", "did you mean ring?"),
        ("/api/case?source=nowhere", "expected one of toy"),
        ("/api/search?sequence=T9", "expected one of T1, T2"),
        ("/api/explain?class_name=x", "expected one of"),
        ("/api/explain?methods=guess", "expected one of grad_cam"),
        ("/api/explain?methods=attention_rollout", "choose another method"),
        ("/api/search?label=", "at least 1 character"),
        ("/api/search?count=0", "greater than or equal to 1"),
        ("/api/search?count=many", "valid integer"),
    ],
)
def test_names_and_numbers_that_do_not_exist(client: TestClient, path: str, said: str, picture: bytes) -> None:
    response = client.post(path, files={"image": ("a.png", picture)})
    assert response.status_code == 422
    assert said in sentence(response)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/images/120", 404),
        ("/api/images/-1", 422),
        ("/api/images/x/case", 422),
        ("/api/images/99999999999999999999/case", 404),
        ("/images/120", 404),
        ("/images/99999999999999999999.png", 404),
        ("/images/..%2f..%2fparams.yaml", 404),
        ("/static/../app.py", 404),
        ("/static/%2e%2e/app.py", 404),
        ("/cases/guessed", 404),
        ("/explore?colour=path", 422),
        ("/explore/copies?page=0", 422),
        ("/nothing", 404),
        ("/api/nothing", 404),
        ("/api/predict", 405),
    ],
)
def test_addresses_that_do_not_exist(client: TestClient, path: str, status: int) -> None:
    response = client.get(path)
    assert response.status_code == status
    assert sentence(response)


def test_what_a_client_sends_comes_back_as_text(client: TestClient) -> None:
    response = client.get("/images/1?label=<script>alert(1)</script>")
    assert response.status_code == 422
    assert "<script>alert" not in response.text
    assert "&lt;script&gt;" in response.text


def test_the_server_goes_on(client: TestClient, picture: bytes) -> None:
    for content, _ in FILES.values():
        client.post("/cases", files={"image": ("a.png", content)})
    assert client.post("/api/predict", files={"image": ("a.png", picture)}).status_code == 200
    assert client.get("/health").json()["status"] == "ok"


def test_a_large_upload_stays_in_memory(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(tempfile, "TemporaryFile", never)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", never)
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", never)
    noise = np.random.default_rng(0).integers(0, 256, (520, 520), np.uint8)
    content = png(noise)
    assert len(content) > 200_000
    assert client.post("/api/predict", files={"image": ("a.png", content)}).status_code == 200
