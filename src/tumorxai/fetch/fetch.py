"""Archives from wherever they come: simulated, from a mirror folder, from Kaggle, or a user's own."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tumorxai import config
from tumorxai.archives import sources
from tumorxai.archives.archives import changed, open_zip, unreadable
from tumorxai.archives.grey import Slices
from tumorxai.archives.packing import zip_folder, zip_zip
from tumorxai.archives.places import MIRROR, cached
from tumorxai.config import Data, PathSource
from tumorxai.errors import UserError
from tumorxai.fetch import kaggle, phantom
from tumorxai.files import atomic, read_json, sha256, write_json
from tumorxai.inputs import fingerprint
from tumorxai.inputs.fingerprint import Entry

CHUNK = 2**20  # bytes copied at once


class Taken(NamedTuple):
    """One source's archive as it came in.

    Attributes:
        fingerprint: the entry that ``fingerprints`` would have for what was read.
        bytes: size of the archive.
        sha256: of the archive.
        version: of a data set on Kaggle that was downloaded, where that is known.
        kept: the archive of the download cache that it was copied from, unless it was downloaded just now.
    """

    fingerprint: Entry
    bytes: int
    sha256: str
    version: kaggle.Version | None = None
    kept: Path | None = None


def run(params: config.Params, inputs: Path, out: Path, record: Path) -> None:
    """Fetch the sources of the experiment: see :func:`fetch`.

    Args:
        params: the whole experiment.
        inputs: what ``fingerprints`` said of the sources as the run began; it may be absent.
        out: folder that receives the archives.
        record: JSON to write.
    """
    fetch(params.data, out, record, read_json(inputs) if inputs.exists() else None)


def fetch(settings: Data, out: Path, record: Path, expected: Mapping[str, Any] | None = None) -> None:
    """Put one archive per source into a folder, all or none.

    Args:
        settings: the sources, the parameters of the phantom, and which slices of volumes are taken.
        out: folder that receives ``ARCHIVE.zip`` of each source.
        record: JSON to write: by identity, where an archive comes ``from`` (``kaggle``, ``mirror``, ``folder``,
            ``zip`` or ``simulated``), its ``bytes`` and ``sha256``, and of a download the ``version`` and the day on
            which that was ``published``, null where they are not known.
        expected: what ``fingerprints`` said of the sources as the run began; a source that it leaves out is not held
            against it.

    Raises:
        UserError: a source is not where it should be, is no zip, is not what it was as the run began, or two sources
            have one name.
    """
    names = [sources.identity(source) for source in settings.sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"data.sources: got {twice} more than once; expected different sources; remove one, or give your own a "
            "`name`"
        )
    records, all_taken = {}, {}
    with atomic(out) as folder:
        folder.mkdir()
        for source, name in zip(settings.sources, names, strict=True):
            taken = all_taken[name] = _fetch_one(source, settings, folder / sources.archive_name(name))
            _check(name, taken, expected or {})
            records[name] = {
                "from": taken.fingerprint["from"],
                "bytes": taken.bytes,
                "sha256": taken.sha256,
                "version": taken.version.number if taken.version else None,
                "published": taken.version.published if taken.version else None,
            }
        if out.exists():
            shutil.rmtree(out)
    write_json(record, records)
    _tell_newer(all_taken)


def _fetch_one(source: str | PathSource, settings: Data, out: Path) -> Taken:
    if isinstance(source, PathSource):
        return _local(source, settings.slices, out)
    if source == "phantom":
        phantom.write_archive(out, settings.phantom)
        return Taken(fingerprint.of_origin("simulated"), *_measured(out))
    if os.environ.get(MIRROR):
        size, digest = _copied(_mirrored(out.name), out)
        return Taken(fingerprint.of_archive("mirror", size, digest), size, digest)
    archive, fresh = _downloaded(source, out.name)
    size, digest = _copied(archive, out)
    entry = fingerprint.of_origin("kaggle")
    return Taken(entry, size, digest, kaggle.recall(archive, digest), None if fresh else archive)


def _tell_newer(taken: Mapping[str, Taken]) -> None:
    """Say on stderr which archives of the cache Kaggle has a newer version of, if it can be asked."""
    until = time.monotonic() + kaggle.PATIENCE  # for all of them: a network may swallow each question
    for slug, one in taken.items():
        if one.kept and one.version and time.monotonic() < until:
            newest = kaggle.newest(slug)
            if newest and newest.number > one.version.number:
                print(
                    f"Kaggle, {slug}: took {one.version} from the cache, and {newest} is out; to take that, "
                    f"{kaggle.renewal(one.kept)}",
                    file=sys.stderr,
                )


def _check(name: str, taken: Taken, expected: Mapping[str, Any]) -> None:
    """Hold what was read against what was there as the run began: the results would go by the wrong name."""
    if name not in expected or expected[name] == taken.fingerprint:
        return
    last = expected[name] or {}
    if last.get("from") == "mirror" and taken.fingerprint["from"] == "kaggle":  # a mirror that is gone stays expected
        if last.get("sha256") == taken.sha256:
            return
        raise UserError(
            f"{name}: got Kaggle's archive, and it differs from the mirror's that was fetched before; expected the "
            f"same; set {MIRROR} to that mirror again, or remove the folder data/inputs to take Kaggle's, and run "
            "`dvc repro` again"
        )
    raise changed(name)


def _local(source: PathSource, slices: Slices, out: Path) -> Taken:
    """What the run reads of a user's folder or zip, packed."""
    path = Path(source.path).expanduser()
    if path.is_dir():
        entry = fingerprint.of_folder(*zip_folder(path, out, slices))
        return Taken(entry, *_measured(out))
    if path.exists():
        size, digest = _copied(path, out)  # at rest, whatever somebody does to the user's own meanwhile
        with atomic(out) as packed:
            zip_zip(out, packed, str(path), slices)
        return Taken(fingerprint.of_archive("zip", size, digest), *_measured(out))
    raise UserError(
        f"data.sources: got path {source.path!r}, and {path.absolute()} does not exist; expected a folder or a "
        "zip of class folders; correct the path, best as an absolute one, for queued experiments run in another "
        "folder"
    )


