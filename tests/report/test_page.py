"""The report: everything measured is in it, nothing is fetched, and nothing missing breaks it."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser

from tests.browser import violations
from tests.report.world import CLASSES, HOSTILE, changed, world
from tumorxai import config
from tumorxai.base import drawing
from tumorxai.files import read_json, write_csv, write_json
from tumorxai.report import facts, figures, page
from tumorxai.report.flow import flow

BESIDE = {"model_card.md", "dataset_card.md", "claim.md", "explanations.html", "https://doi.org/10.1148/ryai.240300"}


class Page(HTMLParser):
    """What a browser would see of the structure."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", self.text)


def write(root: Path, params: config.Params) -> str:
    page.render(root, root / "report" / "index.html", facts.gather(root, params))
    return (root / "report" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_the_report(chromium: Browser, tmp_path: Path, params: config.Params, scheme: str) -> None:
    write(world(tmp_path), params)
    opened = chromium.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    opened.goto((tmp_path / "report/index.html").as_uri())
    assert violations(opened) == []


def test_training_without_a_validation_side_is_shown(tmp_path: Path, params: config.Params) -> None:
    root = world(tmp_path)
    for name in ("finetune", "supervised"):
        write_csv(root / f"plots/training/{name}.csv", pd.DataFrame({"epoch": [1, 2], "loss": [1.0, 0.9]}))
    text = write(root, params)
    assert "Training loss" in text
    assert "Validation loss" not in text


@pytest.mark.parametrize("method", config.method_names())
def test_labels_are_not_denied_where_they_were_used(tmp_path: Path, params: config.Params, method: str) -> None:
    about = config.about(method)
    page = write(world(tmp_path), params.model_copy(update={"method": method}))
    question = page[page.index("Question.") : page.index("random weights?")]
    assert (f"pretrained by {about.title}" in question) == about.trains
    assert ("without labels" in question) == (about.trains and not about.uses_labels)
    assert ("with the training labels" in question) == about.uses_labels
    assert ("Nothing was trained" in page) == (not about.trains)


def test_retrieval_is_shown(tmp_path: Path, params: config.Params) -> None:
    words = Page(write(world(tmp_path), params)).words
    for expected in ("Recall at 5", "encoder, with them (leaky)", "pixels, without", "chance25.0"):
        assert expected in words, expected
    assert "12 of the 150 queries have a copy" in words
    assert "add 3.4 percentage points" in words


def test_trust_is_shown(tmp_path: Path, params: config.Params) -> None:
    text = write(world(tmp_path), params)
    words = Page(text).words
    for expected in ("Fine-tuned – Supervised from scratch+17.9", "0.0136.1", "Linear probe1.6311.0", "never reached"):
        assert expected in words, expected
    assert re.search(r"alert\(1\)</script> \(200\)93.0", words)
    assert HOSTILE not in text


def test_the_figures_are_in_it(tmp_path: Path, params: config.Params) -> None:
    words = Page(write(world(tmp_path), params)).words
    for expected in ("71.2", "83.4", "65.5", "27.0", "58.0"):
        assert f"{expected}\N{NARROW NO-BREAK SPACE}%" in words or f"{expected} %" in words, expected
    for expected in ("41 of 150", "no official split", "2 of 110 scored maps", "231 images per second"):
        assert expected in words
    assert "12 of the 150 queries" in words
    for expected in ("Nearest centroid5 of each class", "wrong. A probe that agrees with 71.3", "9 of 17"):
        assert expected in words, expected
    assert "Research use only, not for diagnosis" in words
    assert "pretrain.batch_size" in words
    assert "not in a git repository" in words


def test_nothing_is_fetched_or_run(tmp_path: Path, params: config.Params) -> None:
    text = write(world(tmp_path), params)
    parsed = Page(text)
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "link", "iframe", "object")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            reader_clicks = tag == "a" and value in BESIDE
            assert value is None or reader_clicks or value.startswith(("data:image/png;base64,", "#")), value
    assert "url(http" not in text
    assert "@import" not in text
    assert str(tmp_path) not in text
    policy = next(a["content"] for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_it_can_be_read_aloud(tmp_path: Path, params: config.Params) -> None:
    parsed = Page(write(world(tmp_path), params))
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(attributes.get("alt") for tag, attributes in parsed.tags if tag == "img")
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in parsed.tags if tag == "th")
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {attributes["href"] for tag, attributes in parsed.tags if tag == "a"}
    assert targets - BESIDE <= {f"#{name}" for name in ids}


