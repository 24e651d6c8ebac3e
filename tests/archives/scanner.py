"""DICOM and NIfTI files as scanners write them, of a patient whose name and id must never be seen again."""

from __future__ import annotations

import gzip
import io
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

ROOT = "1.2.826.0.1.3680043.8.498."  # of identities made up here
AXIAL = (1, 0, 0, 0, 1, 0)


def brain(seed: int = 0, height: int = 40, width: int = 40, kind: str = "<u2") -> NDArray[Any]:
    """A bright disc with noise on black: values from 0 to some hundreds."""
    y, x = np.mgrid[:height, :width]
    disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (0.4 * min(height, width)) ** 2
    noise = np.random.default_rng(seed).integers(100, 400, (height, width))
    return (disc * noise).astype(kind)


def dataset(pixels: NDArray[Any], **told: Any) -> Dataset:
    """A slice of ``pixels`` (H, W) or, of several frames, (N, H, W)."""
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = MRImageStorage
    found.file_meta.MediaStorageSOPInstanceUID = ROOT + "1"
    found.SOPClassUID, found.SOPInstanceUID = MRImageStorage, ROOT + "1"
    found.PatientName, found.PatientID, found.PatientBirthDate = "Musterfrau^Erika", "MRN47110815", "19640812"
    found.StudyInstanceUID, found.SeriesInstanceUID = ROOT + "2", ROOT + "3"
    found.SeriesDescription = "AX T1 post GD"
    found.InstanceNumber = 1
    found.ImageOrientationPatient, found.ImagePositionPatient = list(AXIAL), [0, 0, 0]
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.Rows, found.Columns = pixels.shape[-2:]
    found.BitsAllocated = found.BitsStored = 8 * pixels.dtype.itemsize
    found.HighBit = found.BitsStored - 1
    found.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        found.NumberOfFrames = len(pixels)
    found.PixelData = pixels.tobytes()
    for keyword, value in told.items():
        setattr(found, keyword, value)
    return found


def written(told: Dataset) -> bytes:
    stream = io.BytesIO()
    told.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def dicom(pixels: NDArray[Any] | None = None, **told: Any) -> bytes:
    return written(dataset(brain() if pixels is None else pixels, **told))


def series(patient: str, count: int = 12, seed: int = 0, **told: Any) -> list[bytes]:
    """Slices of one series from below upwards, their numbers counting downwards as scanners may do."""
    own = {"SeriesInstanceUID": f"{ROOT}9.{seed}", "StudyInstanceUID": f"{ROOT}8.{seed}"}
    return [
        dicom(
            brain(seed * 1000 + place),
            PatientID=patient,
            InstanceNumber=count - place,
            ImagePositionPatient=[0, 0, 5 * place],
            **own | told,
        )
        for place in range(count)
    ]


def volume(values: NDArray[Any] | None = None, affine: NDArray[Any] | None = None) -> bytes:
    """A .nii.gz of a volume, by default 32 x 36 x 20 with a brain in each slice."""
    if values is None:
        values = np.stack([brain(place, 32, 36, "<i2") for place in range(20)], axis=-1)
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    return gzip.compress(image.to_bytes(), mtime=0)


def pixels(png: bytes) -> NDArray[np.uint8]:
    """Of a picture."""
    return np.asarray(Image.open(io.BytesIO(png)))
