"""What is said of scans that are taken in part, or not at all, and of folders whose names are not kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.archives import scanner
from tests.archives.scanner import brain, volume
from tests.archives.test_packing import by_folder, listed
from tumorxai.archives import levels, scans


def stack(seed: int) -> NDArray[np.int16]:
    """Values of a small volume."""
    return np.stack([brain(100 * seed + place, 32, 36, "<i2") for place in range(2)], axis=-1)


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


@pytest.mark.parametrize(
    ("sites", "said"),
    [
        (("SITE_A", "SITE_B"), "folders taken for mere containers, as sites are: 2"),
        (("Bonn", "Ulm"), "folders above the classes, not used: 2"),
    ],
)
def test_sites_above_classes_are_no_classes_and_are_counted(tmp_path: Path, sites: tuple[str, str], said: str) -> None:
    cases = [(site, name) for site in sites for name in ("glioma", "no_tumor")]
    files = {f"{site}/{name}/p{i}/v.nii.gz": volume(stack(i)) for i, (site, name) in enumerate(cases)}
    files |= {f"{site}/{name}/Q{i}/v.dcm": scanner.dicom(PatientID=f"Q{i}") for i, (site, name) in enumerate(cases)}
    found = listed(by_folder(tmp_path, files))
    assert {one.native_label for one in found.candidates} == {"glioma", "no_tumor"}
    assert len({one.notes["patient"] for one in found.candidates}) == 8
    assert said in found.remarks


@pytest.mark.parametrize("names", [("Bonn", "Ulm", "alpha", "beta"), ("alpha", "beta", "Bonn", "Ulm")])
def test_of_three_levels_that_no_word_tells_the_patients_are_no_classes_and_the_choice_is_told(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    cases = [f"{top}/{below}/Doe{i}{top}{below}" for top in names[:2] for below in names[2:] for i in "xy"]
    found = listed(by_folder(tmp_path, {f"{own}/v.nii.gz": volume(stack(i)) for i, own in enumerate(cases)}))
    assert {one.native_label for one in found.candidates} == set(names[2:])
    assert len({one.notes["patient"] for one in found.candidates}) == len(cases)
    (said,) = (line for line in found.remarks if line.startswith(levels.UNTOLD))
    assert said.endswith("other levels: level 1 (…)")
    assert not any(name in str(found.remarks) for name in (*names[:2], "Doe"))