def test_names_from_the_data_are_escaped(tmp_path: Path, params: config.Params) -> None:
    text = write(world(tmp_path, classes=[HOSTILE, *CLASSES[1:]]), params)
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text


def test_names_that_no_font_can_draw_are_told(
    tmp_path: Path, params: config.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "fonts", lambda letters: ((), letters))
    text = Page(write(world(tmp_path, classes=["glioma", "脑膜瘤"]), params)).words
    assert "No font of this machine has all letters of 脑膜瘤: the pictures show boxes" in text
    assert "No font of this machine" not in Page(write(world(tmp_path / "latin"), params)).words


def test_what_the_folders_were_taken_for_is_shown(tmp_path: Path, params: config.Params) -> None:
    project = world(tmp_path)
    catalogue = read_json(project / "details/catalogue.json")
    classes = {
        HOSTILE: {"images": 7, "folders": [HOSTILE], "word": "", "slip": False, "labels": [], "nearest": "glioma"}
    }
    catalogue["sources"]["phantom"]["layout"] = {
        "images": 7, "classes": classes, "levels": {"1": 7}, "sides": {"test": 3}, "sequences": {}, "folders": {},
        "patients": {"number": 2, "images": 4, "without": 3, "in_several_classes": 0, "alike": [["p1", "P1"]]},
        "left_out": {"a mask": {"files": 5, "first": ["m/a.png"]}}, "table": None, "remarks": ["a remark"],
    }  # fmt: skip
    write_json(project / "details/catalogue.json", catalogue)
    text = write(project, params)
    assert HOSTILE not in text
    for words in ("nearest known word: glioma", "left out: 5, a mask", "3 images have no known patient", "a remark"):
        assert words in text
    assert "are pooled" not in text
    write_json(project / "details/split.json", read_json(project / "details/split.json") | {"pooled": {"train": 5}})
    assert "(train 5) are pooled" in write(project, params)


def test_a_run_with_nothing_says_so(tmp_path: Path, params: config.Params) -> None:
    words = Page(write(tmp_path, params)).words
    for expected in ("has no scores", "has no leakage audit", "has no heat-maps", "has no pretraining curves"):
        assert expected in words


def made_by(root: Path) -> list[Path]:
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())


@pytest.mark.slow
def test_no_single_file_is_needed(tmp_path: Path, params: config.Params) -> None:
    for name in made_by(world(tmp_path / "whole")):
        shutil.copytree(tmp_path / "whole", tmp_path / "part")
        (tmp_path / "part" / name).unlink()
        assert "</html>" in write(tmp_path / "part", params), name
        shutil.rmtree(tmp_path / "part")


def test_without_masks_a_sentence_stands_for_the_table(tmp_path: Path, params: config.Params) -> None:
    root = world(tmp_path)
    unscored = {"scored_images": 0, "scored_correct": 0, "zero_maps": 0, "mask_kinds": {}}
    write_json(root / "details" / "explain.json", {"layer": "layer3", "grid": [4, 4], **unscored})
    assert "No test image has a lesion mask" in Page(write(root, params)).words


def test_simulated_lesions_are_named(tmp_path: Path, params: config.Params) -> None:
    root = world(tmp_path)
    assert "The lesions are SIMULATED" in write(root, params)
    real = changed(params, "data", sources=["sartajbhuvaji/brain-tumor-classification-mri"])
    text = write(root, real)
    assert "SIMULATED" not in text
    assert "widely reported as unreliable" in text


def test_a_users_path_stays_private(tmp_path: Path, params: config.Params) -> None:
    own = changed(params, "data", sources=[config.PathSource(path="/home/someone/secret/scans.zip")])
    text = write(world(tmp_path), own)
    assert "local/scans" in text
    assert "someone" not in text


