"""DICOM and NIfTI files: right slices, right way up, right grey levels, and no patient's name anywhere."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from tests.archives import scanner
from tests.archives.scanner import brain, pixels, series, volume
from tests.archives.test_packing import by_folder, by_zip
from tumorxai.archives import dicom, grey
from tumorxai.archives.arranging import MANIFEST
from tumorxai.archives.packing import zip_folder
from tumorxai.catalogue import catalogue
from tumorxai.catalogue.listing import Listing, list_archive
from tumorxai.config import Data, PathSource
from tumorxai.errors import UserError

Files = dict[str, bytes]
Door = Callable[[Path, Files], Path]


@pytest.fixture(params=[by_folder, by_zip])
def door(request: pytest.FixtureRequest) -> Door:
    return request.param


def named(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return sorted(set(archive.namelist()) - {MANIFEST})


def listed(path: Path) -> Listing:
    return list_archive(path, "local/mine", None)


def three_patients() -> Files:
    """Series of three patients, in folders and files called by their names and ids."""
    files: Files = {}
    for seed, (kind, name, number) in enumerate(
        [
            ("glioma", "Musterfrau_Erika", "MRN47110815"),
            ("glioma", "Doering_Johannes", "MRN47120815"),
            ("healthy", "Roebuck_Janina", "MRN47130815"),
        ]
    ):
        person = name.replace("_", "^")
        for place, data in enumerate(series(number, 12, seed, PatientName=person)):
            files[f"{kind}/{name}/{number}_{place:02d}"] = data  # without an ending, as scanners write them
    return files


IDS = ("47110815", "47120815", "47130815", "19640812")
SECRETS = ("musterfrau", "erika", "doering", "johannes", "roebuck", "janina", *IDS, scanner.ROOT)


def test_series_become_slices_of_patients_whom_nobody_knows(door: Door, tmp_path: Path) -> None:
    found = listed(door(tmp_path, three_patients()))
    assert len(found.candidates) == 12, "four of each"
    assert {one.native_label for one in found.candidates} == {"glioma", "healthy"}
    assert {one.notes["sequence"] for one in found.candidates} == {"T1C+"}
    assert len({one.notes["patient"] for one in found.candidates}) == 3
    assert not found.refused
    assert not found.left_out


def test_no_name_and_no_id_reaches_any_output(door: Door, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of all that a source with names may hold: notes, tables, other images, damaged files, masks, empty folders."""
    whole = three_patients()
    person = {"PatientName": "Doering^Johannes", "PatientID": "MRN47120815"}
    more = {
        "glioma/Doering_Johannes/preview_of_Doering.png": b"Doering, no image, but a letter",
        "glioma/Doering_Johannes/MRN47120815_photo.png": scanner_png(),
        "glioma/Doering_Johannes/MRN47120815_photo_mask.png": scanner_png(),
        "glioma/Doering_Johannes/MRN47120815_cut.dcm": scanner.dicom(
            PatientName="Doering^Johannes", PatientID="MRN47120815"
        )[:900],
        "glioma/Doering_Johannes/MRN47120815_short.dcm": scanner.dicom(
            PatientName="Doering^Johannes", PatientID="MRN47120815"
        )[:-900],
        "glioma/Doering_Johannes/MRN47120815_text.dcm": scanner.dicom(
            BurnedInAnnotation="YES", PatientName="Doering^Johannes"
        ),
        "glioma/Doering_Johannes/MRN47120815_seg.nii.gz": volume(),
        "glioma/Doering_Johannes/Doering_report.pdf": b"Johannes Doering",
        "glioma/Doering_Johannes/labels.csv": b"file,label,name\nx,glioma,Johannes Doering\n",
        "glioma/Doering_masks/MRN47120815.png": scanner_png(),
        "glioma/Doering_masks/MRN47120815.dcm": scanner.dicom(**person),
        "Doering_letters/MRN47120815.txt": b"Dear Mr Doering",
        "Doering_letters/MRN47120815.zip": b"PK",
        "annotations.csv": b"file,patient,sequence\nglioma/Doering_Johannes/MRN47120815_photo.png,MRN47120815,T2\n"
        b"glioma/Doering_Johannes/MRN47120815_gone.png,MRN47120815,T1\n",
    }
    source = door(tmp_path, whole | more)
    assert_no_secret(everything(source))
    archives = tmp_path / "archives"
    archives.mkdir()
    source.rename(archives / "local--mine.zip")
    settings = Data(sources=[PathSource(path="mine", name="mine")], taxonomy="native", image_size=32)
    catalogue.build(archives, settings, tmp_path / "data", tmp_path / "details.json", tmp_path / "plots", workers=1)
    out = [tmp_path / "details.json", *(tmp_path / "data").iterdir(), *(tmp_path / "plots").iterdir()]
    for path in out:
        assert_no_secret(path.name.encode() + path.read_bytes())
    assert_no_secret("".join(capfd.readouterr()).encode())
    assert (tmp_path / "data/catalogue.csv").read_text().count("local/mine:patient-") >= 12


