"""What folders were taken for is printed and kept, before a run and in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tumorxai import config
from tumorxai.catalogue import catalogue
from tumorxai.cli import app
from tumorxai.config import Data, PathSource
from tumorxai.errors import UserError
from tumorxai.fetch.fetch import fetch
from tumorxai.files import read_json
from tumorxai.tools import check_data

Images = dict[str, int]


def folder(root: Path, images: Images, table: str = "", name: str = "annotations.csv") -> Path:
    """A folder of so many different images in each folder, and a table."""
    rng = np.random.default_rng(0)
    for inside, count in images.items():
        (root / inside).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (20, 20), dtype=np.uint8)).save(root / inside / f"{number}.png")
    if table:
        (root / name).write_text(table)
    return root


@pytest.fixture
def run(tmp_path: Path, params: config.Params, capsys: pytest.CaptureFixture[str]) -> Any:
    """Fetch and catalogue a folder, as the stages do; the layout, and what was printed."""

    def call(data: Path, taxonomy: str = "four_class") -> tuple[dict[str, Any], str]:
        settings = Data.model_validate(
            {"sources": [PathSource(path=str(data))], "taxonomy": taxonomy, "image_size": 16}
        )
        fetch(settings, tmp_path / "archives", tmp_path / "fetched.json")
        mine = params.model_copy(update={"data": settings})
        capsys.readouterr()
        catalogue.run(mine, tmp_path / "archives", tmp_path / "data", tmp_path / "catalogue.json", tmp_path / "plots")
        (source,) = read_json(tmp_path / "catalogue.json")["sources"].values()
        return source["layout"], capsys.readouterr().out

    return call


def test_words_that_are_not_known_are_named_with_the_nearest(run: Any, tmp_path: Path) -> None:
    data = folder(tmp_path / "mine", {"gliomas": 2, "meningoma": 3, "no": 2, "yes": 2, "pituitary_gland": 4})
    layout, said = run(data)
    labels = {name: entry["labels"] for name, entry in layout["classes"].items()}
    assert labels == {
        "gliomas": ["glioma"],
        "meningoma": ["meningioma"],
        "no": ["no_tumor"],
        "yes": [],
        "pituitary_gland": [],
    }
    assert "class meningoma: 3 images, read as meningioma -> meningioma" in said
    assert "'pituitary_gland' (4 images; nearest known word: pituitary)" in said
    assert "'yes' (2 images; a tumour of no stated kind)" in said
    kept = read_json(tmp_path / "catalogue.json")["classes_left_out"]  # for the errors of later stages
    assert sorted(kept) == [
        "'pituitary_gland' (4 images; nearest known word: pituitary)",
        "'yes' (2 images; a tumour of no stated kind)",
    ]


def test_too_few_classes_end_the_run_and_name_those_left_out(run: Any, tmp_path: Path) -> None:
    data = folder(tmp_path / "mine", {"tumour/patient1": 2, "tumour/patient2": 2, "healthy/patient3": 2})
    with pytest.raises(UserError, match=r"only the classes \['no_tumor'\], and no place for 'tumour' .*to native"):
        run(data)
    layout, said = run(data, "native")
    assert (layout["levels"], layout["patients"]["number"]) == ({"1": 6}, 3)
    assert "patients: 3, of 6 images; 0 images have none" in said
    with pytest.raises(UserError, match="expected at least 2 to tell apart"):
        run(folder(tmp_path / "one", {"glioma": 2}))


@pytest.mark.parametrize("folders", [["patient1", "patient2"], ["train", "Testing"], ["axial", "coronal"]])
def test_a_remedy_never_makes_patients_sides_or_planes_the_classes(
    run: Any, tmp_path: Path, folders: list[str]
) -> None:
    with pytest.raises(UserError, match=r"no image in a class folder.*labels\.csv") as caught:
        run(folder(tmp_path / "mine", dict.fromkeys(folders, 2)))
    assert "native" not in str(caught.value)


def test_files_that_cannot_be_used_are_counted_by_reason(run: Any, tmp_path: Path) -> None:
    data = folder(tmp_path / "mine", {"glioma": 2, "no_tumor": 2})
    for number in range(3):
        Image.new("L", (20, 20)).save(data / f"no_tumor/blank{number}.png")
    (data / "glioma/lost.png").symlink_to("nowhere")
    _, said = run(data)
    assert "cannot be used: 3, next to nothing on it" in said
    assert "cannot be used: 1, a link that leads nowhere" in said


def test_tables_that_fit_in_part_are_counted(run: Any, tmp_path: Path) -> None:
    rows = [
        "glioma/0.png,p01 ",
        "glioma/1.png,P01",
        "glioma/2.png,103",
        "glioma/3.png,103.0",
        "no/0.png,NA",
        "x/y.png,p9",
    ]
    data = folder(tmp_path / "mine", {"glioma": 4, "no": 2}, "\n".join(["file,patient", *rows]))
    layout, said = run(data)
    assert layout["patients"] == {
        "number": 4, "images": 4, "without": 2, "in_several_classes": 0, "alike": [["103", "103.0"], ["P01", "p01"]],
    }  # fmt: skip
    assert (layout["table"]["unmatched_rows"], layout["table"]["images_without_row"]) == (1, 1)
    for words in ("1 of 6 rows of annotations.csv match no image", "2 images have no known patient", "'P01' and 'p01'"):
        assert words in said


def test_sides_masks_and_augmentations_are_told(run: Any, tmp_path: Path) -> None:
    images = {f"{name}/{side}": 2 for name in ("glioma", "no_tumor") for side in ("train", "Val", "augmented")}
    layout, said = run(folder(tmp_path / "mine", images | {"masks/glioma": 1}))
    assert layout["sides"] == {"train": 4, "validation": 4}
    assert {reason.split(",")[0]: entry["files"] for reason, entry in layout["left_out"].items()} == {
        "a mask": 1, "an augmented copy": 4,
    }  # fmt: skip
    assert "own sides: train 4, validation 4" in said
    assert "left out: 4, an augmented copy" in said


def test_the_command_says_the_same_and_runs_nothing(run: Any, tmp_path: Path) -> None:
    data = folder(tmp_path / "mine", {"IDH+": 2, "IDH-": 3, "normal": 2})
    (data / "normal/bad.png").write_bytes(b"no image")
    layout, _ = run(data, "native")
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(app, ["check-data", str(data), "--taxonomy", "native", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["layout"] == layout
    assert found["refused"][0]["path"] == "normal/bad.png"
    assert sorted(tmp_path.rglob("*")) == before
    shown = CliRunner().invoke(app, ["check-data", str(data), "--out", str(tmp_path / "pictures")])
    assert shown.exit_code == 0, shown.output
    assert "class IDH-: 3 images" in shown.stdout
    assert "normal/bad.png: no image of a known format" in shown.stdout
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert len(pictures) == 3
    for path in pictures:
        with Image.open(path) as drawn:
            assert np.asarray(drawn).max() > 200


@pytest.mark.parametrize(
    ("arguments", "message"), [(["absent"], "got no absent"), ([".", "--taxonomy", "x"], "taxonomy 'x'")]
)
def test_mistakes(arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["check-data", *arguments])
    assert done.exit_code == 1
    assert message in done.stderr


def test_the_taxonomies_offered_are_those_of_the_parameters() -> None:
    """The command's list is written out, so that it starts without loading the parameters' types."""
    assert get_args(Data.model_fields["taxonomy"].annotation) == check_data.TAXONOMIES


def test_errors_name_the_users_folder(run: Any, tmp_path: Path) -> None:
    data = folder(tmp_path / "mine", {"patient1": 2})
    for arguments in ([str(data)], [str(data), "--json"]):
        done = CliRunner().invoke(app, ["check-data", *arguments])
        assert done.exit_code == 1
        assert done.stderr.split("error: ")[-1].startswith(f"{data}: got no image in a class folder")
    with pytest.raises(UserError, match="mine: got no image in a class folder") as caught:
        run(data)
    assert str(caught.value).startswith(f"{data}: ")


def test_the_command_says_where_a_run_would_end(tmp_path: Path) -> None:
    data = folder(tmp_path / "mine", {"glioma": 1, "zebra": 1})
    done = CliRunner().invoke(app, ["check-data", str(data)])
    assert done.exit_code == 0
    assert (
        "a run of this source alone would end: data.taxonomy four_class: got only the classes ['glioma']" in done.stdout
    )
    found = json.loads(CliRunner().invoke(app, ["check-data", str(data), "--taxonomy", "native", "--json"]).stdout)
    assert found["run_ends"] == ""


def test_folders_above_the_classes_are_printed_with_their_number(run: Any, tmp_path: Path) -> None:
    images = {f"Dr {chr(65 + number)}/{name}": 1 for number in range(9) for name in ("glioma", "no_tumor")}
    layout, said = run(folder(tmp_path / "mine", images))
    assert (layout["folders"]["above"]["Dr A"], layout["folders_number"]) == (2, {"above": 9})
    assert "folders above the classes, not used: Dr A, Dr B" in said
    assert "… (9 in all)" in said


def test_known_classes_inside_of_others_are_printed(run: Any, tmp_path: Path) -> None:
    _, said = run(folder(tmp_path / "mine", {"pituitary/normal": 1, "glioma": 1}))
    assert "note: folders of known classes that lie in those of others" in said
    assert "pituitary/normal" in said


def test_the_level_of_classes_that_no_word_tells_is_printed_with_its_reason_and_no_remedy_goes_past_it(
    run: Any, tmp_path: Path
) -> None:
    data = folder(tmp_path / "mine", {f"{kind}/{site}": 1 for kind in ("alpha", "beta") for site in ("Bonn", "Ulm")})
    _, said = run(data, "native")
    told = "note: no word tells which folders are the classes; those of level 2 were taken, the innermost"
    assert told in said
    assert "other levels: level 1 (alpha, beta)" in said
    with pytest.raises(
        UserError, match=r"see first which folders are the classes .*level 1 \(alpha, beta\)\); then rename"
    ):
        run(data)


def test_classes_that_look_alike_are_named(run: Any, tmp_path: Path) -> None:
    names = ["grade 1", "grade 1.0", "IDH+", "IDH-", "2-3", "23", "a b", "A_B"]
    _, said = run(folder(tmp_path / "mine", dict.fromkeys(names, 1)), "native")
    assert "taken for different ones: 'A_B' and 'a b', 'grade 1' and 'grade 1.0'; correct them" in said


def test_the_command_names_classes_of_files_that_cannot_be_used(tmp_path: Path) -> None:
    data = folder(tmp_path / "mine", {"glioma": 2, "meningioma": 2, "pituitary": 2})
    for number in range(2):
        (data / "meningioma" / f"{number}.png").write_bytes(b"")
        Image.new("L", (20, 20)).save(data / "pituitary" / f"{number}.png")
    said = CliRunner().invoke(app, ["check-data", str(data), "--out", str(tmp_path / "out")]).stdout
    ends = "local/mine: got no readable image of ['meningioma']; expected at least one; the first one refused is empty"
    assert f"a run of this source alone would end: {ends}" in said
    assert "2 of the images of pituitary that are drawn cannot be used: next to nothing on it" in said
