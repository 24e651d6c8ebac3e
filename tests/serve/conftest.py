"""A server on the finished toy run."""

from __future__ import annotations

import io
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tumorxai.run.case import Workspace
from tumorxai.serve.app import create
from tumorxai.serve.limits import Limits
from tumorxai.serve.listen import server as server_of

HOME = "http://127.0.0.1"
LIMITS = Limits(header_seconds=1.0, upload_seconds=20.0)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def picture() -> bytes:
    """An image that the run does not know: a ring between those of the toy."""
    y, x = np.mgrid[:40, :40]
    far = np.hypot(x - 18, y - 22)
    noise = np.random.default_rng(7).normal(60, 12, (40, 40))
    return png((noise + 120 * ((far < 8) & (far > 5))).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def own(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A run that belongs to the tests of this module."""
    root = tmp_path_factory.mktemp("served") / "run"
    shutil.copytree(finished, root)
    opened = Workspace.open(root)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(own: Workspace) -> Iterator[TestClient]:
    limits = Limits(upload_bytes=300_000, upload_seconds=2.0)
    with TestClient(create(own, limits), base_url=HOME, follow_redirects=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(own: Workspace) -> Iterator[str]:
    """The address of a real server."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    running = server_of(create(own, LIMITS), LIMITS)
    thread = threading.Thread(target=running.run, args=([listener],))
    thread.start()
    while not running.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"{HOME}:{port}"
    running.should_exit = True
    thread.join()
