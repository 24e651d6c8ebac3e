"""Kaggle's real client against a server on loopback that plays Kaggle and its file storage."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fetch.kaggle_server import (
    SIGNED,
    SLUG,
    Handler,
    Server,
    body,
    cut,
    download,
    left,
    make_zip,
    refused,
    status,
    to_storage,
    whole,
)
from tumorxai.fetch import kaggle


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