def scanner_png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(brain(77, kind="u1")).save(stream, "PNG")
    return stream.getvalue()


def everything(archive: Path) -> bytes:
    """Names and contents of a zip, images as their pixels and metadata too."""
    with zipfile.ZipFile(archive) as opened:
        parts = [archive.read_bytes()]
        for info in opened.infolist():
            parts += [info.filename.encode(), info.comment, info.extra, opened.read(info)]
            if info.filename.endswith(".png"):
                image = Image.open(io.BytesIO(opened.read(info)))
                parts += [repr(image.info).encode(), image.tobytes()]
        return b"\n".join(parts)


def assert_no_secret(data: bytes) -> None:
    plain = data.lower()
    for secret in SECRETS:
        assert secret.encode() not in plain, secret
        assert secret.encode("utf-16-le") not in plain, secret


def test_one_patient_is_one_whatever_tells(door: Door, tmp_path: Path) -> None:
    """The header's id, the folder's and the table's, of scans and of other images, are held against each other."""
    files = {
        "glioma/a/1.dcm": scanner.dicom(PatientID="p0007"),
        "glioma/p0007/2.dcm": scanner.dicom(PatientID="", PatientName=""),
        "glioma/b/3.png": scanner_png(),
        "healthy/c/4.dcm": scanner.dicom(PatientID="anonymous", PatientName="", StudyInstanceUID=scanner.ROOT + "77"),
        "annotations.csv": b"file,patient\nglioma/b/3.png,p0007\n",
    }
    found = listed(door(tmp_path, files))
    by_class = [(one.native_label, one.notes["patient"]) for one in found.candidates]
    assert len(by_class) == 4
    assert len(set(by_class)) == 2


def test_pseudonyms_follow_from_the_scans_alone(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    one = named(by_folder(tmp_path / "a", three_patients()))
    assert named(by_zip(tmp_path / "b", three_patients())) == one
    again = three_patients()
    again["glioma/Doering_Johannes/MRN47120815_00"] = scanner.dicom(
        brain(5), PatientID="MRN47120815", SeriesInstanceUID=scanner.ROOT + "5"
    )
    other = named(by_folder(tmp_path / "c", again))
    assert not {name.split("/")[2] for name in one} & {name.split("/")[2] for name in other}, "another salt"


def test_folders_of_patients_are_never_classes(door: Door, tmp_path: Path) -> None:
    """No word tells the classes: without the headers the innermost folders would be taken for them."""
    files = {
        f"IDH{sign}/{name}/x.dcm": scanner.dicom(
            brain(seed), PatientID=f"MRN{seed}", PatientName=name.replace("_", "^")
        )
        for seed, (sign, name) in enumerate(
            [("+", "Doering_Johannes"), ("+", "Roebuck_Janina"), ("-", "Poe_Edgar"), ("-", "Moe_Joe")]
        )
    }
    found = listed(door(tmp_path, files))
    assert {one.native_label for one in found.candidates} == {"IDH+", "IDH-"}
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="got no image in a class folder") as error:
        listed(door(tmp_path / "none", {name.split("/", 1)[1]: data for name, data in files.items()}))
    assert "Doering" not in str(error.value)


