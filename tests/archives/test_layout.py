"""Folders as people keep them: what each name is taken for, and that names which differ stay apart."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from tumorxai.archives import levels, words
from tumorxai.archives.layout import Layout, Place, arrange
from tumorxai.archives.tables import Table


def laid(*paths: str, table: Table | None = None) -> Layout:
    return arrange(paths, table or Table())


def labels(found: Layout) -> dict[str, str]:
    return {path: place.label for path, place in found.places.items() if not place.left_out}


def under(folders: Iterable[str], images: int = 2) -> list[str]:
    return [f"{folder}/{number}.png" for folder in folders for number in range(images)]


@pytest.mark.parametrize(
    ("folder", "group", "sequence"),
    [
        ("glioma", "glioma", ""),
        ("gliomas", "glioma", ""),
        ("Glioma_Tumor", "glioma", ""),
        ("512Glioma", "glioma", ""),
        ("glioma T1ce", "glioma", "T1C+"),
        ("glioblastoma", "glioma", ""),
        ("meningoma", "meningioma", ""),
        ("menigioma", "meningioma", ""),
        ("Meningioma T1C+", "meningioma", "T1C+"),
        ("schwannoma_t2", "schwannoma", "T2"),
        ("T2-FLAIR schwannoma", "schwannoma", "FLAIR"),
        ("PituitaryTumor", "pituitary", ""),
        ("notumor", "normal", ""),
        ("0_no_tumor", "normal", ""),
        ("no", "normal", ""),
        ("Healthy", "normal", ""),
        ("tumour", "", ""),
        ("yes", "", ""),
        ("abnormal", "", ""),
        ("no glioma", "", ""),
        ("angioma", "", ""),
        ("pituitary_gland", "", ""),
        ("cataract", "", ""),
        ("IDH+", "", ""),
    ],
)
def test_meaning_of_class_folders(folder: str, group: str, sequence: str) -> None:
    own = words.meaning(folder)
    assert (own.group, own.sequence) == (group, sequence)


@pytest.mark.parametrize(
    ("name", "near"), [("pituitary_gland", "pituitary"), ("abnormal", "normal"), ("zebra", ""), ("no glioma", "glioma")]
)
def test_the_nearest_known_word(name: str, near: str) -> None:
    assert words.nearest(name) == near


@pytest.mark.parametrize("pair", [("IDH+", "IDH-"), ("Grade 1-2", "Grade 12"), ("A", "a"), ("x_y", "xy"), ("é", "e")])
def test_names_that_differ_stay_two_classes(pair: tuple[str, str]) -> None:
    assert set(labels(laid(*under(pair))).values()) == set(pair)


@pytest.mark.parametrize("pair", [("IDH\x01", "IDH\x02"), ("IDH\u200e", "IDH\u200f"), ("IDH", "IDH "), ("=a", "_=a")])
def test_names_that_are_equal_only_once_they_are_safe_stay_two_classes(pair: tuple[str, str]) -> None:
    assert len(set(labels(laid(*under(pair))).values())) == 2
    table = Table(notes={f"{number}.png": {"label": name} for number, name in enumerate(pair)})
    assert len(set(labels(laid("0.png", "1.png", table=table)).values())) == 2


def test_names_that_are_equal_or_known_are_one_class() -> None:
    found = laid(*under(["train/gliomas", "test/glioma", "test/a\u00f1o", "train/an\u0303o"]))
    assert set(labels(found).values()) == {"glioma", "año"}
    assert found.spellings["glioma"] == ["glioma", "gliomas"]


def test_known_words_with_other_sequences_or_numbers_are_not_merged() -> None:
    names = ["glioma T1", "glioma T2", "1_glioma", "2_glioma", "glioblastoma"]
    assert set(labels(laid(*under(names))).values()) == set(names)


@pytest.mark.parametrize(
    "names",
    [
        ("normal", "anormal"), ("normal", "formal"), ("other", "mothers"), ("Astrocytoma 2", "Astrocytoma 3"),
        ("meningioma A", "meningioma B"), ("glioma_9", "glioma_10"), ("menigioma", "meningioma"),
        ("menigioma", "meningoma"),
    ],
)  # fmt: skip
def test_a_slip_merges_no_names_that_stand_beside_each_other(names: tuple[str, str]) -> None:
    for found in (laid(*under(names)), laid("1.png", "2.png", table=Table(
        notes={f"{number}.png": {"label": name} for number, name in enumerate(names, 1)}
    ))):  # fmt: skip
        assert set(labels(found).values()) == set(names)
        groups = [own.group for own in found.classes.values() if own.group]
        assert len(groups) == len(set(groups))


def test_a_slip_is_read_but_merges_nothing() -> None:
    found = laid(*under(["train/meningioma", "train/glioma T1", "train/gliona T2", "test/menigioma"]))
    assert {name: own.group for name, own in found.classes.items()} == {
        "meningioma": "meningioma", "menigioma": "meningioma", "glioma T1": "glioma", "gliona T2": "glioma",
    }  # fmt: skip


@pytest.mark.parametrize("sides", [("train", "test"), ("Training", "Testing"), ("training_set", "Test images"),
                                   ("trainset", "testsets"), ("Trainings", "Tests"), ("imagesTr", "imagesTs"),
                                   ("X_train", "X_test"), ("train_val", "test")])  # fmt: skip
def test_sides_above_and_below_the_classes(sides: tuple[str, str]) -> None:
    for pattern in ("{side}/{name}", "{name}/{side}", "wrap/{side}/{name}", "{name}/{side}/images"):
        names = ["glioma", "cat"] if "{side}/{name}" in pattern else ["glioma", "no_tumor"]
        found = laid(*under([pattern.format(side=side, name=name) for side in sides for name in names]))
        assert set(labels(found).values()) == set(names), pattern
        assert {place.side for place in found.places.values()} == {"train", "test"}


@pytest.mark.parametrize("name", ["val", "Val", "valid", "validation"])
def test_validation_is_a_side(name: str) -> None:
    found = laid(*under([f"{side}/{own}" for side in ("train", name, "test") for own in ("a", "b")]))
    assert {place.side for place in found.places.values()} == {"train", "validation", "test"}


def test_classes_that_no_word_tells() -> None:
    assert set(labels(laid(*under(f"class {i}" for i in range(30)))).values()) == {f"class {i}" for i in range(30)}
    assert set(labels(laid(*under(["0", "1", "2"]))).values()) == {"0", "1", "2"}
    assert set(labels(laid(*under(["data/cats", "data/dogs"]))).values()) == {"cats", "dogs"}


@pytest.mark.parametrize("folder", ["patient001", "sub-01", "P-12", "TCGA-02-0001", "0017", "case_7", "Pat_A"])
@pytest.mark.parametrize("known", [True, False])
def test_patients_inside_classes(folder: str, known: bool) -> None:
    names = ("glioma", "no_tumor") if known else ("cat", "dog")
    found = laid(*under([f"{name}/{folder}/axial/T1" for name in names]), *under(f"{name}/x1yz22" for name in names))
    place = found.places[f"{names[0]}/{folder}/axial/T1/0.png"]
    assert place == Place(names[0], "", folder, "T1", folder=names[0])


def patients(found: Layout) -> set[str]:
    return {place.patient for place in found.places.values()}


def test_folders_above_the_classes_are_told() -> None:
    found = laid(*under(["Smith_John/glioma", "A12/no_tumor", "wrap/no_tumor"]))
    assert found.folders["above"] == {"Smith_John": 2, "A12": 2, "wrap": 2}
    assert "above" not in laid(*under(["wrap/glioma", "wrap/no_tumor"])).folders


@pytest.mark.parametrize(
    ("folders", "ids"),
    [
        (["P001/yes", "P001/no", "P002/yes"], {"P001", "P002"}),
        (["P1/IDHmut", "P1/IDHwt", "P2/IDHmut"], {"P1", "P2"}),
        (["A12/glioma", "B07/no_tumor"], {""}),
        (["H1/glioma", "H2/no_tumor"], {""}),
        (["2019/glioma", "2020/no_tumor"], {""}),
        # the name of a data set is nobody's
        (["BraTS2020/HGG/p001", "BraTS2020/LGG/p002"], {"p001", "p002"}),
        (["BraTS2019_Data/HGG/p001", "BraTS2020_Data/LGG/p002"], {"p001", "p002"}),
        (["patients_2/glioma/patient001", "patients_2/glioma/patient002"], {"patient001", "patient002"}),
        (["glioma/c1/p001", "glioma/c1/p002", "normal/c1/p003"], {"p001", "p002", "p003"}),
        # nor is what holds images of several
        (["glioma/axial_T1", "normal/axial_T1"], {""}),
        *((["glioma/" + name, "normal/" + name], {""}) for name in ("3T", "1.5T", "256x256", "2019", "step2", "1")),
        (["glioma/2019", "normal/2020"], {""}),
        (["glioma/P1", "normal/P1"], {"P1"}),
        # under classes that no word tells
        (["IDHmut/Smith", "IDHmut/Jones", "IDHwt/Miller"], {"Smith", "Jones", "Miller"}),
        (["IDHmut/Smith", "IDHmut/Jones", "IDHwt/Miller", "IDHwt/Smith"], {"Smith", "Jones", "Miller"}),
        (["IDHmut/Smith/scan1", "IDHmut/Jones/scan1", "IDHwt/Miller/scan1"], {"Smith", "Jones", "Miller"}),
        (["responder/Patient_A", "nonresponder/Patient_A"], {"Patient_A"}),
        (["IDHmut/case_A", "IDHmut/case_B", "IDHwt/case_C"], {"case_A", "case_B", "case_C"}),
        (["IDHmut/axial_T1", "IDHwt/sag_t2"], {""}),
    ],
)
def test_whose_images_they_are(folders: list[str], ids: set[str]) -> None:
    found = laid(*under(folders))
    assert patients(found) == ids
    assert not {place.label for place in found.places.values()} & {"", *ids}


def test_the_data_sets_name_is_no_patient_where_a_table_has_the_labels() -> None:
    paths = [f"B/BraTS2020_TrainingData/BraTS20_Training_00{i}/{i}_{own}.nii" for i in (1, 2) for own in ("t1", "seg")]
    found = laid(*paths, table=Table(notes={path: {"label": "HGG"} for path in paths}))
    assert patients(found) - {""} == {"BraTS20_Training_001", "BraTS20_Training_002"}


def test_folders_of_different_names_are_told_as_patients_and_repeating_ones_are_classes() -> None:
    (note,) = laid(*under(["IDHmut/Smith", "IDHmut/Jones", "IDHwt/Miller"])).notes.values()
    assert note == ["IDHmut/Jones", "IDHmut/Smith", "IDHwt/Miller"]
    found = laid(*under(["Leeds/cat", "Leeds/dog", "Bonn/cat"]))
    assert (set(labels(found).values()), list(found.notes.values())) == ({"cat", "dog"}, [["level 1 (Bonn, Leeds)"]])


SITES, KINDS = ("Berlin", "Munich"), ("alpha", "beta")


@pytest.mark.parametrize(
    ("folders", "taken", "others"),
    [
        ([f"{s}/{k}" for s in SITES for k in KINDS], "level 2", ["level 1 (Berlin, Munich)"]),
        ([f"{k}/{s}" for s in SITES for k in KINDS], "level 2", ["level 1 (alpha, beta)"]),
        ([f"all/{s}/{k}/{s[0]}{k[0]}{i:03d}" for s in SITES for k in KINDS for i in (1, 2)], "level 3",
         ["level 2 (Berlin, Munich)"]),
        ([f"{k}/{s}/{k}{s}{p}" for s in SITES for k in KINDS for p in ("Doe", "Roe")], "level 2",
         ["level 1 (alpha, beta)"]),
        ([f"{s}/{k}/{p}" for s in SITES for k in KINDS for p in ("Doe", "Roe")], "level 3",
         ["level 1 (Berlin, Munich)", "level 2 (alpha, beta)"]),
        ([f"train/{s}/{k}" for s in SITES for k in ("cls1", "cls2")], "level 2", ["level 3 (cls1, cls2)"]),
        (["alpha/x", "beta"], "level 1 and 2", ["level 1 (alpha)"]),
    ],
)  # fmt: skip
def test_a_choice_among_levels_is_told_with_its_reason_and_the_others(
    folders: list[str], taken: str, others: list[str]
) -> None:
    (note,) = [own for own in laid(*under(folders)).notes if own.startswith(levels.UNTOLD)]
    assert f"those of {taken} were taken" in note
    assert "the innermost" in note
    assert laid(*under(folders)).notes[note] == others


@pytest.mark.parametrize(
    "folders",
    [["cat", "dog"], ["train/cat", "test/dog"], ["SITE_A/cat/p1", "SITE_B/dog/p2"], ["wrap/cat", "wrap/dog"],
     ["Berlin/glioma", "Munich/normal"], ["Berlin/glioma/Doe", "Munich/other thing/Roe"]],
)  # fmt: skip
def test_where_one_level_alone_may_be_the_classes_or_a_word_tells_nothing_is_said(folders: list[str]) -> None:
    assert not any(own.startswith(levels.UNTOLD) for own in laid(*under(folders)).notes)


def test_sequences_are_read_out_of_names_with_planes() -> None:
    found = laid(*under(["glioma/axial_T1", "glioma/sag_t2", "normal/T1 post contrast", "normal/coronal slices"]))
    assert {place.sequence for place in found.places.values()} == {"T1", "T2", "T1C+", ""}
    assert found.folders["plane"] == {"coronal slices": 2}


def test_known_classes_inside_of_others_are_told() -> None:
    found = laid(*under(["glioma/other", "glioma/HGG", "tumour/meningioma", "pituitary/normal"]))
    assert list(found.notes.values()) == [["glioma/other", "pituitary/normal"]]


@pytest.mark.parametrize("name", ["1-Aug-2020", "Aug 2020", "images_without_mask", "non augmented", "T1 without masks"])
def test_dates_and_what_is_denied_are_neither_masks_nor_copies(name: str) -> None:
    found = laid(*under([f"normal/{name}", "glioma without segmentation"]))
    assert set(labels(found).values()) == {"normal", "glioma without segmentation"}
    assert patients(found) == {""}
    assert words.meaning("glioma without segmentation").group == "glioma"


def test_folders_inside_of_classes_that_mean_nothing_are_told() -> None:
    for names in (("glioma", "no_tumor"), ("cat", "dog")):
        found = laid(*under([f"{name}/hospital1" for name in names]))
        assert set(labels(found).values()) == set(names)
    found = laid(*under(["glioma/high grade", "no_tumor"]))
    assert (set(labels(found).values()), found.folders["inside"]) == ({"glioma", "no_tumor"}, {"high grade": 2})


def test_folders_that_can_only_be_patients_are_no_classes() -> None:
    for folders in (["patient1", "patient2"], ["0001", "0002", "0007"], ["train", "test"], ["axial", "coronal"]):
        assert set(labels(laid(*under(folders))).values()) == {""}


def test_a_folder_beside_known_classes_is_a_class_of_its_own() -> None:
    found = laid(*under(["glioma/patient1", "no_tumor/patient2", "zebra/patient3"]))
    assert set(labels(found).values()) == {"glioma", "no_tumor", "zebra"}


@pytest.mark.parametrize(
    ("folders", "left"),
    [
        (["images/glioma", "images/no_tumor", "masks/glioma", "masks/no_tumor"], "masks"),
        (["glioma", "no_tumor", "glioma/masks"], "masks"),
        (["glioma/images", "glioma/labels", "no_tumor/images"], "labels"),
        (["imagesTr/glioma", "imagesTr/no_tumor", "labelsTr/glioma"], "labelsTr"),
        (["glioma", "no_tumor", "segmentation masks"], "segmentation masks"),
        (["glioma/train", "no_tumor/train", "glioma/augmented"], "augmented"),
        (["glioma", "no_tumor", "Augmented Data/glioma"], "Augmented Data"),
        (["glioma/a", "no_tumor", "glioma/hflip"], "hflip"),
        (["glioma/a", "no_tumor", "glioma/rot90"], "rot90"),
        (["glioma/a", "no_tumor", "glioma/aug2"], "aug2"),
    ],
)
def test_masks_and_augmentations_are_left_out(folders: list[str], left: str) -> None:
    found = laid(*under(folders))
    for path, place in found.places.items():
        assert bool(place.left_out) == (f"{left}/" in path), path
    assert set(labels(found).values()) == {"glioma", "no_tumor"}


def test_a_folder_that_holds_all_images_leaves_none_out() -> None:
    found = laid(*under(["augmented/glioma", "augmented/no_tumor"]))
    assert set(labels(found).values()) == {"glioma", "no_tumor"}
    assert not any(place.left_out for place in found.places.values())


@pytest.mark.parametrize("mask", ["a_mask.png", "a-seg.tif", "a_mask_1.png", "mask_a.png", "A_MASK.PNG"])
def test_masks_beside_their_images(mask: str) -> None:
    found = laid("glioma/a.png", f"glioma/{mask}", "no_tumor/b_mask.png")
    assert [path for path, place in found.places.items() if place.left_out] == [f"glioma/{mask}"]


@pytest.mark.parametrize(
    ("files", "out"),
    [
        (["image.png", "mask.png"], ["mask.png"]),
        (["img_1.png", "mask_1.png", "img_2.png"], ["mask_1.png"]),
        (["1.png", "1_m.png", "1_Mask (1).png"], ["1_Mask (1).png", "1_m.png"]),
        (["1_image.png", "1_label.png"], ["1_label.png"]),
        (["t1.png", "flair.png", "seg.png"], ["seg.png"]),
        (["0.png", "0_aug.png", "0_flip.png", "0_rot90.png", "aug_0.png", "1 (aug) 2.png"],
         ["0_aug.png", "0_flip.png", "0_rot90.png", "aug_0.png"]),
        (["mask.png"], []), (["1_m.png", "2_mask.png", "3_aug.png"], []), (["im_m.png", "seg_7.png"], []),
    ],
)  # fmt: skip
def test_files_that_belong_to_others(files: list[str], out: list[str]) -> None:
    found = laid(*(f"glioma/p1/{file}" for file in files), "normal/0.png")
    assert sorted(path for path, place in found.places.items() if place.left_out) == [f"glioma/p1/{own}" for own in out]
    said = {name.rpartition("/")[2] for names in found.notes.values() for name in names}
    assert said == {own for own in files if own not in out and re.search("mask|aug|seg", own) and "(aug)" not in own}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("MRI/glioma", "tumor_seg/glioma"), ("glioma/MRI", "glioma/labels"), ("original/glioma", "annotated/glioma"),
        ("glioma", "glioma/contours"), ("glioma", "labels/glioma"), ("MRI/glioma/p1", "ROIs/glioma/p1"),
    ],
)  # fmt: skip
def test_folders_of_masks_mirror_those_of_images(image: str, mask: str) -> None:
    others = [f"{image.replace('glioma', 'normal')}/{number}.png" for number in "12"]
    found = laid(f"{image}/1.png", f"{image}/2.png", *others, f"{mask}/1.png", f"{mask}/2_mask.png")
    assert {path for path, place in found.places.items() if place.left_out} == {f"{mask}/1.png", f"{mask}/2_mask.png"}
    found = laid(f"{image}/1.png", f"{image}/2.png", *others, f"{mask}/8.png", f"{mask}/9.png")
    assert not any(place.left_out for place in found.places.values())
    assert any("called like ones of masks" in note for note in found.notes)


def test_a_class_called_by_a_negation_of_augmentation_stays() -> None:
    assert labels(laid(*under(["not augmented/glioma", "augmented/glioma"]))).keys() == {
        "not augmented/glioma/0.png",
        "not augmented/glioma/1.png",
    }


def test_backslashes_are_folders() -> None:
    assert labels(laid("glioma\\a.png", "no_tumor\\b.png")) == {
        "glioma\\a.png": "glioma",
        "no_tumor\\b.png": "no_tumor",
    }


def test_labels_of_a_table_are_the_classes() -> None:
    table = Table(notes={"a.png": {"label": "Glioma"}, "x/b.png": {"label": "no tumor"}})
    found = laid("a.png", "x/b.png", "x/c.png", table=table)
    assert labels(found) == {"a.png": "Glioma", "x/b.png": "no tumor"}
    assert found.places["x/c.png"].left_out


def test_time_is_linear_in_the_number_of_folders() -> None:
    """Counted in calls, which no other program on the machine slows down."""
    import sys

    sizes, counts = (500, 2000), []
    for folders in sizes:
        paths = under((f"class {i % 7}/patient{i}" for i in range(folders)), 2)
        calls = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event == "call"

        sys.setprofile(count)
        try:
            laid(*paths)
        finally:
            sys.setprofile(None)
        counts.append(calls)
    small, large = sizes
    assert counts[1] < 1.5 * large / small * counts[0]
