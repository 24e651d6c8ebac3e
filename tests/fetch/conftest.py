"""Fixtures of the tests that fetch."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import portalocker
import pytest

from tests.fetch.kaggle_server import KEY, PORT, Server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith("KAGGLE_") or name.casefold().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    monkeypatch.setenv("KAGGLE_KEY", KEY)
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    # The client's port is fixed, and tests run side by side, those of several checkouts too.
    alone = portalocker.Lock(Path(tempfile.gettempdir()) / f"tumorxai-tests-{PORT}.lock", timeout=300)
    with alone, Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache" / "owner--some-set.zip"