@pytest.mark.parametrize("kind", ["nifti", "anonymous", "short"])
@pytest.mark.parametrize("inner", ["", "/anat"])
def test_folders_inside_of_unknown_classes_are_patients(door: Door, tmp_path: Path, kind: str, inner: str) -> None:
    """No header names them, or by two letters alone; one of them has images of two classes."""
    people = [("mut", "Li"), ("mut", "Doe_Jane"), ("wt", "Poe_Edgar"), ("wt", "Doe_Jane")]
    files = {}
    for seed, (sign, name) in enumerate(people):
        told = "anon" if kind == "anonymous" else name.replace("_", "^")
        data = scanner.dicom(brain(seed), PatientID="", PatientName=told, StudyInstanceUID=f"{scanner.ROOT}7.{seed}")
        if kind == "anonymous":  # one patient's second examination
            files[f"IDH{sign}/{name}{inner}/y.dcm"] = scanner.dicom(
                brain(seed + 9), PatientID="", PatientName=told, StudyInstanceUID=f"{scanner.ROOT}6.{seed}"
            )
        files[f"IDH{sign}/{name}{inner}/x" + (".nii.gz" if kind == "nifti" else ".dcm")] = (
            volume(brain(seed, 32, 32)[:, :, None].repeat(20, 2)) if kind == "nifti" else data
        )
    source = door(tmp_path, files)
    found = listed(source)
    assert {one.native_label for one in found.candidates} == {"IDHmut", "IDHwt"}
    assert len({one.notes["patient"] for one in found.candidates}) == 3
    said = "2 classes that no word tells keep their names"
    assert any(said in line for line in found.remarks)
    content = everything(source) + str(found).encode()
    assert not any(name in content for name in (b"Doe", b"Jane", b"Edgar", b"Li/"))


def test_classes_under_hospitals_are_told_by_their_many_patients(door: Door, tmp_path: Path) -> None:
    files = {
        f"site{site}/IDH{sign}/{number}.dcm": scanner.dicom(brain(number), PatientID=f"{site}{sign}{number}")
        for site in "AB" for sign in ("mut", "wt") for number in (1, 2)
    }  # fmt: skip
    assert {one.native_label for one in listed(door(tmp_path, files)).candidates} == {"IDHmut", "IDHwt"}


@pytest.mark.parametrize("kind", ["dcm", "nii.gz"])
def test_classes_in_folders_of_patients_stay_classes(door: Door, tmp_path: Path, kind: str) -> None:
    files = {}
    for place, (person, sign) in enumerate((("Doe", "mut"), ("Roe", "wt"), ("Poe", "mut"))):
        data = scanner.dicom(brain(place), PatientName=person, PatientID="") if kind == "dcm" else volume()
        files[f"study/{person}_J/IDH{sign}/x.{kind}"] = data
    assert {one.native_label for one in listed(door(tmp_path, files)).candidates} == {"IDHmut", "IDHwt"}


def test_a_folder_called_by_class_and_patient_is_told(door: Door, tmp_path: Path) -> None:
    files = {"Doe glioma/x.dcm": scanner.dicom(PatientName="Doe^Jane"), "healthy/y.dcm": scanner.dicom(brain(2))}
    found = listed(door(tmp_path, files))
    assert any("1 folders are called by a patient and by a class at once" in line for line in found.remarks)
    assert "Doe" not in str(found)


def test_an_empty_folder_is_called_by_no_name(tmp_path: Path) -> None:
    (tmp_path / "mine/glioma/Smith_Al").mkdir(parents=True)
    with pytest.raises(UserError, match=r"mine/glioma/…: got no image, the folder is empty"):
        by_folder(tmp_path, {"glioma/x.dcm": scanner.dicom()})