def test_words_are_explained_wherever_they_stand(tmp_path: Path, params: config.Params) -> None:
    root = world(tmp_path)
    shutil.copy(root / "plots/cams/grid.png", root / "plots/cams/report_card.png")
    curve = pd.DataFrame({"step": range(3), "effective_rank": [9.0, 12.0, 15.0]})
    curve.to_csv(root / "plots/pretrain/plots/effective_rank.tsv", sep="\t", index=False)
    text = write(root, params)
    explained = set(re.findall(r"<abbr title=[^>]+>([^<]+)</abbr>", text))
    assert {"unit", "Canary", "ROAD", "Effective rank", "Balanced accuracy", "Calibration error"} <= explained
    glossary = text[text.index('id="glossary"') :]  # the same words in print
    assert all(f"<dt>{word}</dt>" in glossary for word in ("Unit", "Canary", "ROAD", "Effective rank"))


def test_what_leaks_is_red(tmp_path: Path, params: config.Params) -> None:
    honest = write(world(tmp_path / "grouped"), params)
    assert 'class="banner bad"' not in honest
    leaky = write(world(tmp_path / "random", protocol="random", copies=41), changed(params, "split", protocol="random"))
    assert "Leaky split" in leaky
    assert "fold 2 of 5" in write(tmp_path / "random", changed(params, "split", folds=5, fold=2))
    official = changed(params, "split", protocol="official")
    words = Page(write(world(tmp_path / "official", protocol="official", copies=58), official)).words
    assert "58 test images have a copy among the training images" in words
    seen = write(world(tmp_path / "seen"), changed(params, "pretrain", transductive=True))
    assert "Transductive pretraining" in seen


def test_the_verdict_comes_first_and_the_leak_is_taken_apart(tmp_path: Path, params: config.Params) -> None:
    honest = write(world(tmp_path / "grouped"), params)
    assert honest.index('id="verdict"') < honest.index("Research use only")
    assert "copies apart, patients partly known" in honest
    leaky = write(world(tmp_path / "random", protocol="random", copies=41), changed(params, "split", protocol="random"))
    assert "41 of 150 test images have a copy among the images learned from, and 20 are of patients" in leaky
    words = Page(honest).words
    assert "both together missed about 3 pairs (95% interval 1 to unknown)" in words
    assert "random, as many other groups removed" not in words  # which this run did not draw
    assert "grouped, copies and named patients on one side" in words


def test_the_commit_is_named(tmp_path: Path, params: config.Params) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    root = world(tmp_path)
    command = [git, "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([git, "init", "-q"], cwd=root, check=True)
    subprocess.run([*command, "commit", "-q", "--allow-empty", "-m", "x"], cwd=root, check=True)
    head = subprocess.run([git, "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True).stdout
    assert head[:12] in write(root, params)


def test_the_confusion_matrix_counts(tmp_path: Path) -> None:
    write_csv(tmp_path / "p.csv", pd.DataFrame({"actual": ["a", "a", "b"], "predicted": ["a", "c", "b"]}))
    matrix = figures.confusion(tmp_path / "p.csv")
    assert matrix.classes == ["a", "b", "c"]
    assert matrix.rows == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert matrix.shares[0] == [0.5, 0, 0.5]


def test_the_boxes_of_the_flow_do_not_overlap() -> None:
    counts = {"images": 7000, "units": 900}
    sides = dict.fromkeys(("train", "unlabelled", "validation", "test", "dropped"), counts)
    sources = {f"someone/a-data-set-with-a-long-name-{i}": {"images": 1000} for i in range(5)}
    left_out = {"label_conflicts": 60, "bridging_folds": 40, "external": ["a/b"]}
    left_out |= {"external_overlaps": 1234, "external_unknown_class": 1234}
    drawn = flow(
        {"images": 7100, "quarantined": 12, "sources": sources},
        {"groups_of_copies": 1234},
        {"units": 3000, **left_out, "sides": sides},
    )
    for i, one in enumerate(drawn.boxes):
        assert one.x >= 0
        assert one.x + one.width <= drawn.width
        assert one.y + one.height <= drawn.height
        assert all(7 * len(line) < one.width for line in one.lines), one.lines
        for other in drawn.boxes[i + 1 :]:
            apart = one.x + one.width <= other.x or other.x + other.width <= one.x
            assert apart or one.y + one.height <= other.y or other.y + other.height <= one.y
