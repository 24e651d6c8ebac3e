"""Kaggle's real client against a server on loopback that plays Kaggle and its file storage."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tumorxai.config import Data
from tumorxai.errors import UserError
from tumorxai.fetch import kaggle
from tumorxai.fetch.fetch import fetch
from tumorxai.files import read_json, sha256
from tumorxai.tools import doctor

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


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith("KAGGLE_") or name.casefold().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    monkeypatch.setenv("KAGGLE_KEY", KEY)
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache" / "owner--some-set.zip"


def left(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir())


def download(out: Path) -> None:
    kaggle.download(SLUG, out, pause=0.01)


def refused(out: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        download(out)
    assert "secret" not in str(caught.value)


def test_success_sends_the_key_to_kaggle_and_not_to_the_storage(server: Server, out: Path, capfd) -> None:
    download(out)
    assert out.read_bytes() == server.content
    assert left(out) == [out.name]
    for _, method, path, headers in server.seen:
        assert ("Authorization" in headers) == (path != SIGNED), method
    assert server.seen[0][3]["Authorization"].startswith("Basic ")
    assert "secret" not in "".join(capfd.readouterr())


def test_success_without_a_redirect(server: Server, out: Path) -> None:
    server.api = [whole, whole]
    download(out)
    assert out.read_bytes() == server.content


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (400, "status 400"),
        (401, "the key is not accepted.*kaggle.com/settings"),
        (403, f"kaggle.com/datasets/{SLUG} .*accept its licence"),
        (404, "correct data.sources"),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_refusals_explain_themselves(server: Server, out: Path, code: int, kind: str, message: str) -> None:
    server.api = [status(code, Content_Type=kind)]
    refused(out, message)
    assert left(out) == []
    assert len(server.seen) == 1


def test_no_key(tmp_path: Path) -> None:
    """In a process of its own: the client reads its settings once, as it is imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KAGGLE_")}
    environment |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    program = (
        "import sys; from pathlib import Path; from tumorxai.fetch import kaggle; from tumorxai.errors import run\n"
    )
    program += "run(lambda: kaggle.download('owner/some-set', Path(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.zip")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "no valid key" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "a.zip").exists()


def test_waits_as_long_as_it_is_asked_to(server: Server, out: Path) -> None:
    server.api = [status(429, Retry_After="1")]
    download(out)
    first, second = (when for when, method, _, _ in server.seen if method == "POST")
    assert 1 <= second - first < 8
    assert out.read_bytes() == server.content


def test_does_not_wait_for_an_hour(server: Server, out: Path) -> None:
    server.api = [status(429, Retry_After="3600")]
    refused(out, "status 429 and was asked to wait 3600 s")
    assert left(out) == []


@pytest.mark.parametrize("code", [429, 500, 502, 503])
@pytest.mark.parametrize("where", ["api", "storage"])
def test_tries_again_after_passing_failures(server: Server, out: Path, code: int, where: str) -> None:
    setattr(server, where, [status(code), status(code)])
    download(out)
    assert out.read_bytes() == server.content


def test_gives_up_on_a_lasting_failure(server: Server, out: Path) -> None:
    server.api = [status(500)] * 20
    refused(out, "status 500; expected the archive; run the same command later")
    assert len(server.seen) == kaggle.ATTEMPTS
    assert left(out) == []


def test_nobody_answers(tmp_path: Path, out: Path, server: Server) -> None:
    server.server_close()
    refused(out, r"no whole answer \(ConnectionError\)")
    assert left(out) == []


