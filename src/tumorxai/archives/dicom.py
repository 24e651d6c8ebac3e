"""DICOM files from strangers: the header judged before a pixel is decoded, one frame decoded at a time.

No message holds a word of the header: it may be the patient's name.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorxai.archives import grey, text, words
from tumorxai.archives.archives import UnreadableError
from tumorxai.archives.images import MAX_MEMORY, MAX_PIXELS, MIN_SIDE

MAX_HEADER = 4 * 2**20  # bytes before the pixels; parsed, they take up to thirty times as much memory
MAX_FRAMES = 10_000
RLE_BOMB = 64  # times that a run of DICOM's RLE may be longer than its two bytes
DEFLATED = {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"}  # unpacked without a bound when they are opened
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture and its kin: screenshots, photographs, scans of paper
ANONYMOUS = {"anonymous", "anonymized", "anonymised", "anon", "deidentified", "removed", "patient", "0"}

_KEYWORDS = (
    "SOPClassUID", "ImageType", "PatientID", "PatientName", "OtherPatientIDs", "StudyInstanceUID", "SeriesInstanceUID",
    "InstanceNumber", "SeriesDescription", "ProtocolName", "ImageOrientationPatient", "ImagePositionPatient",
    "PixelSpacing", "WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope", "RescaleIntercept",
    "ModalityLUTSequence", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "PixelPaddingValue",
    "PhotometricInterpretation", "BurnedInAnnotation", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)  # fmt: skip


class Plane(NamedTuple):
    """Where a frame lies in the patient.

    Attributes:
        orientation: cosines of the directions in which columns and rows count, of (left, back, up): 6 numbers, or none.
        position: along the normal of the frame, mm; None where it is not told.
    """

    orientation: tuple[float, ...] = ()
    position: float | None = None


@dataclass(frozen=True)
class Header:
    """What a file's header says. Ids and names stay in memory.

    Attributes:
        patient: id, else name; empty for none, and for what stands in anonymous files.
        names: words of names and ids, as :func:`tumorxai.archives.words.squash` leaves them.
        study: identity of the examination.
        series: identity of the series.
        sequence: of MRI, by the words of the series' description.
        number: of the file in its series.
        planes: of each frame.
        size: rows and columns.
        left_out: why it is no image of the data set; empty for one that is.
        capture: may it be a screenshot, with text in its pixels?
    """

    patient: str
    names: frozenset[str]
    study: str
    series: str
    sequence: words.Sequence
    number: int
    planes: tuple[Plane, ...]
    size: tuple[int, int]
    left_out: str
    capture: bool


def header(data: bytes) -> Header:
    """Read a header and judge it.

    Args:
        data: the file.

    Raises:
        UnreadableError: it is damaged, holds no pixels, is too large or cannot be decoded here.
    """
    with _Quiet("its DICOM header cannot be read"):
        told, _ = _parsed(data)
        _judged(told, len(data))
        person = text.patient_id(str(told.get("PatientID") or ""))
        called = text.patient_id(str(told.get("PatientName") or ""))
        person, called = ("" if _nobody(own) else own for own in (person, called))
        ids = [person, *_strings(told.get("OtherPatientIDs"))]
        spelt = {words.squash(own) for own in [*ids, *words.tokens(called.replace("^", " "))]}
        spoken = (words.spoken(str(told.get(key) or "")) for key in ("SeriesDescription", "ProtocolName"))
        kind = [own.casefold() for own in _strings(told.get("ImageType"))]
        capture = str(told.get("SOPClassUID") or "").startswith(CAPTURE)
        return Header(
            patient=person or called,
            names=frozenset(name for name in spelt if len(name) > 1),
            study=str(told.get("StudyInstanceUID") or ""),
            series=str(told.get("SeriesInstanceUID") or ""),
            sequence=next((own for own in spoken if own), ""),
            number=int(told.get("InstanceNumber") or 0),
            planes=tuple(_plane(told, index) for index in range(_frames(told))),
            size=(int(told.Rows), int(told.Columns)),
            left_out="a localizer, which only shows where the other images lie" if "localizer" in kind else "",
            capture=capture,
        )


def picture(data: bytes, index: int = 0) -> bytes:
    """One frame as an upright PNG in grey levels, or in colour.

    Values are rescaled by the header and seen through its window, or as :func:`tumorxai.archives.grey.levels` does
    without one; MONOCHROME1 is inverted. An axial or coronal image shows the patient's right on its left, a sagittal
    one the face.

    Raises:
        UnreadableError: see :func:`header`; or the pixels are damaged, or of a few values, as masks are.
    """
    from pydicom.pixels.utils import pixel_array

    with _Quiet("its DICOM pixels cannot be decoded"):
        told, stream = _parsed(data)
        _judged(told, len(data))
        _check_stream(told, stream, index)
        syntax = told.file_meta.TransferSyntaxUID
        try:
            stored = pixel_array(io.BytesIO(data), index=index if _frames(told) > 1 else None)
        except RuntimeError:  # what decodes this kind of compression does not know this one of its variants
            raise UnreadableError(
                f"compressed by {syntax.name}, which cannot be decoded here; install pylibjpeg[all], or decompress it"
            ) from None
        spacing = _strings(_of_frame(told, index, "PixelMeasuresSequence", "PixelSpacing"))
        height, width = (float(own) for own in spacing) if len(spacing) == 2 else (1.0, 1.0)
        if stored.ndim == 3:
            pixels = (stored >> 8 * (stored.dtype.itemsize - 1)).astype(np.uint8)
        else:
            grey.check_values([stored])
            pixels = grey.levels(
                _rescaled(told, index, stored), _window(told, index), told.PhotometricInterpretation == "MONOCHROME1"
            )
        pixels, turned = upright(pixels, _plane(told, index).orientation)
        return grey.png(np.ascontiguousarray(pixels), *((width, height) if turned else (height, width)))


class _Quiet:
    """Damage of any kind as one reason, without the words of pydicom, which may quote the header."""

    def __init__(self, what: str) -> None:
        self._what, self._warnings = what, warnings.catch_warnings()

    def __enter__(self) -> None:
        self._warnings.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._warnings.__exit__(kind, error, trace)
        if isinstance(error, Exception) and not isinstance(error, UnreadableError):
            raise UnreadableError(f"{self._what} ({type(error).__name__})") from None


def _parsed(data: bytes) -> tuple[Any, io.BytesIO]:
    """The header's elements that are used, and a stream that stands where the pixels' element begins."""
    from pydicom.filereader import _read_file_meta_info, read_partial, read_preamble
    from pydicom.tag import Tag

    stream = io.BytesIO(data[:MAX_HEADER])
    read_preamble(stream, force=False)
    syntax = _read_file_meta_info(stream).get("TransferSyntaxUID")
    if not syntax:
        raise UnreadableError("a DICOM file that does not say how it is written (no transfer syntax)")
    if syntax in DEFLATED:
        raise UnreadableError("a deflated DICOM file; write it uncompressed")
    stream.seek(0)
    found: list[int] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag in (0x7FE00008, 0x7FE00009, 0x7FE00010):
            found.append(tag)
        return bool(found)

    told = read_partial(stream, stop_when=at_pixels, specific_tags=[Tag(keyword) for keyword in _KEYWORDS])
    if not found:
        raise UnreadableError(
            f"a DICOM header of more than {MAX_HEADER} bytes" if len(data) > MAX_HEADER else
            "a DICOM file without an image, as reports and presentation states are"
        )  # fmt: skip
    position = stream.tell()
    stream = io.BytesIO(data)
    stream.seek(position)
    return told, stream


def _judged(told: Any, size: int) -> None:
    """Refuse by the header what must not or cannot be decoded."""
    from pydicom.pixels.decoders.base import get_decoder

    rows, columns, frames = int(told.Rows), int(told.Columns), _frames(told)
    samples, bits = int(told.get("SamplesPerPixel") or 1), int(told.BitsAllocated)
    if rows * columns > MAX_PIXELS or min(rows, columns) < MIN_SIDE:
        raise UnreadableError(
            f"{columns} x {rows} pixels; at least {MIN_SIDE} x {MIN_SIDE}, at most {MAX_PIXELS} in all"
        )
    if not 1 <= frames <= MAX_FRAMES:
        raise UnreadableError(f"{frames} frames; at most {MAX_FRAMES}")
    grey.check_memory(size, rows * columns * samples, bits // 8, MAX_MEMORY)
    kind = str(told.PhotometricInterpretation)
    if bits == 1:
        raise UnreadableError("a mask, not an image")
    if not kind.startswith(("MONOCHROME", "RGB", "YBR")) or (kind.startswith("MONO") != (samples == 1)):
        raise UnreadableError("a map in false colours, not an image")
    if str(told.get("BurnedInAnnotation") or "").upper() == "YES":
        raise UnreadableError("text is burned into its pixels, which may name the patient")
    syntax = told.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise UnreadableError("compressed in a way that pydicom does not know; decompress it") from None
    if not decoder.is_available:
        raise UnreadableError(
            f"compressed by {syntax.name}, which cannot be decoded here; install pylibjpeg[all], or decompress it"
        )


def _check_stream(told: Any, stream: io.BytesIO, index: int) -> None:
    """Refuse a compressed frame that is larger than the header states, or cannot be bounded."""
    from pydicom.encaps import get_frame
    from pydicom.uid import RLELossless

    syntax = told.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return
    stream.seek(12, io.SEEK_CUR)  # tag, type and length
    frame = get_frame(stream, index, number_of_frames=_frames(told))
    if syntax == RLELossless:
        if len(frame) * RLE_BOMB > MAX_MEMORY:
            raise UnreadableError(f"a frame of {len(frame)} bytes in RLE; at most {MAX_MEMORY // RLE_BOMB}")
    elif (stated := _stated(frame)) != (int(told.Rows), int(told.Columns)):
        raise UnreadableError(f"its compressed image is of another size than its header says ({stated})")


def _stated(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream states; None where it states none."""
    start = frame.find(b"\xff\x4f\xff\x51")
    if 0 <= start < 256:  # JPEG 2000, alone or in a file of boxes: width, height and their offsets
        width, height, left, top = struct.unpack_from(">IIII", frame, start + 8)
        return height - top, width - left
    place = 2
    while frame[:2] == b"\xff\xd8" and place + 9 <= len(frame) and frame[place] == 0xFF:
        mark = frame[place + 1]
        if mark == 0xF7 or (0xC0 <= mark <= 0xCF and mark not in (0xC4, 0xC8, 0xCC)):
            return struct.unpack_from(">HH", frame, place + 5)
        place += 1 if mark == 0xFF else 2 + struct.unpack_from(">H", frame, place + 2)[0]
    return None


