"""NIfTI volumes as slices."""

from __future__ import annotations

import gzip
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.archives.scanner import brain, pixels, volume
from tumorxai.archives import grey, nifti


def nifti_of(pattern: NDArray[Any], axes: str) -> bytes:
    """A volume, given as (right, front, up), stored along other axes."""
    wanted = nibabel.orientations.axcodes2ornt(axes)
    image = nibabel.Nifti1Image(pattern, np.diag([1.0, 1.0, 2.0, 1.0]))
    turn = nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), wanted)
    return gzip.compress(image.as_reoriented(turn).to_bytes(), mtime=0)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "ASL"])
def test_nifti_volumes_are_turned_to_one_orientation(axes: str) -> None:
    pattern = np.stack([brain(place, 30, 34, "<i2") for place in range(20)], axis=-1)
    pattern[:8, -8:] += 900  # the patient's left, for the first axis counts to the right, and the front
    found = nifti.pictures(nifti_of(pattern, axes), 3)
    assert [place for place, _ in found] == grey.chosen(20, 3)
    shown = pixels(found[1][1])
    assert shown.shape == (34, 30)
    assert shown[:8, -8:].mean() > 200, "front above, the patient's left on the right"
    assert found == nifti.pictures(nifti_of(pattern, "RAS"), 3)


def test_of_several_volumes_in_one_file_the_first() -> None:
    four = np.stack([np.stack([brain(place, 32, 36, "<i2")] * 9, axis=-1) for place in range(4)], axis=-1)
    assert nifti.pictures(volume(four), 2) == nifti.pictures(volume(four[..., 0]), 2)
