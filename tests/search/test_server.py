"""A server gives the answers of the embedded index, is filled at most once, and fails with one sentence.

``QDRANT_URL`` (and ``QDRANT_API_KEY``) names a real server for the congruence test; without it, that one is skipped and
the others talk to the loopback.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from qdrant_client import QdrantClient

from tests.search.loopback import Loopback
from tests.search.test_index import FILTERED, exact, planted
from tumorxai.config import Hnsw, Quantisation, Search
from tumorxai.errors import UserError
from tumorxai.search.index import Index, build

SECRET = "s3cret-key-of-nobody"
ONE = "a" * 64  # fingerprints
TWO = "b" * 64


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    with Loopback() as server:
        yield server


def fill(path: Path, url: str, fingerprint: str = ONE, **settings: object) -> None:
    vectors, payloads, ids = planted()
    build(path, vectors, payloads, ids, fingerprint, Search.model_validate({"url": url, "timeout": 5, **settings}))


@pytest.mark.parametrize("kind", ["embedded", "loopback", "server"])
def test_congruence(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Filters, ties at the cut, more asked for than there are: the same answers from everywhere."""
    url = ""
    if kind == "loopback":
        url = request.getfixturevalue("loopback").url
    elif kind == "server":
        url = os.environ.get("QDRANT_URL", "")
        if not url:
            pytest.skip("QDRANT_URL names no server")
    fill(tmp_path / "index", url)
    vectors, payloads, ids = planted()
    queries = np.concatenate([vectors[:10], np.random.default_rng(5).normal(size=(10, 24))]).astype(np.float32)
    counts = np.array([1, 2, 7, 30, 400] * 4)
    try:
        with Index(tmp_path / "index", ONE) as index:
            assert len(index) == 300
            assert index.values("source") == ["source 0", "source 1", "source 2"]
            for where in FILTERED:
                for query, count, row in zip(queries, counts, index.nearest(queries, counts, where), strict=True):
                    assert [hit.image_id for hit in row] == exact(vectors, payloads, ids, query, count, where)
                    assert [hit.payload for hit in row] == [payloads[ids.tolist().index(hit.image_id)] for hit in row]
    finally:
        if kind == "server":
            name = json.loads((tmp_path / "index" / "server.json").read_text())["collection"]
            QdrantClient(url=url, api_key=os.environ.get("QDRANT_API_KEY")).delete_collection(name)


def test_settings_and_filters_reach_the_server(loopback: Loopback, tmp_path: Path) -> None:
    hnsw, int8 = Hnsw(m=24, ef_construct=200, ef=77), Quantisation(kind="int8", quantile=0.95, oversampling=3)
    fill(tmp_path / "index", loopback.url, hnsw=hnsw.model_dump(), quantisation=int8.model_dump())
    vectors, _, _ = planted()
    with Index(tmp_path / "index", ONE) as index:
        index.nearest(vectors[:1], [3], {"label": ["class 1", "class 2"], "side": "train"})
    created = next(r for r in loopback.requests if r.method == "PUT" and r.path.count("/") == 2)
    assert created.path.startswith(f"/collections/tumorxai-{ONE[:16]}-")
    assert created.body["vectors"] == {"size": 24, "distance": "Cosine"}
    assert created.body["hnsw_config"] == {"m": 24, "ef_construct": 200}
    assert created.body["quantization_config"]["scalar"] == {"type": "int8", "quantile": 0.95, "always_ram": True}
    assert created.body["metadata"] == {"encoder": ONE}
    assert {r.body["field_name"] for r in loopback.sent("PUT", "/index")} == {"label", "source", "sequence", "side"}
    asked = loopback.sent("POST", "/query/batch")[0].body["searches"][0]
    assert asked["params"] == {"hnsw_ef": 77, "quantization": {"rescore": True, "oversampling": 3.0}}
    assert asked["filter"]["must"] == [
        {"key": "label", "match": {"any": ["class 1", "class 2"]}},
        {"key": "side", "match": {"any": ["train"]}},
    ]