def _frames(told: Any) -> int:
    return int(told.get("NumberOfFrames") or 1)


def _strings(value: Any) -> list[str]:
    """An element's values, of which there may be none, one or several."""
    if value is None or value == "":
        return []
    return [str(value)] if isinstance(value, str | int | float) else [str(own) for own in value]


def _nobody(name: str) -> bool:
    return words.squash(name) in ANONYMOUS or not words.squash(name)


def _of_frame(told: Any, index: int, sequence: str, keyword: str) -> Any:
    """What is said of one frame: in its own group, in that of all frames, or in the file's header."""
    for group, place in (("PerFrameFunctionalGroupsSequence", index), ("SharedFunctionalGroupsSequence", 0)):
        items = told.get(group) or []
        inner = items[place].get(sequence) if place < len(items) else None
        if inner and inner[0].get(keyword) is not None:
            return inner[0].get(keyword)
    return told.get(keyword)


def _plane(told: Any, index: int) -> Plane:
    directions = _of_frame(told, index, "PlaneOrientationSequence", "ImageOrientationPatient")
    place = _of_frame(told, index, "PlanePositionSequence", "ImagePositionPatient")
    try:
        own = np.array([float(value) for value in directions or []])
        if own.shape != (6,) or not np.isfinite(own).all():
            return Plane()
        normal = np.cross(own[:3], own[3:])
        where = float(normal @ np.array([float(value) for value in place])) if place is not None else None
    except (TypeError, ValueError):
        return Plane()
    return Plane(tuple(own.round(2).tolist()), where)


