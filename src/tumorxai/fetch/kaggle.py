"""Whole archives from Kaggle.

Kaggle's own client finds and authorises the download; what follows survives cuts, limits and restarts. The client's
``dataset_download_files`` does not: it asks for the download once, so that a 429 or a 500 there ends it, it leaves a
half-written file under the final name, and it never looks inside the zip.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import requests
from tqdm import tqdm

from tumorxai.archives.archives import check
from tumorxai.errors import UserError
from tumorxai.files import read_json, sha256, write_json

ATTEMPTS = 6  # in a row without a byte of progress
LONGEST_WAIT = 600.0  # asked for by the server and still waited for, seconds
TIMEOUT = (10.0, 60.0)  # to connect, and between two bytes, seconds
PATIENCE = 5.0  # for the answer which version is the newest, seconds
CHUNK = 2**16  # bytes; of a cut connection, an unfinished chunk is lost

NO_KEY = (
    "Kaggle: got no valid key; expected one in ~/.kaggle/kaggle.json, in KAGGLE_USERNAME and KAGGLE_KEY, or in "
    "KAGGLE_API_TOKEN; create one under https://www.kaggle.com/settings, or set TUMORXAI_MIRROR to a folder of "
    "OWNER--SLUG.zip files"
)


class BusyError(Exception):
    """A failure that may pass."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait  # asked for by the server, seconds


def download(slug: str, out: Path, pause: float = 1.0) -> None:
    """Download a data set's archive; what has arrived survives as ``OUT.part`` and is continued by the next call.

    Args:
        slug: ``OWNER/SLUG``.
        out: the zip, which appears when it is whole and tested.
        pause: before the second attempt, seconds; doubles from attempt to attempt.

    Raises:
        UserError: no key, a key or a licence that Kaggle does not accept, no such data set, no zip, or no answer.
    """
    part = out.with_name(out.name + ".part")
    failures = 0
    with tqdm(desc=slug, unit="B", unit_scale=True) as bar:
        while True:
            before = _size(part)
            try:
                _continue(slug, part, bar)
                break
            except BusyError as error:
                failures = 1 if _size(part) > before else failures + 1
                wait = pause * 2 ** (failures - 1) if error.wait is None else error.wait
                if failures >= ATTEMPTS or wait > LONGEST_WAIT:
                    asked = f" and was asked to wait {wait:.0f} s" if error.wait is not None else ""
                    raise UserError(
                        f"Kaggle, {slug}: got {error}{asked}; expected the archive; run the same command later: "
                        f"{_size(part)} bytes are kept and will be continued"
                    ) from None
                bar.set_postfix_str(f"{error}, again in {wait:.0f} s")
                time.sleep(wait)
                bar.set_postfix_str("")
    _accept(slug, part, out)


def _continue(slug: str, part: Path, bar: tqdm[Any]) -> None:
    """Ask for the archive once, and append what is missing to ``part``.

    The validator beside it (ETag or date) makes sure that no two versions of the archive are ever put together.
    """
    version = part.with_name(part.name + ".version")
    try:
        with _ask(slug) as answer:
            validator = _validator(answer)
            begun = part.exists() and version.exists() and validator != "" and version.read_text() == validator
            offset = _size(part) if begun else 0
            request: requests.PreparedRequest = answer.request.copy()
        request.headers["Accept-Encoding"] = "identity"
        if offset:
            request.headers["Range"], request.headers["If-Range"] = f"bytes={offset}-", validator
        with requests.Session() as session:
            surroundings = session.merge_environment_settings(
                request.url or "", {}, True, None, None
            )  # proxies and certificates
            with session.send(request, timeout=TIMEOUT, **surroundings) as response:
                _write(slug, response, offset, part, version, bar)
    except requests.HTTPError as error:
        if error.response is None:
            raise BusyError("no answer") from None
        raise _explained(slug, error.response) from None
    except requests.RequestException as error:  # its text may hold a signed address, so the type must do
        raise BusyError(f"no whole answer ({type(error).__name__})") from None


def _ask(slug: str) -> requests.Response:
    """Ask Kaggle for an archive, with the user's key; redirects are followed, the body is not read yet."""
    with _quiet():
        client = _client()
    from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug = slug.split("/")
    response: requests.Response = client.datasets.dataset_api_client.download_dataset(request)
    return response