def test_a_connection_that_falls_silent(server: Server, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(handler: Handler) -> None:
        handler.answer(200, b"PK", length=1000, Content_Type="application/zip")
        handler.wfile.flush()
        time.sleep(0.6)

    monkeypatch.setattr(kaggle, "TIMEOUT", (0.3, 0.3))
    server.storage = [whole, silent]
    download(out)
    assert out.read_bytes() == server.content


def ranges(server: Server) -> list[str]:
    return [headers["Range"] for _, _, _, headers in server.seen if "Range" in headers]


def test_a_cut_is_continued(server: Server, out: Path) -> None:
    server.storage = [whole, cut]  # the first one follows the redirect and is not read
    download(out)
    assert out.read_bytes() == server.content
    (asked,) = ranges(server)
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    assert len(server.content) // 2 - kaggle.CHUNK < start <= len(server.content) // 2
    assert left(out) == [out.name]


def test_a_stopped_download_is_continued_by_the_next_run(server: Server, out: Path) -> None:
    server.storage = [whole, cut]
    server.api = [to_storage] + [status(500)] * kaggle.ATTEMPTS
    refused(out, r"[4-5]\d{5} bytes are kept")
    assert left(out) == [f"{out.name}.part", f"{out.name}.part.version"]
    server.api = []
    download(out)
    assert out.read_bytes() == server.content
    assert len(ranges(server)) == 1
    assert left(out) == [out.name]


@pytest.mark.parametrize("moment", ["before asking", "between asking and reading"])
def test_versions_are_never_mixed(server: Server, out: Path, moment: str) -> None:
    server.storage = [whole, cut]
    server.api = [to_storage] + [status(500)] * kaggle.ATTEMPTS
    refused(out, r"[4-5]\d{5} bytes are kept")
    new = make_zip(seed=100)

    def then_change(handler: Handler) -> None:
        """The old file's head, which the client reads no further; the change comes first, or the client might win."""
        old, version = server.content, server.etag
        server.content, server.etag = new, '"two"'
        handler.answer(200, old, Content_Type="application/zip", ETag=version)

    server.api = []
    if moment == "before asking":
        server.content, server.etag = new, '"two"'
    else:
        server.storage = [then_change]
    download(out)
    assert out.read_bytes() == new


def test_a_part_longer_than_the_archive(server: Server, out: Path) -> None:
    out.with_name(out.name + ".part").write_bytes(bytes(len(server.content) + 5))
    out.with_name(out.name + ".part.version").write_text(server.etag)
    server.storage = [whole, lambda handler: handler.answer(416)]
    download(out)
    assert out.read_bytes() == server.content


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (make_zip()[:600_000], "application/zip", "600000 bytes that begin with b'PK"),
        (b"<!doctype html><title>Sign in</title>", "text/html; charset=utf-8", "a web page"),
        (b"<!doctype html><title>Sign in</title>", "application/octet-stream", "<!doctyp"),
        (b"", "application/zip", "0 bytes"),
        (make_zip().replace(random.Random(3).randbytes(50_000), bytes(50_000)), "application/zip", "no whole zip"),
    ],
    ids=["truncated zip", "web page", "disguised web page", "nothing", "damaged file in the zip"],
)
def test_wrong_content_is_not_kept(server: Server, out: Path, content: bytes, kind: str, message: str) -> None:
    server.storage = [whole, body(content, kind)]
    refused(out, message)
    assert left(out) == []
    download(out)
    assert out.read_bytes() == server.content