def test_the_key_is_sent_and_stands_nowhere(
    loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", SECRET)
    loopback.key = SECRET
    fill(tmp_path / "index", loopback.url)
    Index(tmp_path / "index", ONE).__exit__(None, None, None)
    assert {request.headers.get("api-key") for request in loopback.requests} == {SECRET}
    loopback.error = 500  # the answer repeats what was sent
    with pytest.raises(UserError, match="got 500 from the Qdrant server") as error:
        Index(tmp_path / "index", ONE)
    files = "".join(path.read_text() for path in (tmp_path / "index").iterdir())
    assert SECRET not in str(error.value) + files + "".join(capfd.readouterr())


def test_no_or_a_wrong_key_is_a_message(loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loopback.key = SECRET
    with pytest.raises(UserError, match=r"got 401 .* set QDRANT_API_KEY"):
        fill(tmp_path / "index", loopback.url)
    monkeypatch.setenv("QDRANT_API_KEY", "wrong-key")
    with pytest.raises(UserError, match=r"got 401 .* set QDRANT_API_KEY") as error:
        fill(tmp_path / "index", loopback.url)
    assert "wrong-key" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", [f"{SECRET}\nX: y", f"{SECRET}é"])
def test_a_malformed_key_is_not_repeated(
    loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", key)
    with pytest.raises(UserError, match="characters that no key has") as error:
        fill(tmp_path / "index", loopback.url)
    assert SECRET not in str(error.value)
    assert loopback.requests == []


def test_a_key_does_not_leave_in_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", SECRET)
    with pytest.raises(UserError, match="expected https") as error:
        fill(tmp_path / "index", "http://192.0.2.1:6333")
    assert SECRET not in str(error.value)


def test_indexing_again_sends_nothing(loopback: Loopback, tmp_path: Path) -> None:
    fill(tmp_path / "a", loopback.url)
    sent = len(loopback.sent("PUT", "/points"))
    assert sent == 2  # 300 cases
    fill(tmp_path / "b", loopback.url)
    assert len(loopback.sent("PUT", "/points")) == sent
    assert (tmp_path / "a" / "server.json").read_bytes() == (tmp_path / "b" / "server.json").read_bytes()
    fill(tmp_path / "c", loopback.url, TWO)
    names = {json.loads((tmp_path / name / "server.json").read_text())["collection"] for name in "ac"}
    assert len(names) == 2  # another encoder's index stands beside it


def test_an_interrupted_upload_serves_nothing_and_is_completed(loopback: Loopback, tmp_path: Path) -> None:
    fill(tmp_path / "index", loopback.url)
    old = (tmp_path / "index" / "server.json").read_bytes()
    loopback.uploads = 1
    with pytest.raises(UserError, match=r"got 503 .*disk full"):
        fill(tmp_path / "index", loopback.url, TWO)
    assert (tmp_path / "index" / "server.json").read_bytes() == old  # the old index, whole
    with Index(tmp_path / "index", ONE) as index:
        assert len(index) == 300
    loopback.uploads = None
    fill(tmp_path / "index", loopback.url, TWO)
    with Index(tmp_path / "index", TWO) as index:
        assert len(index) == 300


def test_another_encoder_is_refused(loopback: Loopback, tmp_path: Path) -> None:
    fill(tmp_path / "index", loopback.url)
    with pytest.raises(UserError, match=r"got an index of the encoder aaaaaaaaaaaa .* expected bbbbbbbbbbbb"):
        Index(tmp_path / "index", TWO)


def test_a_server_that_keeps_no_fingerprint_is_refused(loopback: Loopback, tmp_path: Path) -> None:
    loopback.metadata = False
    fill(tmp_path / "index", loopback.url)
    with pytest.raises(UserError, match=r"1\.16"):
        Index(tmp_path / "index", ONE)


def test_a_collection_that_is_gone_or_was_changed_is_a_message(loopback: Loopback, tmp_path: Path) -> None:
    fill(tmp_path / "index", loopback.url)
    name = json.loads((tmp_path / "index" / "server.json").read_text())["collection"]
    vectors, _, ids = planted()
    with Index(tmp_path / "index", ONE) as index:
        loopback.client.delete(name, [int(ids[0])])
        with pytest.raises(UserError, match=r"no collection .* of 300 cases on .*dvc repro --force search"):
            Index(tmp_path / "index", ONE)
        loopback.client.delete_collection(name)
        with pytest.raises(UserError, match="got 404 from the Qdrant server"):  # while it was open
            index.nearest(vectors[:1], [3])
    with pytest.raises(UserError, match=r"no collection .*dvc repro --force search"):
        Index(tmp_path / "index", ONE)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"collection": "a", "cases": 1, "search": {"url": "host"}}'])
def test_a_pointer_that_points_nowhere_is_a_message(tmp_path: Path, content: str) -> None:
    (tmp_path / "server.json").write_text(content)
    with pytest.raises(UserError, match="does not say where the index is"):
        Index(tmp_path, ONE)


def test_no_server_and_a_slow_one_are_messages(loopback: Loopback, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UserError, match=r"got no answer .*Connect.* start the server"):
        fill(tmp_path / "index", nobody)
    loopback.delay = 2
    with pytest.raises(UserError, match=r"got no answer .*Timeout.* within search.timeout"):
        fill(tmp_path / "index", loopback.url, timeout=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:6333", "got search.url 'localhost:6333'; expected http"),
        ("ftp://host", "expected http"),
        ("http://", "expected http"),
        ("http://host:70000", "expected http"),
        (f"https://me:{SECRET}@host:6333", "expected the address alone"),
        (f"https://host:6333/?api_key={SECRET}", "expected the address alone"),
    ],
)
def test_an_address_that_is_none(url: str, message: str) -> None:
    with pytest.raises(ValidationError) as error:
        Search(url=url)
    said = str(error.value.errors()[0]["ctx"]["error"])
    assert message in said
    assert SECRET not in said
