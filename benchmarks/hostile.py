"""What hostile images cost: the memory of each of 50 files, and the time to list many files.

    python benchmarks/hostile.py [FILES [FOLDERS]]

Makes images that are large once decoded, damaged, packed tightly or of odd kinds, DICOM and NIfTI among them. Each goes
the way of a folder's file, in a process of its own: packed, decoded, fitted. Its memory is the process's peak above
what the same takes for a small image; the files' own bytes count. Then makes small files (100,000 in 10,000 folders)
and takes the time to look them through and sort them. Prints Markdown; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, RLELossless
from tqdm import tqdm

from tumorxai.archives.folders import survey
from tumorxai.archives.layout import arrange
from tumorxai.archives.tables import Table

ONE = """
import re, sys, tempfile
from pathlib import Path
import nibabel, pydicom.pixels.utils, pydicom.encaps
from tumorxai.archives import packing
from tumorxai.archives.images import Fit, Task, pack
from tumorxai.catalogue.listing import list_archive
with tempfile.TemporaryDirectory() as folder:
    out = Path(folder, "out.zip")
    path = Path(sys.argv[1])
    (packing.zip_folder if path.is_dir() else packing.zip_zip)(path, out)
    found = list_archive(out, "local/x", None)
    reasons = [reason for _, _, reason in found.refused]
    for one in found.candidates:
        packed = pack(one.task, Fit(64, 1, "pad"))
        reasons += [packed] if isinstance(packed, str) else []
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)  # of this program alone
print("; ".join(reasons) or "used")
"""


def pixels(side: int, kind: str) -> Image.Image:
    """An image that packs tightly and is not blank."""
    row = np.arange(side) * 251 // side
    if kind in ("I;16", "I", "F"):
        dtype = {"I;16": "<u2", "I": "<i4", "F": "<f4"}[kind]
        return Image.fromarray(np.ascontiguousarray(np.broadcast_to((row * 200).astype(dtype), (side, side))))
    grey = Image.fromarray(np.ascontiguousarray(np.broadcast_to(row.astype("u1"), (side, side))))
    return grey if kind == "L" else grey.convert("RGB").convert(kind)


def file(image: Image.Image, name: str, **more: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, name, **more)
    return stream.getvalue()


def png_header(width: int, height: int, bits: int = 8, colours: int = 0, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def dicom(values: np.ndarray, **told: object) -> bytes:
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = told.pop("syntax", ExplicitVRLittleEndian)
    found.file_meta.MediaStorageSOPClassUID, found.file_meta.MediaStorageSOPInstanceUID = MRImageStorage, "1.2.3"
    found.SOPClassUID, found.SOPInstanceUID, found.SeriesInstanceUID = MRImageStorage, "1.2.3", "1.2.4"
    found.SamplesPerPixel, found.PhotometricInterpretation, found.PixelRepresentation = 1, "MONOCHROME2", 0
    found.Rows, found.Columns = values.shape[-2:]
    found.BitsAllocated = found.BitsStored = 16
    found.HighBit, found.PixelData = 15, values.astype("<u2").tobytes()
    if values.ndim == 3:
        found.NumberOfFrames = len(values)
    for keyword, value in told.items():
        setattr(found, keyword, value)
    if found.file_meta.TransferSyntaxUID == RLELossless:
        found["PixelData"].VR, found["PixelData"].is_undefined_length = "OB", True
    stream = io.BytesIO()
    found.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def nifti(shape: tuple[int, ...], data: bytes, kind: int = 4, packed: bool = True) -> bytes:
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<2h", head, 70, kind, {4: 16, 16: 32, 64: 64}[kind])
    struct.pack_into("<8f", head, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", head, 108, 352)
    head[344:348] = b"n+1\0"
    return gzip.compress(bytes(head) + data, 1) if packed else bytes(head) + data


def hostile() -> Iterator[tuple[str, bytes]]:
    """Names and contents, 48 in all."""
    for side in (4000, 7990, 12000):
        yield f"{side}_16bit.png", file(pixels(side, "I;16"), "PNG")
    for kind in ("L", "RGB", "RGBA", "LA", "P"):
        yield f"7990_{kind}.png", file(pixels(7990, kind), "PNG")
    for kind in ("L", "RGB", "CMYK", "YCbCr"):
        yield f"7000_{kind}.jpg", file(pixels(7000, kind), "JPEG")
    yield "6000_progressive.jpg", file(pixels(6000, "RGB"), "JPEG", progressive=True)
    for kind in ("L", "RGB", "CMYK", "I;16", "I", "F", "LAB", "YCbCr"):
        compression = None if kind in ("I;16", "YCbCr") else "tiff_deflate"
        yield f"5000_{kind.replace(';', '')}.tif", file(pixels(5000, kind), "TIFF", compression=compression)
    yield "7990_F.tif", file(pixels(7990, "F"), "TIFF", compression="tiff_deflate")
    yield "4000.webp", file(pixels(4000, "RGB"), "WEBP", lossless=True, method=0)
    yield "6000.bmp", file(pixels(6000, "RGB"), "BMP")
    pages = [pixels(1500, "L") for _ in range(20)]
    yield "20_frames.gif", file(pages[0], "GIF", save_all=True, append_images=pages[1:])
    yield "20_pages.tif", file(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression="tiff_deflate")
    yield "60000.png", png_header(60000, 60000, 16, 2)
    yield "2_billion_wide.png", png_header(2**31 - 1, 1)
    yield "more_than_stated.png", png_header(64, 64, data=zlib.compress(bytes(200_000_000), 1))
    small = file(pixels(300, "I;16"), "PNG")
    yield "truncated.png", small[: len(small) // 2]
    yield "wrong_crc.png", small[:-20] + b"\0\0\0\0" + small[-16:]
    yield "zlib_damaged.png", small[:60] + b"\xff" * 40 + small[100:]
    yield "metadata.png", file(pixels(300, "L"), "PNG", icc_profile=bytes(40_000_000))
    yield "empty.jpg", b""
    yield "text.jpg", b"no image" * 1000
    yield "truncated.jpg", file(pixels(3000, "RGB"), "JPEG")[:5000]
    yield "large_slice.dcm", dicom(np.tile(np.arange(4000) % 900, (4000, 1)))
    yield "too_large_slice.dcm", dicom(np.zeros((16, 16)), Rows=60000, Columns=60000)
    yield "400_frames.dcm", dicom(np.tile(np.arange(256) % 900, (400, 256, 1)))
    yield "million_frames.dcm", dicom(np.zeros((16, 16)), NumberOfFrames=1_000_000)
    runs = b"\1\0\0\0\x40\0\0\0" + bytes(56) + b"\x81\0" * 20_000_000
    item = b"\xfe\xff\0\xe0" + struct.pack("<I", len(runs)) + runs + b"\xfe\xff\xdd\xe0\0\0\0\0"
    yield "runs.dcm", dicom(np.zeros((512, 512)), syntax=RLELossless, PixelData=b"\xfe\xff\0\xe0\0\0\0\0" + item)
    deep = bytes(0)
    for _ in range(2000):
        deep = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" + deep
    plain = dicom(np.tile(np.arange(64) * 9, (64, 1)))
    start = plain.index(b"\x28\0\x02\0US")
    yield "deep.dcm", plain[:start] + deep + plain[start:]
    yield "many_elements.dcm", plain[:start] + b"\x09\0\x10\0LO\0\0" * 500_000 + plain[start:]
    yield "gzip_bomb.nii.gz", gzip.compress(bytes(2_000_000_000), 1)
    yield "stated_bomb.nii.gz", nifti((30000, 30000, 3000), bytes(50_000_000))
    values = (np.arange(256 * 256 * 160) % 937).astype("<i2").tobytes()
    yield "volume.nii.gz", nifti((256, 256, 160), values)
    yield "time.nii.gz", nifti((128, 128, 60, 30), values[: 128 * 128 * 60 * 2] * 30)
    yield "truncated.nii.gz", nifti((256, 256, 160), values)[:100_000]


def zips() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Zips of a class each, by name."""
    yield "bomb.zip", [("glioma/zeros.png", bytes(250 * 2**20))]
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(100_000_000))
    yield "bombs_inside.zip", [(f"glioma/{number}.zip", inner.getvalue()) for number in range(50)]


