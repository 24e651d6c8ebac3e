"""What every answer carries, what the API and the pages say, and how work is shared out."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import re
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from tests.serve.conftest import HOME, LIMITS
from tumorxai.audit.verdict import Evidence, judge
from tumorxai.errors import UserError
from tumorxai.files import read_array, write_array, write_csv, write_json
from tumorxai.run.case import Workspace
from tumorxai.serve import uploads
from tumorxai.serve.app import create
from tumorxai.serve.cases import Cases, Seen
from tumorxai.serve.explorer import LEAST, components, neighbourhoods, stretched
from tumorxai.serve.guard import HEADERS, POLICY
from tumorxai.serve.limits import Limits
from tumorxai.serve.refusals import RefusedError
from tumorxai.serve.work import Work

PAGES = ["/", "/images/3", "/explore", "/explore/copies", "/explore/labels", "/explore/quarantine", "/runs", "/api"]


@pytest.mark.parametrize("path", [*PAGES, "/api/run", "/health", "/metrics", "/static/style.css", "/nothing"])
def test_every_answer_has_the_security_headers(client: TestClient, path: str) -> None:
    response = client.get(path)
    for name, value in HEADERS.items():
        assert response.headers[name] == value
    assert "unsafe" not in POLICY
    assert response.headers["cache-control"]


@pytest.mark.parametrize("path", PAGES)
def test_pages_need_nothing_inline_and_nothing_from_elsewhere(client: TestClient, path: str) -> None:
    text = client.get(path).text
    assert client.get(path).status_code == 200
    assert not re.search(r"<style|<script(?![^>]* src=)|\sstyle=|\son\w+=|javascript:", text)
    assert not re.search(r"""(?:src|href|action)=["'](?:https?:)?//""", text)
    assert text.count("<h1") == 1


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "",
        "localhost.evil:8000",
        "[::2]",
        "[::1].evil.com",
        "[::1]x:80",
        "127.0.0.1:80.evil.com",
    ],
)
def test_a_host_that_is_not_ours_is_refused(client: TestClient, host: str) -> None:
    response = client.get("/api/run", headers={"host": host})
    assert response.status_code == 400
    assert "Host" in response.json()["error"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:8000"])
def test_loopback_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/api/run", headers={"host": host}).status_code == 200


def test_another_site_may_not_send_forms(client: TestClient, picture: bytes) -> None:
    sent = {"files": {"image": ("a.png", picture)}}
    for origin in ("https://evil.example", "null", "http://127.0.0.1:9"):
        assert client.post("/cases", headers={"origin": origin}, **sent).status_code == 403
    assert client.post("/cases", headers={"origin": "http://127.0.0.1"}, **sent).status_code == 303


def test_another_site_may_not_make_a_browser_compute(client: TestClient) -> None:
    heat = "/api/images/3/case"
    assert client.get(heat, headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}).status_code == 403
    assert client.get(heat, headers={"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}).status_code == 403
    framed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    assert client.get("/", headers=framed).status_code == 403
    assert client.get("/", headers=framed | {"sec-fetch-dest": "document"}).status_code == 200  # a link
    assert client.get(heat, headers={"sec-fetch-site": "same-origin"}).status_code == 200
    linked = framed | {"sec-fetch-dest": "document"}
    for path in (heat, "/images/3"):
        assert client.get(path, headers=linked).status_code == 403
    assert client.get("/images/3", headers=linked | {"sec-fetch-site": "none"}).status_code == 200  # typed in


def test_another_site_may_not_send_a_form_without_an_origin(client: TestClient, picture: bytes) -> None:
    linked = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.post("/cases", headers=linked, files={"image": ("a.png", picture)}).status_code == 403


def test_a_request_that_is_not_finished_is_given_up(server: str) -> None:
    host, port = server.removeprefix("http://").split(":")
    for sent in (b"", b"GET / HTTP/1.1\r\nHost: loc", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(sent)
            if sent.endswith(b"\r\n\r\n"):  # answered, then the next one is half sent
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")
                connection.sendall(b"GET / HT")
            while connection.recv(65536):
                pass  # until the server closes it


def test_slow_bodies_keep_nobody_waiting(server: str, picture: bytes) -> None:
    host, port = server.removeprefix("http://").split(":")
    head = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    head += b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    slow = [socket.create_connection((host, int(port))) for _ in range(30)]
    for connection in slow:
        connection.sendall(head)
    response = httpx.post(f"{server}/api/predict", files={"image": ("a.png", picture)}, timeout=LIMITS.upload_seconds)
    assert response.status_code == 200  # before any of the slow ones was given up
    for connection in slow:
        connection.close()


def test_memory_for_uploads_is_bounded() -> None:
    arriving = uploads.Arriving(Limits(uploads=2, upload_bytes=100))
    with arriving.body() as one, arriving.body() as other:
        one(100)
        other(100)
        with pytest.raises(RefusedError) as refused, arriving.body() as third:
            third(1)
        assert refused.value.status == 503
        assert arriving.total == 200
    assert arriving.total == 0


def test_a_run_without_its_index_is_not_served(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "models" / "index")
    with pytest.raises(UserError, match="dvc repro search"):
        create(Workspace.open(tmp_path / "run"))


def test_the_parts_of_a_case_agree(client: TestClient, picture: bytes) -> None:
    files = {"image": ("a.png", picture)}
    whole = client.post("/api/case?methods=grad_cam&methods=occlusion&count=10", files=files).json()
    assert client.post("/api/predict", files=files).json() == whole["prediction"]
    assert client.post("/api/search?count=10", files=files).json() == whole["similar"]
    assert client.post("/api/explain?methods=grad_cam&methods=occlusion", files=files).json() == whole["maps"]
    said = whole["prediction"]
    assert sum(said["probabilities"].values()) == pytest.approx(1)
    assert said["predicted"] == max(said["probabilities"], key=said["probabilities"].get)
    assert len(whole["similar"]) == 10
    distances = [hit["distance"] for hit in whole["similar"]]
    assert distances == sorted(distances)
    for map in whole["maps"]:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(map["png"]))))
        assert pixels.shape == (32, 32)
        assert map["flat"] or pixels.max() == 255


