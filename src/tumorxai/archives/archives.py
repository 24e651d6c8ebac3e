"""Zip archives from strangers: listed and read, never extracted, and believed neither about paths nor about sizes."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from tumorxai.errors import UserError
from tumorxai.files import atomic

MAX_BYTES = 256 * 2**20  # largest file read from an archive, bytes
MAX_RATIO = 200  # of a file larger than MIN_BOMB to its compressed size; real images stay below 20
MIN_BOMB = 16 * 2**20  # bytes
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold, so that archives do not depend on file times

# Endings of what is decoded, or refused with the reason; files with others are no images and are passed over.
IMAGES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
OTHERS = (".mat", ".dcm", ".nii", ".nii.gz")
ENDINGS = (*IMAGES, *OTHERS)
JUNK = {"__macosx", ".ds_store", "thumbs.db", "desktop.ini"}


class UnreadableError(Exception):
    """A file that cannot be used, with the reason that goes into the quarantine."""


def is_image(path: str) -> bool:
    """Whether a file's name promises an image."""
    return PurePosixPath(path).name.casefold().endswith(ENDINGS) and not is_junk(path)


def is_junk(path: str) -> bool:
    """Whether a file is an operating system's own and no part of the data."""
    parts = [part.casefold() for part in PurePosixPath(path).parts]
    return any(part in JUNK or part.startswith("._") for part in parts)


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip for reading.

    Raises:
        UserError: the file is missing or is no zip whose list of files can be read.
    """
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise UserError(f"got no {path}; expected an archive there; run `dvc repro fetch`") from None
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: got file names that are not the UTF-8 that they claim to be; expected valid names; zip it again"
        ) from None
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"{path}: got a file that is not a readable zip ({error}); expected a zip archive; download or zip it again"
        ) from None


def fault(info: zipfile.ZipInfo) -> str:
    """Why a file of an archive must not be read, judged by its header alone; empty when nothing speaks against it."""
    path = info.filename
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if path.startswith(("/", "\\")) or path[1:2] == ":" or ".." in parts:
        return "its path leaves the archive"
    if info.is_dir():
        return "a folder, not a file"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "a symbolic link"
    if info.flag_bits & 0x1:
        return "encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile cannot cap the others' output
        return f"compressed by method {info.compress_type}; only stored and deflated files are read"
    if info.file_size > MAX_BYTES:
        return f"{info.file_size} bytes unpacked; at most {MAX_BYTES}"
    if info.file_size > max(MIN_BOMB, MAX_RATIO * info.compress_size):
        return f"{info.compress_size} bytes that unpack to {info.file_size}; at most {MAX_RATIO} times as many"
    return ""


def read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Unpack one file into memory, at most the size that its header states (and ``fault`` allows).

    Raises:
        UnreadableError: the header speaks against it, or the bytes are damaged.
    """
    if reason := fault(info):
        raise UnreadableError(reason)
    try:
        with archive.open(info) as stream:  # stops at the stated size and checks the CRC there
            data = stream.read(info.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        raise UnreadableError(f"damaged in the archive ({str(error) or type(error).__name__})") from None
    if len(data) != info.file_size:
        raise UnreadableError(f"damaged in the archive ({len(data)} bytes of {info.file_size})")
    return data


def check(path: Path) -> None:
    """Read every file that may be read, to find damage.

    Raises:
        UserError: it is no zip, or a file in it is damaged.
    """
    with open_zip(path) as archive:
        for info in tqdm(archive.infolist(), desc=f"checking {path.name}", unit="file", leave=False):
            if not fault(info):
                try:
                    read(archive, info)
                except UnreadableError as error:
                    raise UserError(
                        f"{path}: got {info.filename!r} {error}; expected a whole archive; fetch it again"
                    ) from None


class Listed(NamedTuple):
    """A file of a user's folder, and what changes whenever it is written.

    Attributes:
        name: its path inside the folder, with slashes, as the system spells it.
        size: bytes.
        modified: time of its contents, nanoseconds; anyone can set it.
        changed: time of its contents or its attributes, nanoseconds; set by the system alone.
    """

    name: str
    size: int
    modified: int
    changed: int


def list_folder(folder: Path) -> list[Listed]:
    """A folder's images and tables, in the order of their paths: what is packed, and what a change of counts.

    Each folder is read once, and no file is opened.

    Args:
        folder: holds class folders at any depth.

    Raises:
        UserError: there is no image, a class folder is empty, or something cannot be read.
    """
    files: list[Listed] = []
    images, todo = False, [""]
    while todo:
        inside = todo.pop()
        parent = os.path.join(folder, inside)
        before, folders = len(files), 0
        try:
            with os.scandir(parent) as entries:
                for entry in entries:
                    if _is_folder(entry):
                        if not entry.name.startswith(".") and not is_junk(entry.name):
                            folders += 1
                            if not entry.is_symlink():  # it may lead round in a circle
                                todo.append(f"{inside}{entry.name}/")
                    elif (image := _promises_image(entry.name)) or _promises_table(entry.name):
                        images |= image
                        files.append(_looked_at(entry, inside))
        except OSError as error:
            raise unreadable(Path(parent), error) from None
        if not folders and len(files) == before:
            raise UserError(
                f"{Path(parent)}: got no image; expected at least one in each class folder; fill the folder or "
                "remove it"
            )
    if not images:
        raise UserError(
            f"{folder}: got no image; expected class folders of images (JPEG, PNG, TIFF, …); correct data.sources"
        )
    return sorted(files, key=lambda file: file.name.replace("/", "\0"))  # folder by folder: no name holds a NUL


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle; it matters only if it is called like an image
        return False


def _promises_image(name: str) -> bool:
    """``is_image`` of a name without folders, of which there may be many."""
    plain = name.casefold()
    return plain.endswith(ENDINGS) and not plain.startswith("._")


def _promises_table(name: str) -> bool:
    return name.casefold().endswith(".csv") and not name.startswith("._")


def _looked_at(entry: os.DirEntry[str], inside: str) -> Listed:
    try:
        found = entry.stat()
    except OSError as error:
        raise unreadable(Path(entry.path), error) from None
    if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait forever
        raise UserError(f"{entry.path}: got something that is no file; expected an image or a table; remove it")
    return Listed(inside + entry.name, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def unreadable(path: Path, error: OSError) -> UserError:
    """What to say of a file or folder that the system does not let us read."""
    if isinstance(error, FileNotFoundError) and not path.is_symlink():
        return changed(str(path))
    reason = "a link that leads nowhere" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
    return UserError(
        f"{path}: got {reason}; expected to be able to read it; correct its permissions, its disk or the link, or "
        "remove it"
    )


def changed(what: str) -> UserError:
    """What to say of data that somebody writes while they are read."""
    return UserError(
        f"{what}: got something else than a moment ago, it changed while it was read; expected data at rest; wait for "
        "what writes them, and run `dvc repro` again"
    )


def packed_name(name: str) -> str:
    """A file's path as its archive spells it; bytes that are no UTF-8 are replaced."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", errors="replace")


def contents(files: Iterable[tuple[str, bytes]]) -> str:
    """One SHA-256 for names and contents, as 64 hexadecimal digits; times and places are no part of it.

    Args:
        files: path inside the folder and SHA-256 (32 bytes) of each file, in the order of ``list_folder``.
    """
    found = hashlib.sha256()
    for name, digest in files:
        found.update(packed_name(name).encode() + b"\0" + digest)  # neither part can be mistaken for the other
    return found.hexdigest()


def zip_folder(folder: Path, out: Path) -> tuple[int, str]:
    """Pack a folder's images and tables: the same files give the same bytes.

    Args:
        folder: holds class folders at any depth.
        out: the archive, stored without compression.

    Returns:
        How many files were packed, and ``contents`` of them as they were read.

    Raises:
        UserError: there is no image, a class folder is empty, or something cannot be read.
    """
    files, read_so = list_folder(folder), []
    with atomic(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for file in tqdm(files, desc=f"packing {folder.name}", unit="file", leave=False):
            path = folder / file.name
            try:
                data = path.read_bytes()
            except OSError as error:
                raise unreadable(path, error) from None
            info = zipfile.ZipInfo(packed_name(file.name), EPOCH)
            info.create_system = 3  # the same bytes on every platform
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
            read_so.append((file.name, hashlib.sha256(data).digest()))
    return len(files), contents(read_so)