def test_fetch_downloads_once_into_the_shared_cache(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUMORXAI_CACHE", str(tmp_path / "shared"))
    monkeypatch.delenv("TUMORXAI_MIRROR", raising=False)
    for run in ("one", "two"):
        fetch(Data(sources=[SLUG]), tmp_path / run, tmp_path / "fetched.json")
        assert (tmp_path / run / "owner--some-set.zip").read_bytes() == server.content
    assert len([path for _, _, path, _ in server.seen if path.endswith("DownloadDataset")]) == 1


def test_fetch_after_a_refusal_leaves_nothing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUMORXAI_CACHE", str(tmp_path / "shared"))
    monkeypatch.delenv("TUMORXAI_MIRROR", raising=False)
    server.api = [status(403)]
    with pytest.raises(UserError, match="licence"):
        fetch(Data(sources=[SLUG]), tmp_path / "out", tmp_path / "fetched.json")
    assert not (tmp_path / "out").exists()


# Versions


@pytest.fixture
def fetched(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """Fetch from the server that plays Kaggle, and what the record says."""
    monkeypatch.setenv("TUMORXAI_CACHE", str(tmp_path / "shared"))
    monkeypatch.delenv("TUMORXAI_MIRROR", raising=False)

    def run() -> dict[str, Any]:
        fetch(Data(sources=[SLUG]), tmp_path / "out", tmp_path / "fetched.json", {SLUG: {"from": "kaggle"}})
        return read_json(tmp_path / "fetched.json")[SLUG]

    return run


def test_the_version_is_recorded_and_remembered(
    server: Server, fetched: Callable[[], dict[str, Any]], tmp_path: Path, capfd
) -> None:
    first = fetched()
    archive = tmp_path / "out/owner--some-set.zip"
    assert first == {
        "from": "kaggle",
        "bytes": len(server.content),
        "sha256": sha256(archive),
        "version": 2,
        "published": "2024-02-17",
    }
    assert (tmp_path / "shared/archives/owner--some-set.zip.version.json").exists()
    assert fetched() == first
    assert "version" not in capfd.readouterr().err


def test_a_newer_version_is_said_and_not_taken(
    server: Server, fetched: Callable[[], dict[str, Any]], tmp_path: Path, capfd
) -> None:
    old = fetched()
    server.version, server.content, server.etag = 3, make_zip(seed=100), '"two"'
    capfd.readouterr()
    assert fetched() == old
    said = capfd.readouterr().err
    cached = tmp_path / "shared/archives/owner--some-set.zip"
    assert "took version 2 of 2024-02-17 from the cache, and version 3 of 2024-03-17 is out" in said
    assert f"remove {cached}" in said
    assert len(said.splitlines()) == 1
    cached.unlink()  # as the line says
    new = fetched()
    assert (new["version"], new["bytes"]) == (3, len(server.content))
    assert (tmp_path / "out/owner--some-set.zip").read_bytes() == server.content


def test_a_version_that_comes_out_during_the_download_is_not_guessed(
    server: Server, fetched: Callable[[], dict[str, Any]]
) -> None:
    def then_publish(handler: Handler) -> None:
        to_storage(handler)
        handler.server.version = 3

    server.api = [then_publish]
    assert fetched()["version"] is None


@pytest.mark.parametrize(
    "about", [status(403), status(500), body(b"<html>", "text/html"), body(b"{}", "application/json")]
)
def test_a_kaggle_that_tells_no_version_breaks_nothing(
    server: Server, fetched: Callable[[], dict[str, Any]], about: Callable[[Handler], None], capfd
) -> None:
    server.about = [about] * 2
    assert fetched()["version"] is None
    assert "Traceback" not in "".join(capfd.readouterr())


def test_an_archive_of_the_cache_needs_no_kaggle(
    server: Server, fetched: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    first = fetched()
    server.about = [status(401)]
    assert fetched() == first

    over, waited = threading.Event(), []

    def silent(handler: Handler) -> None:
        waited.append(over.wait(20))

    monkeypatch.setattr(kaggle, "PATIENCE", 0.2)
    server.about = [silent]
    assert fetched() == first
    assert waited == []  # the answer is still owed
    over.set()
    server.server_close()
    capfd.readouterr()
    assert fetched() == first
    assert capfd.readouterr().err == ""


def test_a_remembered_version_is_that_of_one_archive_only(
    server: Server, fetched: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    fetched()
    (tmp_path / "shared/archives/owner--some-set.zip").write_bytes(make_zip(seed=100))  # put there by hand
    assert fetched()["version"] is None
    (tmp_path / "shared/archives/owner--some-set.zip.version.json").write_text("[]")
    assert fetched()["version"] is None


def test_the_doctor_tells_versions(
    server: Server, fetched: Callable[[], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def versions() -> doctor.Check:
        return next(check for check in doctor.examine(tmp_path) if check.name == "versions")

    params = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(params)
    assert versions().found == "no data set from Kaggle in data.sources"
    (tmp_path / "params.yaml").write_text(params.replace("sources: [phantom]", f"sources: [{SLUG}]"))
    assert versions().found == "nothing fetched yet"
    fetched()
    (tmp_path / "data").mkdir()
    (tmp_path / "fetched.json").rename(tmp_path / "data/fetched.json")
    assert (versions().state, versions().found) == ("ok", f"{SLUG}: version 2 of 2024-02-17, the newest")
    server.version = 3
    found = versions()
    assert (found.state, found.found) == ("warn", f"{SLUG}: version 2 of 2024-02-17, newest version 3 of 2024-03-17")
    assert "owner--some-set.zip and run `dvc repro" in found.advice
    server.about = [status(500)]
    assert versions().found == f"{SLUG}: version 2 of 2024-02-17, no answer from Kaggle"
    monkeypatch.delenv("KAGGLE_KEY")
    assert versions().found == f"{SLUG}: version 2 of 2024-02-17, Kaggle not asked"
    (tmp_path / "data/fetched.json").write_text("{")
    assert versions().state == "warn"
