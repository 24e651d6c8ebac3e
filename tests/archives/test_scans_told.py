"""What is said of scans that are taken in part, or not at all, and of folders whose names are not kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.archives import scanner
from tests.archives.scanner import brain, volume
from tests.archives.test_packing import by_folder, listed
from tumorxai.archives import scans


def test_a_dicom_file_without_its_preamble_is_refused_with_a_remedy() -> None:
    assert "dcmconv" in scans.look_through({"a.dcm": lambda: b"\x08\0" * 200}, {}).refused["a.dcm"]


def test_files_of_several_volumes_are_counted(tmp_path: Path) -> None:
    four = np.stack([np.stack([brain(place, 32, 36, "<i2")] * 9, axis=-1) for place in range(4)], axis=-1)
    files = {"glioma/a.nii.gz": volume(four), "glioma/b.nii.gz": volume(), "no_tumor/c.nii.gz": volume(four[..., :1])}
    (said,) = (line for line in listed(by_folder(tmp_path, files)).remarks if "several volumes" in line)
    assert said.startswith("1 NIfTI file")


def test_folders_above_the_classes_are_counted_and_not_named(tmp_path: Path) -> None:
    files = {f"Doe{mark}_Jane/{name}/a.dcm": scanner.dicom() for mark in "ab" for name in ("glioma", "no_tumor")}
    said = listed(by_folder(tmp_path, files)).remarks
    assert "folders above the classes, not used: 2" in said
    assert "Doe" not in str(said)
