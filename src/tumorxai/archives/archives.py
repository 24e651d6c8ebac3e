"""Zip archives from strangers: listed and read, never extracted, and believed neither about paths nor about sizes."""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from tumorxai.errors import UserError

MAX_BYTES = 256 * 2**20  # largest file read from an archive, bytes
MAX_RATIO = 200  # of a file larger than MIN_BOMB to its compressed size; real images stay below 20
MIN_BOMB = 16 * 2**20  # bytes

# Endings of what is decoded, or refused with the reason; files with others are no images and are passed over.
IMAGES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
SCANS = (".dcm", ".dicom", ".ima", ".nii", ".nii.gz")  # of scanners, and of what works on their volumes
OTHERS = (".mat", *SCANS)
ENDINGS = (*IMAGES, *OTHERS)
NESTED = (".zip", ".rar", ".7z", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
NESTED_ARCHIVES = "archives inside, which are not opened (unpack them to use them)"
# Files and folders that systems, NAS boxes and notebooks leave; names that begin with a dot are junk as well.
JUNK = {
    "__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db", "@eadir", "@tmp", "#recycle", "$recycle.bin",
    "system volume information", "lost+found", "dicomdir",
}  # fmt: skip


class UnreadableError(Exception):
    """A file that cannot be used, with the reason that goes into the quarantine."""


def is_image(path: str) -> bool:
    """Whether a file's name promises an image."""
    return _parts(path)[-1:] != [] and path.casefold().rstrip("/").endswith(ENDINGS) and not is_junk(path)


def may_be_dicom(path: str) -> bool:
    """Whether a file may be a DICOM file by its name: scanners write names without an ending, and identities."""
    name = _parts(path)[-1:]
    return bool(name) and re.fullmatch(r"[^.]+|.*\.\d+", name[0]) is not None and not is_junk(path)


def begins_dicom(first: bytes) -> bool:
    """Whether a file begins as DICOM files do.

    Args:
        first: bytes of the file, 132 or more.
    """
    return first[128:132] == b"DICM"


def is_junk(path: str) -> bool:
    """Whether a file or folder is a system's or a program's own and no part of the data, wherever it lies."""
    return any(part in JUNK or (part.startswith(".") and part.strip(".")) for part in _parts(path.casefold()))


def _parts(path: str) -> list[str]:
    """Folders and name; a backslash stands for a slash, as in archives made on Windows."""
    return [part for part in path.replace("\\", "/").split("/") if part]


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
