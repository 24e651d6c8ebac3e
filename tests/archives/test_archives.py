"""Hostile zips: each ends in the quarantine with its reason, or in one message; nothing is ever written."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tumorxai.archives import archives
from tumorxai.archives.archives import UnreadableError
from tumorxai.catalogue.listing import list_archive
from tumorxai.errors import UserError


def png(value: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((20, 20), value, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def patched(data: bytes, name: bytes, offset: int, new: bytes) -> bytes:
    """An archive with other bytes in the central directory's entry of one file."""
    at = data.rindex(name) - 46 + offset  # the entry's fixed part has 46 bytes, APPNOTE 4.3.12
    assert data[at - offset : at - offset + 4] == b"PK\x01\x02"
    return data[:at] + new + data[at + len(new) :]


def local_patched(data: bytes, name: bytes, offset: int, new: bytes) -> bytes:
    """The same in the local header, whose fixed part has 30 bytes, APPNOTE 4.3.7."""
    at = data.index(name) - 30 + offset
    return data[:at] + new + data[at + len(new) :]


@pytest.fixture
def make(tmp_path: Path):
    """Write an archive with one good image and the given entries."""

    def write(*entries: tuple[str | zipfile.ZipInfo, bytes], change=lambda data: data) -> Path:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("glioma/good.png", png())
            for name, content in entries:
                archive.writestr(name, content)
        path = tmp_path / "hostile.zip"
        path.write_bytes(change(stream.getvalue()))
        return path

    return write


def reasons(path: Path) -> dict[str, str]:
    """Files that are refused, by their headers or as they are read."""
    listing = list_archive(path, "local/hostile", None)
    refused = {file: reason for file, _, reason in listing.refused}
    with archives.open_zip(path) as archive:
        for candidate in listing.candidates:
            try:
                archives.read(archive, archive.infolist()[candidate.task.entry])
            except UnreadableError as error:
                refused[candidate.path] = str(error)
    return refused


@pytest.mark.parametrize(
    "name",
    [
        "/glioma/a.png",
        "../glioma/a.png",
        "glioma/../../a.png",
        "C:/glioma/a.png",
        "\\glioma\\a.png",
        "x/glioma/..\\a.png",
    ],
)
def test_paths_that_leave_the_archive(make, name: str, tmp_path: Path) -> None:
    (reason,) = reasons(make((name, png()))).values()
    assert reason == "its path leaves the archive"
    assert [path.name for path in tmp_path.rglob("*")] == ["hostile.zip"]


def test_symbolic_link(make) -> None:
    link = zipfile.ZipInfo("glioma/link.png")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert reasons(make((link, b"/etc/passwd"))) == {"glioma/link.png": "a symbolic link"}


def test_encrypted(make) -> None:
    def encrypt(data: bytes) -> bytes:
        return local_patched(patched(data, b"glioma/secret.png", 8, b"\x01\x00"), b"glioma/secret.png", 6, b"\x01\x00")

    assert reasons(make(("glioma/secret.png", png()), change=encrypt)) == {"glioma/secret.png": "encrypted"}


def test_bomb_of_100_gb_by_its_header(make) -> None:
    """A real one would hold ten million zeros of every byte; what counts is that nothing of it is unpacked."""
    size = struct.pack("<I", 0xFFFFFFFE)  # 4 GiB, the most without zip64
    (reason,) = reasons(
        make(("glioma/bomb.png", png()), change=lambda data: patched(data, b"glioma/bomb.png", 24, size))
    ).values()
    assert reason.startswith("4294967294 bytes unpacked; at most")


def test_bomb_of_100_gb_in_zip64(tmp_path: Path) -> None:
    """Written by hand: one file that states 100 GB in the zip64 extra field."""
    size, name = 100 * 10**9, b"glioma/bomb.png"
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", 45, 0, 8, 0, 33, 0, 0, 0, len(name), 0) + name
    extra = struct.pack("<2HQ", 1, 8, size)
    central = struct.pack(
        "<4s6H3I5H2I", b"PK\x01\x02", 45, 45, 0, 8, 0, 33, 0, 100, 0xFFFFFFFF, len(name), len(extra), 0, 0, 0, 0, 0
    )
    central += name + extra
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(central), len(local), 0)
    (tmp_path / "bomb.zip").write_bytes(local + central + end)
    with archives.open_zip(tmp_path / "bomb.zip") as archive:
        (info,) = archive.infolist()
        assert info.file_size == size
        with pytest.raises(UnreadableError, match="100000000000 bytes unpacked"):
            archives.read(archive, info)


