"""The table with which the report begins: yes only where the figures say so, and everything else is said to be open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.report.world import changed, entry, world
from tumorxai import config
from tumorxai.files import read_json, write_json
from tumorxai.report import checks, facts
from tumorxai.report.sections import SECTIONS
from tumorxai.report.words import terms


def table(root: Path, params: config.Params) -> dict[str, checks.Check]:
    return {own.question: own for own in checks.checks(facts.gather(root, params))}


def test_a_run_with_nothing_shows_nothing(tmp_path: Path, params: config.Params) -> None:
    found = table(tmp_path, params)
    assert {own.mark for name, own in found.items() if name != "Tested on another source"} == {checks.OPEN}
    assert all(own.where in SECTIONS and own.sentence.endswith(".") for own in found.values())


def test_the_marks_follow_the_figures(tmp_path: Path, params: config.Params) -> None:
    root = world(tmp_path)
    found = table(root, params)
    assert found["No copies across sides"].mark == checks.YES
    assert found["No patient across sides"].mark == checks.OPEN  # of 400 images nobody knows
    assert found["Pretraining helps training"].mark == checks.YES
    assert "17.9 percentage points more" in found["Pretraining helps training"].sentence
    assert found["Features better than random weights"].mark == checks.OPEN
    assert found["Tested on another source"].mark == checks.NO
    assert table(root, changed(params, "split", external=["a/b"]))["Tested on another source"].mark == checks.YES
    assert found["Heat-maps better than a blob"].mark == checks.YES  # 9 of 17
    assert found["Confidence can be taken at its word"].mark == checks.NO  # 6 to 16 points apart
    leaky = table(world(tmp_path / "leaky", protocol="random", copies=41), changed(params, "split", protocol="random"))
    assert leaky["No copies across sides"].mark == leaky["No patient across sides"].mark == checks.NO
    assert leaky["Pretraining helps training"].mark == checks.OPEN


@pytest.mark.parametrize(
    ("pair", "mark"),
    [
        ({"value": 0.05, "low": -0.02, "high": 0.12, "p": 0.2}, checks.OPEN),
        ({"value": -0.05, "low": -0.09, "high": -0.01, "p": 0.01}, checks.NO),
        ({"value": 0.0, "low": -0.1, "high": 0.1, "p": 1.0, "detectable": None}, checks.OPEN),
    ],
)
def test_what_may_be_chance_is_no_answer(
    tmp_path: Path, params: config.Params, pair: dict[str, Any], mark: str
) -> None:
    root = world(tmp_path)
    both = dict.fromkeys(("accuracy", "balanced_accuracy"), {"detectable": 0.06} | pair)
    write_json(root / "details/comparisons.json", {"finetune - supervised": both})
    assert table(root, params)["Pretraining helps training"].mark == mark
    answer = facts.answer(facts.gather(root, params))
    assert "reach 0 points" not in answer
    assert ("right and wrong on the same test images" in answer) == (pair["value"] == 0)


def test_unequal_recipes_are_said_with_the_difference(tmp_path: Path, params: config.Params) -> None:
    root = world(tmp_path)
    unequal = changed(changed(params, "finetune", epochs=20), "supervised", epochs=40)
    said = "they also differ in epochs 20 against 40"
    assert said in table(root, unequal)["Pretraining helps training"].sentence
    assert said in facts.answer(facts.gather(root, unequal))
    equal = unequal.model_copy(update={"supervised": unequal.finetune})
    assert "differ in" not in table(root, equal)["Pretraining helps training"].sentence


def test_what_was_seen_before_is_said_with_the_difference(tmp_path: Path, params: config.Params) -> None:
    root = world(tmp_path)
    said = "the first has also had 30 epochs of pretraining on 694 images, in other views"
    assert said in table(root, params)["Pretraining helps training"].sentence
    assert said in facts.answer(facts.gather(root, params))
    assert "; balanced accuracy +17.9, +12.9 to +22.9" in facts.answer(facts.gather(root, params))
    given = params.model_copy(update={"method": "pretrained"})
    assert "others have trained the first before" in facts.answer(facts.gather(root, given))


@pytest.mark.parametrize(("lesion", "mark"), [([True, True], checks.YES), ([False, False], checks.NO)])
def test_a_map_that_misses_the_lesions_is_no_better_than_a_blob(
    tmp_path: Path, params: config.Params, lesion: list[bool], mark: str
) -> None:
    root = world(tmp_path)
    found = read_json(root / "details/explain.json")
    rows = {name: {"grad_cam": {"passed": own}} for name, own in zip(("energy", "pointing"), lesion, strict=True)}
    found["classifiers"]["finetuned"]["card"] = rows | {"pixel_auroc": {"grad_cam": {"passed": None}}}
    write_json(root / "details/explain.json", found)
    own = table(root, params)["Heat-maps better than a blob"]
    assert own.mark == mark
    assert f"Of the 2 that ask whether it lies on the lesion it passes {sum(lesion)}." in own.sentence


def test_a_temperature_at_its_bound_is_no_calibration(tmp_path: Path, params: config.Params) -> None:
    root = world(tmp_path)
    found = read_json(root / "details/calibration.json")
    good = {"value": 0.01, "low": 0.0, "high": 0.02}
    found["finetune"] |= {"after": {"error": good, "brier": entry(0.2)}}
    write_json(root / "details/calibration.json", found)
    assert table(root, params)["Confidence can be taken at its word"].mark == checks.YES
    found["finetune"]["at_bound"] = True
    write_json(root / "details/calibration.json", found)
    own = table(root, params)["Confidence can be taken at its word"]
    assert own.mark == checks.NO
    assert "end of its range" in own.sentence


def test_a_weak_probe_suspects_nobody(tmp_path: Path, params: config.Params) -> None:
    root = world(tmp_path)
    assert facts.gather(root, params).telling  # right on 71% of four equal classes
    write_json(root / "details/errors.json", read_json(root / "details/errors.json") | {"out_of_fold_accuracy": 0.4})
    assert not facts.gather(root, params).telling


def test_words_are_explained_and_stay_text() -> None:
    found = str(terms("<b> The intervals of a linear probe"))
    assert "&lt;b&gt;" in found
    assert found.count("<abbr title=") == 2
    assert ">intervals</abbr>" in found


def test_what_is_resampled_is_named(tmp_path: Path, params: config.Params) -> None:
    root = world(tmp_path)

    def clusters(named: int, folded: int, series: int, known: int) -> str:
        own = {"patients": {"images": named}, "folds": {"images": folded}}
        whose = {"images": 100, "known": known, "sources": {"a": own}, "series": {"images": series}}
        write_json(root / "details/patients.json", whose)
        return facts.gather(root, params).clusters

    assert clusters(100, 0, 0, 100) == "patients"
    assert clusters(0, 100, 80, 100).startswith(
        "series where they are known, groups of copies elsewhere; a patient may"
    )
    assert clusters(40, 0, 20, 40) == "patients and series where they are known, groups of copies elsewhere"
    assert clusters(0, 0, 0, 0) == "groups of copies (no patient is known)"
