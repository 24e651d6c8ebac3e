"""NIfTI volumes from strangers: the size judged by the header before anything is unpacked, axial slices."""

from __future__ import annotations

import gzip
import io
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorxai.archives import grey
from tumorxai.archives.archives import UnreadableError
from tumorxai.archives.grey import Slices
from tumorxai.archives.images import MAX_MEMORY, MAX_PIXELS, MIN_SIDE

HEADERS = {348: 1, 540: 2}  # bytes of a header by which its version is told


class Volume(NamedTuple):
    """A volume whose axes count to the right, to the front and up.

    Attributes:
        values: as stored, (X, Y, Z); a view where possible.
        slope: of the values, and ``intercept``.
        spacing: of its voxels along the three axes, mm.
        window: of the header, if it states one.
    """

    values: NDArray[Any]
    slope: float
    intercept: float
    spacing: tuple[float, float, float]
    window: grey.Window | None


def volume(data: bytes) -> Volume:
    """Unpack a volume, of several in one file the first, and turn it to one orientation.

    Raises:
        UnreadableError: it is damaged, too large, too small or no volume of numbers.
    """
    from nibabel.orientations import apply_orientation, io_orientation

    try:
        head, stream = _header(data)
        shape = [int(side) for side in head.get_data_shape()]
        kind, start = head.get_data_dtype(), int(head["vox_offset"])
        if len(shape) < 3:
            shape += [1] * (3 - len(shape))
        count = int(np.prod([int(side) for side in shape[:3]], dtype=object))
        if min(shape, default=0) < 1 or kind.kind not in "biuf" or not 0 <= start <= MAX_MEMORY:
            raise UnreadableError("a NIfTI file that holds no volume of plain numbers")
        if count * kind.itemsize > MAX_MEMORY - len(data):
            raise UnreadableError(
                f"a volume of {count * kind.itemsize // 10**6} MB; at most {(MAX_MEMORY - len(data)) // 10**6} MB"
            )
        size = start + count * kind.itemsize
        stream.seek(0)
        unpacked = stream.read(size)
        if len(unpacked) < size:
            raise UnreadableError(f"a NIfTI file of {len(unpacked)} bytes, of {size} that its header states; cut off")
        stored = np.frombuffer(unpacked, kind, count, start).reshape(shape[:3], order="F")
        axes = io_orientation(head.get_best_affine())
        slope, intercept = head.get_slope_inter()
        zooms = [float(side) for side in head.get_zooms()[:3]] + [1.0] * 3
        order = [int(np.flatnonzero(axes[:, 0] == axis)[0]) for axis in range(3)]
        low, high = float(head["cal_min"]), float(head["cal_max"])
        return Volume(
            apply_orientation(stored, axes), float(slope or 1), float(intercept or 0),
            (zooms[order[0]], zooms[order[1]], zooms[order[2]]), (low, high) if low < high else None,
        )  # fmt: skip
    except UnreadableError:
        raise
    except Exception as error:  # damage of any kind, of the header, of the packing or of the orientation
        raise UnreadableError(f"a NIfTI file that cannot be read ({type(error).__name__})") from None


def several(data: bytes) -> bool:
    """Does a file state more than one volume?"""
    try:
        return bool(np.prod(_header(data)[0].get_data_shape()[3:], dtype=object) > 1)
    except Exception:  # damage, which is told as the file is read
        return False


def _header(data: bytes) -> tuple[Any, io.BufferedIOBase]:
    """The header, and a stream of the unpacked file that never reads more than it is asked for."""
    import nibabel

    stream: io.BufferedIOBase = io.BytesIO(data)
    if data[:2] == b"\x1f\x8b":
        stream = gzip.GzipFile(fileobj=stream)
    first = stream.read(540)
    version = next((own for size, own in HEADERS.items() for order in ("little", "big")
                    if int.from_bytes(first[:4], order) == size), 0)  # fmt: skip
    if first[344:347] == b"ni1" and version == 1:
        raise UnreadableError("a NIfTI header without its volume; save both as one .nii file")
    if not version:
        raise UnreadableError("no NIfTI file, whatever its name says")
    kind = nibabel.Nifti1Header if version == 1 else nibabel.Nifti2Header
    return kind.from_fileobj(io.BytesIO(first), check=False), stream


def pictures(data: bytes, slices: Slices) -> list[tuple[int, bytes]]:
    """Some axial slices as PNGs: the face up, the patient's right on the left, as radiologists look at them.

    Args:
        data: the file.
        slices: which are taken: :func:`tumorxai.archives.grey.chosen`.

    Returns:
        The place of each, counted from below, and the PNG.

    Raises:
        UnreadableError: see :func:`volume`; or it is a map of a few labels, as masks are.
    """
    whole = volume(data)
    across, back, count = whole.values.shape
    if min(across, back) < MIN_SIDE or across * back > MAX_PIXELS:
        raise UnreadableError(
            f"slices of {across} x {back} voxels; at least {MIN_SIDE} x {MIN_SIDE}, at most {MAX_PIXELS} in all"
        )
    places = grey.chosen(count, slices)
    grey.check_values(whole.values[:, :, place] for place in places)
    grey.check_memory(len(data) + whole.values.nbytes, across * back, whole.values.itemsize, MAX_MEMORY)
    return [(place, _picture(whole, place)) for place in places]


def _picture(whole: Volume, place: int) -> bytes:
    values = whole.values[::-1, ::-1, place].T.astype(np.float32)
    values *= np.float32(whole.slope)
    values += np.float32(whole.intercept)
    return grey.png(grey.levels(values, whole.window), whole.spacing[1], whole.spacing[0])