def measured(path: Path) -> tuple[int, str]:
    """Peak memory of a process that takes in a folder or a zip, bytes, and what came of the images."""
    done = subprocess.run(
        [sys.executable, "-c", ONE, str(path)], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    peak, said = done.stdout.splitlines()
    return int(peak), said


def listing(root: Path, files: int, folders: int) -> tuple[float, float]:
    """Seconds to look through small files, and to sort them into classes."""
    for number in range(folders):
        folder = root / ("glioma", "meningioma")[number % 2] / f"patient_{number:05d}"
        folder.mkdir(parents=True)
        for image in range(number, files, folders):
            (folder / f"{image:06d}.png").write_bytes(b"small")
    started = time.perf_counter()
    found = survey(root)
    looked = time.perf_counter()
    arrange([file.name for file in found.files], Table())
    return looked - started, time.perf_counter() - looked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=int, nargs="?", default=100_000)
    parser.add_argument("folders", type=int, nargs="?", default=10_000)
    asked = parser.parse_args()
    small = file(pixels(64, "L"), "PNG")
    rows: list[tuple[str, int, float, str]] = []
    with tempfile.TemporaryDirectory() as temporary:

        def folder(name: str, content: bytes) -> Path:
            root = Path(temporary, name)
            for place, data in (("glioma/" + name, content), ("healthy/small.png", small)):
                (root / place).parent.mkdir(parents=True)
                (root / place).write_bytes(data)
            return root

        plain, _ = measured(folder("plain.png", small))
        for name, content in tqdm(hostile(), total=48, unit="file"):
            peak, said = measured(folder(name, content))
            rows.append((name, len(content), (peak - plain) / 1e6, said))
        for name, inside in zips():
            with zipfile.ZipFile(Path(temporary, name), "w", zipfile.ZIP_DEFLATED) as archive:
                for place, content in [*inside, ("healthy/small.png", small), ("glioma/small.png", small)]:
                    archive.writestr(place, content)
            peak, said = measured(Path(temporary, name))
            rows.append((name, Path(temporary, name).stat().st_size, (peak - plain) / 1e6, said))
        looked, sorted_ = listing(Path(temporary, "many"), asked.files, asked.folders)
    print("| file | bytes | memory, MB | what came of it |\n|---|---|---|---|")
    for name, size, memory, said in rows:
        print(f"| {name} | {size:,} | {memory:.0f} | {said} |")
    print(
        f"\n{asked.files:,} files in {asked.folders:,} folders: looked through {looked:.2f} s, sorted {sorted_:.2f} s\n"
    )
    result = {
        "files": len(rows),
        "most_mb": round(max(row[2] for row in rows)),
        "survey_s": round(looked, 2),
        "arrange_s": round(sorted_, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
