"""Fixtures of the tests that look at data outside the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from tumorxai.archives.places import CACHE, MIRROR
from tumorxai.inputs import fingerprint


@pytest.fixture
def no_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory of the test's own, and no mirror."""
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.delenv(MIRROR, raising=False)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe files of this very moment, as if they had been written long ago."""
    monkeypatch.setattr(fingerprint, "SETTLED", -(10**12))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose contents were read."""
    names: list[str] = []
    real = fingerprint._read
    monkeypatch.setattr(fingerprint, "_read", lambda path, bar: names.append(path.name) or real(path, bar))
    return names