def _copied(archive: Path, out: Path) -> tuple[int, str]:
    """Copy a zip; its size and SHA-256 as it was read."""
    open_zip(archive).close()
    found = hashlib.sha256()
    try:
        with open(archive, "rb") as source, open(out, "wb") as target:
            while chunk := source.read(CHUNK):
                found.update(chunk)
                target.write(chunk)
            return target.tell(), found.hexdigest()
    except OSError as error:
        if error.filename in (None, str(out)):  # our own disk is full, or the like
            raise
        raise unreadable(archive, error) from None


def _measured(archive: Path) -> tuple[int, str]:
    return archive.stat().st_size, sha256(archive)


def _mirrored(name: str) -> Path:
    """An archive of the mirror folder."""
    folder = Path(os.environ[MIRROR])
    if not folder.is_absolute() or not folder.is_dir():
        raise UserError(
            f"{MIRROR}: got {folder}; expected the absolute path of a folder of OWNER--SLUG.zip files; correct or "
            "unset it"
        )
    archive = folder / name
    if not archive.is_file():
        there = ", ".join(sorted(path.name for path in folder.glob("*.zip"))) or "none"
        raise UserError(
            f"{MIRROR}: got no {name} in {folder}, but {there}; expected one of these; correct data.sources or the "
            "folder"
        )
    return archive


def _downloaded(slug: str, name: str) -> tuple[Path, bool]:
    """An archive of the shared cache, and whether it had to be downloaded; runs that want the same one wait for it."""
    folder = cached("archives")
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / name
    if archive.is_file():  # it gets its name when it is whole, so that no lock is needed to take it
        return archive, False
    with open(folder / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if archive.is_file():
            return archive, False
        before = kaggle.newest(slug)
        kaggle.download(slug, archive)
        # A version that came out meanwhile might be either's, so that both answers have to agree.
        if before and before == kaggle.newest(slug):
            kaggle.remember(archive, before)
    return archive, True