def test_filters_and_another_class(client: TestClient, picture: bytes) -> None:
    files = {"image": ("a.png", picture)}
    found = client.post("/api/search?count=7&label=bar&sequence=T2", files=files).json()
    assert {(hit["label"], hit["sequence"]) for hit in found} == {("bar", "T2")}
    maps = {
        name: client.post(f"/api/explain?methods=occlusion&class_name={name}", files=files).json()[0]
        for name in ("bar", "disc")
    }
    assert maps["bar"]["explained"] == "bar"
    assert maps["bar"]["png"] != maps["disc"]["png"]


def test_pivot_leaves_out_the_image_and_its_kin(client: TestClient, own: Workspace) -> None:
    found = client.get("/api/images/6/case?count=50").json()["similar"]
    related = own.related(own.case(6))
    assert len(related) > 1
    assert not related & {hit["image_id"] for hit in found}


def test_a_copy_is_told(client: TestClient, own: Workspace) -> None:
    content = own.thumbnail(4)
    said = client.post("/api/predict", files={"image": ("a.png", content)}).json()
    assert said["copy_of"]["image_id"] == 4
    location = client.post("/cases", files={"image": ("a.png", content)}).headers["location"]
    assert 'id="copy"' in client.get(location).text


def test_an_image_of_another_kind_is_told(client: TestClient) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(np.kron(noise % 2 * 255, np.ones((2, 2), np.uint8))).save(stream, "PNG")
    said = client.post("/api/predict", files={"image": ("a.png", stream.getvalue())}).json()
    assert said["unlike"]
    location = client.post("/cases", files={"image": ("a.png", stream.getvalue())}).headers["location"]
    assert 'id="unlike"' in client.get(location).text


def test_the_page_of_an_upload(client: TestClient, picture: bytes) -> None:
    location = client.post("/cases", files={"image": ("a.png", picture)}).headers["location"]
    assert re.fullmatch(r"/cases/[\w-]{22}", location)
    text = client.get(location).text
    assert text.count('class="heat"') >= 4
    assert text.count('class="case" href="/images/') == 10
    filtered = client.get(f"{location}?label=bar").text
    assert re.findall('class="text"><b>(.*?)</b>', filtered) == ["bar"] * 10