def test_messages_about_tables_quote_no_name(door: Door, tmp_path: Path) -> None:
    files = {"glioma/x.dcm": scanner.dicom(), "healthy/y.dcm": scanner.dicom(brain(2))}
    for number, table in enumerate(
        (
            "file,side\nglioma/x.dcm,Doe Jane\n",
            "file,patient\nglioma/x.dcm,Doe Jane\nglioma/x.dcm,Roe Jim\n",
            "Doe Jane,patient\nglioma/x.dcm,1\n",
            "file,fold\nglioma/x.dcm,Doe Jane\n",
            "Doe/x.dcm,glioma\n",
        )
    ):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(UserError, match="labels") as caught:
            door(tmp_path / str(number), files | {"labels.csv": table.encode()})
        assert not re.search("Doe|Jane|Roe", str(caught.value))


def test_a_class_may_be_called_like_its_patients(door: Door, tmp_path: Path) -> None:
    files = {
        f"{kind}/{number}.dcm": scanner.dicom(PatientID=f"{kind}_{number}", PatientName=f"{kind}^{number}")
        for kind in ("Astro", "Oligo")
        for number in range(3)
    }
    assert {one.native_label for one in listed(door(tmp_path, files)).candidates} == {"Astro", "Oligo"}


def test_a_series_goes_by_positions_not_by_names_or_numbers(tmp_path: Path) -> None:
    shuffled = np.random.default_rng(1).permutation(12)
    files = {f"glioma/{name:02d}.dcm": series("p1")[place] for name, place in enumerate(shuffled)}
    files["healthy/x.dcm"] = scanner.dicom()
    source = by_folder(tmp_path, files)
    with zipfile.ZipFile(source) as archive:
        found = [pixels(archive.read(name)) for name in named(source) if name.startswith("glioma")]
    wanted = [pixels(dicom.picture(series("p1")[place])) for place in grey.chosen(12, 4)]
    assert len(found) == len(wanted)
    assert all((one == other).all() for one, other in zip(found, wanted, strict=True))


def test_of_echoes_at_one_position_the_first_is_taken(tmp_path: Path) -> None:
    files = {f"glioma/{echo}_{place}.dcm": data for echo in (1, 2)
             for place, data in enumerate(series("p1", 6, InstanceCreationDate=f"2020010{echo}"))}  # fmt: skip
    source = by_folder(tmp_path, files | {"healthy/x.dcm": scanner.dicom()})
    assert len(named(source)) == 5
    assert "6 pictures of a position that another of the series shows" in " ".join(listed(source).remarks)


def test_all_slices(tmp_path: Path) -> None:
    by_folder(tmp_path, three_patients())
    zip_folder(tmp_path / "mine", tmp_path / "all.zip", "all")
    assert len(named(tmp_path / "all.zip")) == 36


def frames() -> Dataset:
    """Three frames whose positions and orientation stand in the groups of an enhanced file, the middle one on top."""
    told = scanner.dataset(np.stack([brain(seed) + 1000 * seed for seed in range(3)]).astype("<u2"))
    del told.ImageOrientationPatient, told.ImagePositionPatient
    groups = []
    for place in (0, 10, 5):
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, place]
        group.PlanePositionSequence = [position]
        groups.append(group)
    orientation, shared, scale = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(scanner.AXIAL)
    shared.PlaneOrientationSequence = [orientation]
    scale.RescaleSlope, scale.RescaleIntercept = 2, -7
    shared.PixelValueTransformationSequence = [scale]
    told.SharedFunctionalGroupsSequence, told.PerFrameFunctionalGroupsSequence = [shared], groups
    return told


def test_frames_of_one_file_are_a_volume(tmp_path: Path) -> None:
    data = scanner.written(frames())
    source = by_folder(tmp_path, {"glioma/x.dcm": data, "healthy/y.dcm": scanner.dicom()})
    with zipfile.ZipFile(source) as archive:
        found = [archive.read(name) for name in named(source) if name.startswith("glioma")]
    assert found == [dicom.picture(data, frame) for frame in (0, 2, 1)], "from below upwards"
    assert len(set(found)) == 3