def _client() -> Any:
    """Kaggle's own client, with the user's key; prints advice on keys."""
    try:
        from kaggle.api.kaggle_api_extended import KaggleApi  # looks for a key as it is imported

        api = KaggleApi()
        api.authenticate()
    except (SystemExit, OSError) as error:
        if isinstance(error, requests.RequestException):
            raise
        raise UserError(NO_KEY) from None
    from kagglesdk import KaggleClient
    from kagglesdk.kaggle_env import get_env

    known = api.config_values
    return KaggleClient(
        env=get_env(), username=known.get("username"), password=known.get("key"), api_token=known.get("token")
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        yield


@dataclass(frozen=True)
class Version:
    """One state of a data set on Kaggle.

    Attributes:
        number: counted from 1 by Kaggle.
        published: the day, as YYYY-MM-DD; None if Kaggle does not tell it.
    """

    number: int
    published: str | None

    def __str__(self) -> str:
        return f"version {self.number}" + (f" of {self.published}" if self.published else "")


def newest(slug: str) -> Version | None:
    """The version that a download would bring; None without a key, a network, or an answer within ``PATIENCE``.

    Kaggle's client sets no time limit and a name server may keep silent as well, so that the question is asked aside.
    """
    answers: list[Version] = []

    def ask() -> None:
        with contextlib.suppress(Exception, SystemExit):  # to know is a courtesy: nothing may fail for it
            answers.append(_version(slug))

    asking = threading.Thread(target=ask, daemon=True)
    with _quiet():  # here and not aside: a question that is given up must not keep the output
        asking.start()
        asking.join(PATIENCE)
    return answers[0] if answers else None


def _version(slug: str) -> Version:
    client = _client()
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = slug.split("/")
    answer = client.datasets.dataset_api_client.get_dataset(request)
    if answer.current_version_number < 1:  # the client's word for none
        raise ValueError("no version")
    return Version(
        answer.current_version_number, answer.last_updated.date().isoformat() if answer.last_updated else None
    )


def remember(archive: Path, version: Version) -> None:
    """Write beside a downloaded archive which version it is."""
    content = {"version": version.number, "published": version.published, "sha256": sha256(archive)}
    write_json(_beside(archive), content)


def recall(archive: Path, digest: str) -> Version | None:
    """The version that was written down for an archive; None if it was for other contents or not at all.

    Args:
        archive: in the cache of downloads.
        digest: SHA-256 of it.
    """
    try:
        content = read_json(_beside(archive))
        version = Version(int(content["version"]), content["published"])
        return version if content["sha256"] == digest else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def renewal(archive: Path) -> str:
    """How to take the newest version instead of the one in the cache of downloads."""
    return f"remove {archive} and run `dvc repro --force --single-item fetch`, then `dvc repro`"


def _beside(archive: Path) -> Path:
    return archive.with_name(archive.name + ".version.json")


def _write(slug: str, response: requests.Response, offset: int, part: Path, version: Path, bar: tqdm[Any]) -> None:
    """Append a partial answer to ``part``, or replace it by a whole one."""
    if response.status_code == 416:  # longer than the archive: another version, or already whole but for the test
        part.unlink(missing_ok=True)
        raise BusyError("a part that does not fit")
    if response.status_code not in (200, 206):
        raise BusyError(f"status {response.status_code}", _wait(response))
    if "html" in response.headers.get("Content-Type", ""):
        raise UserError(
            f"Kaggle, {slug}: got a web page; expected a zip; look whether a proxy or a login page answers, and "
            f"whether {page(slug)} opens in a browser"
        )
    resumed = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
    if not resumed:
        offset = 0
        version.write_text(_validator(response))
    length = response.headers.get("Content-Length")
    bar.total, bar.n = (offset + int(length) if length else None), offset
    with open(part, "ab" if resumed else "wb") as stream:
        for chunk in response.iter_content(CHUNK):
            stream.write(chunk)
            bar.update(len(chunk))
    if length and _size(part) < offset + int(length):
        raise BusyError("the connection cut")


def _accept(slug: str, part: Path, out: Path) -> None:
    """Test the whole file and give it its name; a file that fails is removed, for continuing it cannot help."""
    version = part.with_name(part.name + ".version")
    try:
        check(part)
    except UserError:
        with open(part, "rb") as stream:
            head = stream.read(8)
        message = f"{_size(part)} bytes that begin with {head!r} and are no whole zip"
        part.unlink()
        version.unlink(missing_ok=True)
        raise UserError(
            f"Kaggle, {slug}: got {message}; expected its archive; run the same command again, or download it from "
            f"{page(slug)} into a folder named by TUMORXAI_MIRROR"
        ) from None
    os.replace(part, out)
    version.unlink(missing_ok=True)


def _explained(slug: str, response: requests.Response) -> Exception:
    """What a refusal by Kaggle means, and what to do."""
    status = response.status_code
    if status == 401:
        return UserError(f"Kaggle, {slug}: got status 401, the key is not accepted; expected a valid one. {NO_KEY}")
    if status == 403:
        return UserError(
            f"Kaggle, {slug}: got status 403; expected the right to download; open {page(slug)} while signed in, "
            "accept its licence or rules, and check that it is not private"
        )
    if status == 404:
        return UserError(
            f"Kaggle, {slug}: got status 404; expected a data set of that name; look at {page(slug)} and correct "
            "data.sources"
        )
    if status in (408, 429) or status >= 500:
        return BusyError(f"status {status}", _wait(response))
    return UserError(f"Kaggle, {slug}: got status {status}; expected the archive; look at {page(slug)}")


def page(slug: str) -> str:
    """A data set's page."""
    return f"https://www.kaggle.com/datasets/{slug}"


def _validator(response: requests.Response) -> str:
    """What tells one version of a file from another, as If-Range takes it; empty when the server tells nothing."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _wait(response: requests.Response) -> float | None:
    """Seconds that the server asks to wait, as a number or as a date, or None."""
    text = response.headers.get("Retry-After", "")
    with contextlib.suppress(ValueError):
        return max(0.0, float(text))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
