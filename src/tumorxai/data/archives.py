"""Zip archives from strangers: listed and read, never extracted, and believed neither about paths nor about sizes."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

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
JUNK = {"__macosx", ".ds_store", "thumbs.db", "desktop.ini"}


class UnreadableError(Exception):
    """A file that cannot be used, with the reason that goes into the quarantine."""


def is_image(path: str) -> bool:
    """Whether a file's name promises an image."""
    return PurePosixPath(path).name.casefold().endswith((*IMAGES, *OTHERS)) and not is_junk(path)


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


def zip_folder(folder: Path, out: Path) -> None:
    """Pack a folder's images and tables: the same files give the same bytes.

    Args:
        folder: holds class folders at any depth.
        out: the archive, stored without compression.

    Raises:
        UserError: there is no image, or a class folder is empty.
    """
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and not is_junk(name)]
        names = [name for name in names if is_image(name) or name.casefold().endswith(".csv")]
        files += [Path(parent, name) for name in names]
        if not folders and not names:
            raise UserError(
                f"{parent}: got no image; expected at least one in each class folder; fill the folder or remove it"
            )
    if not any(is_image(path.name) for path in files):
        raise UserError(
            f"{folder}: got no image; expected class folders of images (JPEG, PNG, TIFF, …); correct data.sources"
        )
    with atomic(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for path in tqdm(sorted(files), desc=f"packing {folder.name}", unit="file", leave=False):
            name = os.fsencode(path.relative_to(folder)).decode("utf-8", errors="replace")
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3  # the same bytes on every platform
            info.external_attr = 0o644 << 16
            archive.writestr(info, path.read_bytes())