def test_the_first_page_begins_with_the_verdict(own: Workspace) -> None:
    path = own.root / "details" / "leakage.json"
    before = path.read_bytes() if path.exists() else None
    for evidence, bad in ((Evidence(24, copies=3), True), (Evidence(24, unknown=9), False)):
        write_json(path, {"verdict": judge(evidence)})
        text = TestClient(create(own), base_url=HOME).get("/").text
        assert judge(evidence)["sentence"] in text
        assert text.index('id="verdict"') < text.index("<form")
        assert ('class="banner bad" id="verdict"' in text) == bad
    path.unlink()
    assert 'id="verdict"' not in TestClient(create(own), base_url=HOME).get("/").text
    if before is not None:
        path.write_bytes(before)


def test_a_run_that_is_replaced_is_shown_as_it_was(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    opened = Workspace.open(tmp_path / "run")
    pages = ("/", "/explore", "/explore/copies", "/explore/labels", "/explore/quarantine", "/runs", "/api/scores")
    with TestClient(create(opened), base_url=HOME) as client:
        before = {path: client.get(path) for path in pages}
        for name in ("data", "models", "details", "metrics"):
            shutil.rmtree(tmp_path / "run" / name)
        after = {path: client.get(path) for path in pages}
        assert client.get("/api/map").status_code == 200
        assert client.get("/images/3").status_code == 200
    for path in pages:
        assert (before[path].status_code, after[path].status_code) == (200, 200), path
        if path != "/explore":  # its map is drawn anew, better, once t-SNE has ended
            assert before[path].text == after[path].text, path


def test_the_explorer_and_the_results(client: TestClient, own: Workspace) -> None:
    for colour in ("label", "source", "side", "sequence"):
        text = client.get(f"/explore?colour={colour}").text
        assert text.count("data-id=") == len(own.dataset.images)
    assert "dim" in client.get("/explore?only=bar").text
    flat = client.get("/api/map").json()
    assert len(flat["points"]) == flat["total"] == len(own.dataset.images)
    assert all(0 <= point[axis] <= 1 for point in flat["points"] for axis in "xy")
    assert client.get("/api/copies").json()[0]["ids"]
    assert client.get("/api/copies?offset=1000").json() == []


def test_the_leaderboard(client: TestClient, own: Workspace) -> None:
    row = {"test_side": "01234567", "test_images": 24, "model": "fine-tuned, seed=<b>", "experiments": "main"}
    for name in ("rank", "accuracy", "balanced_accuracy", "macro_f1", "mcc", "macro_auroc", "nll"):
        row |= {name: 0.5, f"{name}_low": 0.4, f"{name}_high": 0.6}
    path = own.root / "leaderboard" / "leaderboard.csv"
    write_csv(path, pd.DataFrame([row]))
    text = client.get("/runs").text
    path.unlink()
    assert "Test side 01234567" in text
    assert "seed=&lt;b&gt;" in text


def test_places_on_the_map_keep_neighbours(own: Workspace) -> None:
    vectors = np.asarray(read_array(own.root / "models" / "embeddings.npy"), dtype=np.float32)
    reduced = components(vectors)
    places = stretched(neighbourhoods(reduced))
    assert places.min() == 0
    assert places.max() == 1

    def nearest(values: np.ndarray) -> np.ndarray:
        far = np.linalg.norm(values[:, None] - values[None], axis=2)
        np.fill_diagonal(far, np.inf)
        return far.argsort(axis=1)

    near = nearest(places)[:, :10]
    kept = np.mean([closest in row for closest, row in zip(nearest(reduced)[:, 0], near, strict=True)])
    assert kept > 0.6  # by chance 10 of 119
    assert stretched(np.ones((3, 1), np.float32)).tolist() == [[0, 0]] * 3
    assert len(vectors) > LEAST


def test_metrics_count(client: TestClient) -> None:
    client.get("/nothing")
    client.request("BREW", "/nothing")
    text = client.get("/metrics").text
    assert re.search(r'tumorxai_requests_total\{route="none",method="GET",status="404"\} [1-9]', text)
    assert 'method="other"' in text
    assert "BREW" not in text
    assert re.search(r"process_resident_memory_bytes \d", text)


def test_the_schema_names_what_the_run_has(client: TestClient) -> None:
    schema = client.get("/api/openapi.json").json()
    parameters = {each["name"]: each["schema"] for each in schema["paths"]["/api/case"]["post"]["parameters"]}
    assert parameters["label"]["enum"] == ["bar", "disc", "ring"]
    assert "grad_cam" in parameters["methods"]["items"]["enum"]
    assert "multipart/form-data" in schema["paths"]["/api/case"]["post"]["requestBody"]["content"]


def test_cases_are_forgotten(own: Workspace) -> None:
    def seen() -> Seen:
        return Seen(own.case(0), own.predict(own.case(0)))

    cases = Cases(most=2, seconds=0.05)
    names = [cases.put(seen()) for _ in range(3)]
    assert cases.get(names[0]) is None
    assert cases.get(names[2]) is not None
    time.sleep(0.06)
    assert len(cases) == 0


def test_work_waits_is_bounded_and_ends() -> None:
    async def scenario() -> None:
        work = Work(Limits(workers=1, queue=2, work_seconds=5))
        hold = threading.Event()
        first = [asyncio.create_task(work.run(hold.wait, 4)) for _ in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(RefusedError) as refused:
            await work.run(hold.wait)
        assert refused.value.status == 503
        hold.set()
        assert await asyncio.gather(*first) == [True] * 3
        assert work.pending == 0
        assert await work.run(sum, [1, 2]) == 3
        assert await work.run(torch.get_num_threads) == 1  # or the workers would get in each other's way
        work.close()

        late = Work(Limits(workers=1, work_seconds=0.1))
        with pytest.raises(RefusedError) as slow:
            await late.run(time.sleep, 0.4)
        assert slow.value.status == 504
        assert late.pending == 1  # the thread has not ended yet
        await asyncio.sleep(0.5)
        assert late.pending == 0
        late.close()

    asyncio.run(scenario())


@pytest.mark.slow
def test_many_clients_lose_nothing(server: str, picture: bytes) -> None:
    def one(_: int) -> int:
        with httpx.Client(base_url=server, timeout=60) as browser:
            answers = [browser.post("/api/case?count=3", files={"image": ("a.png", picture)}) for _ in range(2)]
        assert len({answer.text for answer in answers}) == 1
        return sum(answer.status_code == 200 for answer in answers)

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(one, range(16))) == 32


def test_a_pack_that_is_cut_under_the_server_is_told_and_one_that_is_replaced_stays(
    finished: Path, tmp_path: Path, picture: bytes
) -> None:
    """Reading a mapped file behind its new end would end the process; reading it anew would mix two runs."""
    shutil.copytree(finished, tmp_path / "run")
    pack = tmp_path / "run" / "data" / "pack.npy"
    with TestClient(create(Workspace.open(tmp_path / "run")), base_url=HOME) as client:
        known = client.get("/images/3.png").content
        write_array(pack, 255 - read_array(pack))
        assert client.get("/images/3.png").content == known
        sent = {"files": {"image": ("a.png", picture)}}
        said = client.post("/api/predict", **sent).json()
    shutil.copy(finished / "data" / "pack.npy", pack)
    with TestClient(create(Workspace.open(tmp_path / "run")), base_url=HOME) as client:
        os.truncate(pack, 1000)
        for path in ("/images/3.png", "/images/3", "/api/images/3/case"):
            response = client.get(path)
            assert response.status_code == 503
            assert "got another file than the one that was opened" in response.text
        assert client.post("/api/predict", **sent).json() == said


def test_a_run_that_is_replaced_while_it_is_opened_is_not_served(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    opened = Workspace.open(tmp_path / "run")
    table = tmp_path / "run" / "data" / "split.csv"
    table.write_bytes(table.read_bytes())
    os.utime(table, (0, 0))
    with pytest.raises(UserError, match=r"got split\.csv replaced while the run was opened.*of one run"):
        create(opened)
