"""Have the data outside the project changed? One small entry per source that says so, by names and contents alone.

A folder or zip of one's own and a mirror's archives are no files of the pipeline's, so DVC does not look at them. Their
fingerprints are: a stage that always runs writes them down, and what depends on them reruns when they differ.

A file is read again only where its size or one of its times differs from when it was read last. What was read is
remembered outside the project, one file for each folder or archive; nothing depends on it but the time that a look
takes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tumorxai.archives import sources as known
from tumorxai.archives.archives import unreadable
from tumorxai.archives.folders import Listed, survey
from tumorxai.archives.packing import contents, refusal
from tumorxai.archives.places import MIRROR, cached
from tumorxai.config import PathSource
from tumorxai.files import atomic

Entry = dict[str, Any]
Memory = dict[bytes, tuple[int, int, int, bytes]]  # size, both times and SHA-256 of a file, by :func:`_key`

# A file that was written this shortly before it was read may be written again within one tick of its file system's
# clock, 2 s at the coarsest (FAT), and look the same: it is read again the next time. Git calls such files racy.
SETTLED = 2 * 10**9  # nanoseconds
MAGIC = b"tumorxai fingerprints 2\n"
RECORD = struct.Struct("<16sqqq32s")
CHUNK = 2**20  # bytes read at once
MANY, LARGE = 200, 2**28  # files and bytes to read from which a bar shows how far it is
GONE = {  # of a disk that is not plugged in, or a server that does not answer
    errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.EHOSTDOWN,
}  # fmt: skip


def fingerprints(sources: Sequence[str | PathSource], before: Mapping[str, Any]) -> dict[str, Entry | None]:
    """What each source's data are now.

    Args:
        sources: as in ``data.sources`` or ``foreign.sources``.
        before: what this function returned last; empty at first.

    Returns:
        By identity: ``from`` (``folder``, ``zip``, ``mirror``, ``kaggle`` or ``simulated``) and, of the first three,
        the number of ``files`` or ``bytes`` and ``sha256``. The phantom follows from its parameters, and what Kaggle
        sends stands in the record that ``fetch`` writes, so that theirs never change. A source that is not at hand
        keeps the entry that it had and is named on stderr; None without one, for ``fetch`` to say what is missing.

    Raises:
        UserError: something there cannot be read, or a folder is none of class folders.
    """
    found: dict[str, Entry | None] = {}
    for source in sources:
        name = known.identity(source)
        last = before.get(name)
        found[name] = _fingerprint(source, name, dict(last) if isinstance(last, Mapping) else {})
    return found


def of_folder(files: int, sha256: str) -> Entry:
    """A folder's entry: how many files are packed, and ``archives.contents`` of them."""
    return {"from": "folder", "files": files, "sha256": sha256}


def of_archive(kind: str, size: int, sha256: str) -> Entry:
    """The entry of a user's ``zip`` or a ``mirror``'s archive: bytes and SHA-256 of the file."""
    return {"from": kind, "bytes": size, "sha256": sha256}


def of_origin(kind: str) -> Entry:
    """The entry of what changes through parameters alone (``simulated``) or by a download (``kaggle``)."""
    return {"from": kind}


def _fingerprint(source: str | PathSource, name: str, last: Entry) -> Entry | None:
    if source == "phantom":
        return of_origin("simulated")
    if isinstance(source, PathSource):
        place, kinds = Path(source.path).expanduser(), {"folder", "zip"}
        entry, where = _of_place(place, "zip"), str(place.absolute())
    elif mirror := os.environ.get(MIRROR):
        place, kinds = Path(mirror) / known.archive_name(name), {"mirror"}
        entry, where = _of_place(place, "mirror"), str(place)
    elif last.get("from") == "mirror":  # not the same as to want another one from Kaggle
        entry, kinds, where = None, {"mirror"}, f"its archive ({MIRROR} is not set)"
    else:
        return of_origin("kaggle")
    if entry is None and last.get("from") in kinds:
        print(f"{name}: {where} is not at hand; it is taken to be as it was fetched before", file=sys.stderr)
        return last
    return entry


def _of_place(place: Path, kind: str) -> Entry | None:
    """The entry of a folder or an archive; None if it is not at hand."""
    try:
        found = os.stat(place)
        if stat.S_ISDIR(found.st_mode) and kind == "zip":
            with os.scandir(place) as entries:
                if next(entries, None) is None:  # where a disk would be mounted
                    return None
            files = survey(place).files
            digests = _digests(place, place, files)
            return of_folder(len(files), contents(zip((file.name for file in files), digests, strict=True)))
    except OSError as error:
        if error.errno in GONE:
            return None
        raise unreadable(place, error) from None
    if not stat.S_ISREG(found.st_mode):
        return None
    listed = Listed(place.name, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    (digest,) = _digests(place, place.parent, [listed])
    return of_archive(kind, found.st_size, digest.hex())


def _digests(place: Path, folder: Path, files: Sequence[Listed]) -> list[bytes]:
    """SHA-256 of each file, read only where it is not known from before.

    Args:
        place: of the source: what is remembered belongs to it.
        folder: the one that the files' names start from.
        files: as they are now.
    """
    memory = cached("fingerprints") / hashlib.sha256(os.fsencode(os.path.abspath(place))).hexdigest()
    kept = _recalled(memory)
    settled = time.time_ns() - SETTLED
    digests: list[bytes] = []
    todo: list[int] = []
    for number, file in enumerate(files):
        last = kept.get(_key(file.name))
        if file.refused:
            digests.append(refusal(file.refused))
        elif last is not None and last[:3] == file[1:4]:
            digests.append(last[3])
        else:
            digests.append(b"")
            todo.append(number)
    total = sum(files[number].size for number in todo)
    with tqdm(
        total=total, desc=f"reading {place.name}", unit="B", unit_scale=True, leave=False,
        disable=len(todo) < MANY and total < LARGE,
    ) as bar:  # fmt: skip
        for number in todo:
            digests[number] = _read(folder / files[number].name, bar)
    if todo or len(kept) != sum(not file.refused for file in files):
        _remember(
            memory,
            {
                _key(file.name): (file.size, file.modified, file.changed, digest)
                for file, digest in zip(files, digests, strict=True)
                if max(file.modified, file.changed) < settled and not file.refused
            },
        )
    return digests


def _key(name: str) -> bytes:
    """What stands for a file's name, which may be a patient's: 16 bytes."""
    return hashlib.sha256(os.fsencode(name)).digest()[:16]


def _read(path: Path, bar: tqdm[Any]) -> bytes:
    found = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as stream:
            while chunk := stream.read(CHUNK):
                found.update(chunk)
                bar.update(len(chunk))
    except OSError as error:
        raise unreadable(path, error) from None
    return found.digest()


def _recalled(memory: Path) -> Memory:
    """What was remembered; nothing, if that is lost, damaged or of another version."""
    try:
        data = memory.read_bytes()
        start = len(MAGIC) + 32
        payload = data[start:]
        if data[:start] != MAGIC + hashlib.sha256(payload).digest():
            return {}
        return {key: (size, *times, digest) for key, size, *times, digest in RECORD.iter_unpack(payload)}
    except (OSError, ValueError, struct.error):
        return {}


def _remember(memory: Path, known: Memory) -> None:
    """Replace what is remembered; without a place for it, the next look reads everything again."""
    payload = b"".join(RECORD.pack(key, *record) for key, record in known.items())
    try:
        with atomic(memory) as temporary:
            temporary.write_bytes(MAGIC + hashlib.sha256(payload).digest() + payload)
    except OSError:
        return