def test_nifti_by_folder_and_name(door: Door, tmp_path: Path) -> None:
    """Sequences and patients by the names, two sequences of one are one patient; masks beside stay out."""
    files = {}
    for number, kind in ((1, "glioma"), (2, "glioma"), (1, "healthy")):
        for sequence in ("t1ce", "flair"):
            files[f"{kind}/Case{number}_{sequence}.nii.gz"] = volume()
        files[f"{kind}/Case{number}_seg.nii.gz"] = volume()
    found = listed(door(tmp_path, files))
    assert len(found.candidates) == 6 * 4
    assert len({one.notes["patient"] for one in found.candidates}) == 3
    assert {one.notes["sequence"] for one in found.candidates} == {"T1C+", "FLAIR"}
    assert len(found.left_out) == 3


def nifti_header(*shape: int, kind: int = 16) -> bytes:
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<2h", head, 70, kind, 32)
    struct.pack_into("<f", head, 108, 352)
    head[344:348] = b"n+1\0"
    return bytes(head)


def hostile() -> dict[str, tuple[bytes, str]]:
    """Files that must be refused before they cost anything, each with the reason."""
    plain = scanner.dicom()
    large = scanner.dataset(brain())
    large.Rows = large.Columns = 60000
    many = scanner.dataset(brain())
    many.NumberOfFrames = 10**8
    table = scanner.dataset(brain(kind="u1"))
    table.PhotometricInterpretation = "PALETTE COLOR"
    mask = scanner.dataset(brain(kind="u1"))
    mask.BitsAllocated = 1
    report = scanner.dataset(brain())
    del report.PixelData
    packed = {}
    for syntax in (JPEGLSLossless, JPEGBaseline8Bit, RLELossless):
        own = scanner.dataset(brain(kind="u1"))
        own.file_meta.TransferSyntaxUID = syntax
        data = {JPEGBaseline8Bit: jpeg(3000), RLELossless: b"\1\0\0\0\x40\0\0\0" + bytes(56) + b"\x81\0" * 2_500_000}
        item = data.get(syntax, b"\xff\xd8\xff\xd9")
        item += b"\0" * (len(item) % 2)
        own.PixelData = b"\xfe\xff\0\xe0\0\0\0\0" + b"\xfe\xff\0\xe0" + struct.pack("<I", len(item)) + item
        own.PixelData += b"\xfe\xff\xdd\xe0\0\0\0\0"
        own["PixelData"].VR, own["PixelData"].is_undefined_length = "OB", True
        packed[syntax] = scanner.written(own)
    deflated = scanner.dataset(brain())
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    zeros = gzip.compress(nifti_header(20000, 20000, 2000) + bytes(10**6))
    return {
        "empty.dcm": (b"", "empty"),
        "text.dcm": (b"no image" * 50, "no DICOM file"),
        "cut.dcm": (plain[:400], "without an image|cannot be read"),
        "short.dcm": (plain[:-300], "cannot be decoded"),
        "large.dcm": (scanner.written(large), "60000 x 60000 pixels"),
        "frames.dcm": (scanner.written(many), "100000000 frames"),
        "palette.dcm": (scanner.written(table), "false colours"),
        "mask.dcm": (scanner.written(mask), "a mask"),
        "binary.dcm": (scanner.dicom((brain() > 0).astype("<u2")), "at most 8 values, as masks are"),
        "few.dcm": (scanner.dicom((np.indices((40, 40)).sum(0) % 8).astype("u1")), "at most 8 values, as masks are"),
        "report.dcm": (scanner.written(report), "without an image"),
        "text_burned.dcm": (scanner.dicom(BurnedInAnnotation="YES"), "burned into"),
        "jpegls.dcm": (packed[JPEGLSLossless], r"install pylibjpeg\[all\]"),
        "jpeg.dcm": (packed[JPEGBaseline8Bit], "of another size"),
        "rle.dcm": (packed[RLELossless], "in RLE"),
        "deflated.dcm": (scanner.written(deflated), "deflated"),
        "header.dcm": (scanner.dicom(EncapsulatedDocument=bytes(5 * 2**20)), "header of more than"),
        "empty.nii": (b"", "empty|no NIfTI"),
        "text.nii.gz": (b"no image" * 50, "no NIfTI"),
        "cut.nii.gz": (volume()[:-500], "cannot be read|cut off"),
        "cut.nii": (gzip.decompress(volume())[:-500], "cut off"),
        "bomb.nii.gz": (zeros, "a volume of"),
        "labels.nii.gz": (volume((np.indices((32, 32, 20)).sum(0) % 4).astype("<i2")), "as masks are"),
        "colours.nii": (nifti_header(32, 32, 20, kind=128) + bytes(32 * 32 * 20 * 3), "no volume of plain numbers"),
        "thin.nii.gz": (volume(np.ones((8, 40, 40), "<i2")), "8 x 40 voxels"),
    }