def _rescaled(told: Any, index: int, stored: NDArray[Any]) -> NDArray[np.float32]:
    """Stored values in the scanner's unit: slope x stored + intercept (DICOM PS3.3, C.11.1.1.2); padding is NaN."""
    slope, intercept = (
        _of_frame(told, index, "PixelValueTransformationSequence", key) for key in ("RescaleSlope", "RescaleIntercept")
    )
    values = stored.astype(np.float32)
    padding = told.get("PixelPaddingValue")
    if padding is not None and not isinstance(padding, bytes):
        values[stored == int(padding)] = np.nan
    values *= np.float32(1 if slope in (None, "") else float(slope)) or np.float32(1)
    values += np.float32(0 if intercept in (None, "") else float(intercept))
    return values


def _window(told: Any, index: int) -> grey.Window | None:
    """The header's first window (PS3.3, C.11.2.1.2); None for none, and for one that is not linear."""
    centre, width, function = (
        _strings(_of_frame(told, index, "FrameVOILUTSequence", key))
        for key in ("WindowCenter", "WindowWidth", "VOILUTFunction")
    )
    if not centre or not width or "SIGMOID" in function or told.get("ModalityLUTSequence"):
        return None
    middle, half = float(centre[0]), float(width[0]) / 2
    return middle - half, middle + half


def upright(pixels: NDArray[np.uint8], orientation: Sequence[float]) -> tuple[NDArray[np.uint8], bool]:
    """Turn an image by right angles and flips until it lies as radiologists look at it.

    Args:
        pixels: (H, W) or (H, W, 3).
        orientation: as in :class:`Plane`; without it nothing is turned.

    Returns:
        The pixels, and whether rows and columns changed places.
    """
    if len(orientation) != 6:
        return pixels, False
    along, down = np.array(orientation[:3]), np.array(orientation[3:])
    axes = int(abs(along).argmax()), int(abs(down).argmax())
    if axes[0] == axes[1]:
        return pixels, False
    across = 1 if 0 not in axes else 0  # from front to back on a sagittal image, from right to left on the others
    if turned := axes[0] != across:
        pixels, along, down, axes = np.swapaxes(pixels, 0, 1), down, along, axes[::-1]
    if along[axes[0]] < 0:
        pixels = pixels[:, ::-1]
    if (down[axes[1]] < 0) == (axes[1] == 1):  # rows count from front to back, or from the head down
        pixels = pixels[::-1]
    return pixels, turned