def test_high_ratio(make) -> None:
    zeros = zipfile.ZipInfo("glioma/zeros.png")
    zeros.compress_type = zipfile.ZIP_DEFLATED
    (reason,) = reasons(make((zeros, bytes(archives.MIN_BOMB + 1)))).values()
    assert "at most 200 times as many" in reason


def test_header_that_understates_its_size(make) -> None:
    """The unpacking stops at the stated size, and the check sum shows the lie."""
    liar = zipfile.ZipInfo("glioma/liar.png")
    liar.compress_type = zipfile.ZIP_DEFLATED
    small = struct.pack("<I", 100)
    path = make((liar, bytes(10**6)), change=lambda data: patched(data, b"glioma/liar.png", 24, small))
    (reason,) = reasons(path).values()
    assert reason.startswith("damaged in the archive")


def test_compression_whose_output_cannot_be_capped(make) -> None:
    packed = zipfile.ZipInfo("glioma/packed.png")
    packed.compress_type = zipfile.ZIP_BZIP2
    (reason,) = reasons(make((packed, png()))).values()
    assert reason.startswith("compressed by method 12")


def test_damaged_bytes(make) -> None:
    body = png(7)
    path = make(("glioma/bad.png", body), change=lambda data: data.replace(body, body[:-1] + b"?"))
    (reason,) = reasons(path).values()
    assert reason.startswith("damaged in the archive (Bad CRC-32")
    with pytest.raises(UserError, match=r"glioma/bad.png' damaged"):
        archives.check(path)


def test_long_and_foreign_names_are_usable(make) -> None:
    foreign = "glioma/latin-XXX.png"
    path = make(
        ("glioma/" + "n" * 200 + ".png", png()),
        (foreign, png()),
        ("glioma/Größe Ω 図.png", png()),
        change=lambda data: data.replace(b"latin-XXX", b"latin-\xe9\xff\xfe"),
    )
    assert reasons(path) == {}
    assert len(list_archive(path, "local/x", None).candidates) == 4


def test_names_that_only_claim_to_be_utf8(make) -> None:
    path = make(("glioma/ö.png", png()), change=lambda data: data.replace("ö".encode(), b"\xff\xff"))
    with pytest.raises(UserError, match="not the UTF-8"):
        reasons(path)


def test_folder_called_like_an_image(make) -> None:
    assert reasons(make(("glioma/folder.png/", b""))) == {"glioma/folder.png/": "a folder, not a file"}


def test_two_files_of_one_name(make) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = make(("glioma/good.png", png(9)))
    assert reasons(path) == {"glioma/good.png": "another file of the archive has the same name"}
    assert len(list_archive(path, "local/x", None).candidates) == 1


def test_junk_is_passed_over(make) -> None:
    junk = ("__MACOSX/glioma/._a.png", "glioma/._b.png", "glioma/.DS_Store", "glioma/Thumbs.db", "glioma/readme.txt")
    path = make(*((name, b"junk") for name in junk))
    assert reasons(path) == {}
    assert len(list_archive(path, "local/x", None).candidates) == 1


def test_image_outside_any_class_folder(make) -> None:
    assert list(reasons(make(("cover.png", png())))) == ["cover.png"]


def test_empty_class_folder(make) -> None:
    with pytest.raises(UserError, match="empty class folder 'meningioma/'"):
        reasons(make(("meningioma/", b"")))


def test_another_archive_under_a_known_name(make) -> None:
    from tumorxai.archives import sources

    with pytest.raises(UserError, match="is this the archive of mehradaria/leukemia"):
        list_archive(make(), "mehradaria/leukemia", sources.load()["mehradaria/leukemia"])


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"PK\x03\x04" + bytes(40)])
def test_no_zip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UserError, match="not a readable zip"):
        archives.open_zip(tmp_path / "a.zip")


def test_truncated_zip(make, tmp_path: Path) -> None:
    whole = make().read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a readable zip"):
        archives.check(tmp_path / "half.zip")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path,fold\nglioma/good.png,1\n", "rename a column 'path' to `file`"),
        ("image_no,fold\nglioma/good.png,1\n", "a column `file`"),
        ("file,fold\nglioma/good.png,one\n", "whole numbers"),
        ("file,fold\nglioma/good.png,1\nglioma/good.png,2\n", "one row per image"),
        ("file,x_center,y_center,width,height\nglioma/good.png,2,0.5,0.1,0.1\n", "fractions of the image"),
        ("", "comma-separated"),
        ("file,patient\nother/good.png,7\n", "none of which is an image"),
    ],
)
def test_annotations_that_cannot_be_used(make, table: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        reasons(make(("annotations.csv", table.encode())))