def jpeg(side: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (side, side)).save(stream, "JPEG")
    return stream.getvalue()


def test_hostile_files_are_refused_with_a_reason(door: Door, tmp_path: Path) -> None:
    wanted = hostile()
    files = {
        f"glioma/s{place}/{name}": data for place, (name, (data, _)) in enumerate(wanted.items())
    }  # each a series of its own
    found = listed(door(tmp_path, files | {"glioma/good.dcm": scanner.dicom(), "healthy/good.png": scanner_png()}))
    assert len(found.candidates) == 2
    assert len(found.refused) == len(wanted)
    for name, (data, reason) in wanted.items():
        digest = hashlib.sha256(data).hexdigest()[:12]  # by which the user finds it again
        own = [said for path, label, said in found.refused if digest in path and label == "glioma"]
        assert any(re.search(reason, said) for said in own), (name, own)


@pytest.mark.parametrize("package", ["pydicom", "nibabel"])
def test_without_the_extra_each_file_is_named(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    scan = {"pydicom": ("glioma/x.dcm", scanner.dicom()), "nibabel": ("glioma/x.nii.gz", volume())}[package]
    monkeypatch.setitem(sys.modules, package, None)
    found = listed(door(tmp_path, dict([scan]) | {"glioma/a.png": scanner_png(), "healthy/b.png": scanner_png()}))
    assert len(found.candidates) == 2
    ((_, label, reason),) = found.refused
    assert label == "glioma"
    assert "install the extra `medical`" in reason


def test_labels_by_a_table(door: Door, tmp_path: Path) -> None:
    """A flat folder of scans, each file's label in the table; rows without a file are counted, and not named."""
    table = b"file,label,patient\nDoe_1.dcm,glioma,A\nRoe_2.dcm,healthy,B\nRoe_3.nii.gz,healthy,B\nDoe_9.dcm,glioma,A\n"
    files = {"Doe_1.dcm": scanner.dicom(), "Roe_2.dcm": scanner.dicom(brain(2)), "Roe_3.nii.gz": volume()}
    found = listed(door(tmp_path, files | {"labels.csv": table}))
    assert sorted(one.native_label for one in found.candidates) == ["glioma", *["healthy"] * 5]
    assert len({one.notes["patient"] for one in found.candidates}) == 2
    assert len(found.table.unmatched) == 1
    assert "Doe_" not in str(found)


def test_localizers_are_left_out(door: Door, tmp_path: Path) -> None:
    files = {
        "glioma/a.dcm": scanner.dicom(),
        "glioma/b.dcm": scanner.dicom(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    }
    found = listed(door(tmp_path, files | {"healthy/c.dcm": scanner.dicom()}))
    assert len(found.candidates) == 2
    ((_, reason),) = found.left_out
    assert "localizer" in reason


def test_lesion_masks_of_scans_are_named_once(door: Door, tmp_path: Path) -> None:
    table = b"file,mask\nglioma/a.nii.gz,glioma/Doering.nii.gz\n"
    files = {"glioma/a.nii.gz": volume(), "glioma/Doering.nii.gz": volume(), "healthy/c.dcm": scanner.dicom()}
    found = listed(door(tmp_path, files | {"annotations.csv": table}))
    assert len(found.candidates) == 5
    ((path, _, reason),) = found.refused
    assert "lesion mask" in reason
    assert "Doering" not in path
