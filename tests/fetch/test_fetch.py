"""What fetch makes of Kaggle's archives: one download, and versions that are recorded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fetch.kaggle_server import (
    ROOT,
    SLUG,
    Handler,
    Server,
    body,
    make_zip,
    status,
    to_storage,
)
from tumorxai.config import Data
from tumorxai.errors import UserError
from tumorxai.fetch import kaggle
from tumorxai.fetch.fetch import fetch
from tumorxai.files import read_json, sha256
from tumorxai.tools import doctor


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
