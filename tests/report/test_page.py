"""The report: everything measured is in it, nothing is fetched, and nothing missing breaks it."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tumorxai import config
from tumorxai.files import write_csv, write_json
from tumorxai.report import figures, page

CLASSES = ["glioma", "meningioma", "no_tumor", "pituitary"]
HOSTILE = "<script>alert(1)</script>"


def entry(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": min(value + 0.05, 1)}


def classifier(value: float, classes: list[str]) -> dict[str, Any]:
    names = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1")
    side = {name: entry(value) for name in names} | {"recall": {name: entry(value) for name in classes}}
    counts = {"train": 700, "validation": 150, "test": 150}
    return {"test": side, "validation": side, "majority_accuracy": 0.27, "images": counts, "chosen": {}}


def leakage(protocol: str, copies: int) -> dict[str, Any]:
    def found(value: float) -> dict[str, Any]:
        return {"images": 150, "accuracy": value, "accuracy_low": value - 0.05, "accuracy_high": value + 0.05}

    def one(count: int) -> dict[str, Any]:
        crossing = {"images": 150, "copies": count, "exact_copies": count // 2}
        nothing = {"images": 0, "accuracy": None}
        return {"crossings": {"train_test": crossing}, "canary": {"all": found(0.61), "no_copy": nothing}}

    protocols = {"grouped": one(0), "official": {"unavailable": "no official split"}, "random": one(41)}
    protocols[protocol] = one(copies)
    return {"protocol": protocol, "canary_size": 32, "protocols": protocols}


def world(root: Path, classes: list[str] = CLASSES, protocol: str = "grouped", copies: int = 0) -> Path:
    """A finished run's tracked files, made up."""
    metrics = root / "metrics"
    counts = {name: {"count": 250, "expected": 250 if i else None} for i, name in enumerate(classes)}
    catalogue = {"images": 1000, "quarantined": 3, "sources": {"phantom": {"images": 1000, "classes": counts}}}
    write_json(metrics / "catalogue.json", catalogue)
    pairs = {"exact_pairs": 37, "near_pairs": 58, "groups_of_copies": 71, "largest_group": 4, "dropped": 6}
    write_json(metrics / "dedupe.json", {"images": 1000, "distinct_pixels": 963, **pairs})
    sides = {
        name: {"images": count, "units": count // 6, "classes": dict.fromkeys(classes, count // 4)}
        for name, count in {"train": 694, "unlabelled": 0, "validation": 150, "test": 150, "dropped": 6}.items()
    }
    write_json(metrics / "split.json", {"units": 165, "label_conflicts": 6, "bridging_folds": 0, "sides": sides})
    write_json(metrics / "leakage.json", leakage(protocol, copies))
    write_json(metrics / "pretrain.json", {"epochs": 30, "images": 694, "loss": 4.2})
    for name, value in (("linear", 0.712), ("finetune", 0.834), ("supervised", 0.655)):
        write_json(metrics / f"{name}.json", classifier(value, classes))
        actual = np.repeat(classes, 10)
        predicted = actual.copy()
        predicted[3] = classes[1]
        write_csv(root / "plots" / name / "predictions.csv", pd.DataFrame({"actual": actual, "predicted": predicted}))
    for name in ("knn", "random_linear", "pixel_neighbour"):
        write_json(metrics / f"{name}.json", classifier(0.5, classes))
    errors = {"ece": entry(0.11), "brier": entry(0.2)}
    chosen = {"coverage": entry(0.8), "sensitivity": entry(0.95), "threshold": 0.6}
    calibration = {"temperature": 1.63, "before": errors, "after": errors, "selective": chosen}
    never = calibration | {"selective": {"coverage": None, "sensitivity": None, "threshold": None}}
    write_json(metrics / "calibration.json", {"linear": calibration, "finetune": never, "supervised": calibration})
    pair = {"accuracy": entry(0.179) | {"holm": 0.013, "detectable": 0.061}}
    write_json(metrics / "comparisons.json", {"finetune - supervised": pair})
    strange = {HOSTILE: {"images": 200, "auroc": entry(0.93), "false_alarms": 0.21}}
    write_json(metrics / "foreign.json", {"neighbours": 10, "own_images": 300, "foreign": strange})
    sources = page.FLOORS
    localisation = {name: {source: entry(0.5) for source in sources} for name in page.LOCALISATION}
    scored = {"scored_images": 110, "scored_correct": 90, "zero_maps": 2, "mask_kinds": {"mask": 110}}
    write_json(metrics / "explain.json", {"layer": "layer3", "grid": [4, 4], **scored, "localisation": localisation})
    retrieval = {name: entry(0.58) for name in ("precision", "recall", "map", "ndcg")}
    answers = dict.fromkeys(("honest", "leaky", "pixel", "pixel_leaky"), retrieval)
    counted = {"neighbours": 5, "database": 844, "queries": 150, "queries_with_kin": 12, "index_recall": 1.0}
    found = {"chance": dict.fromkeys(retrieval, 0.25), "by_class": dict.fromkeys(classes, retrieval)}
    write_json(metrics / "search.json", {**counted, **answers, **found, "leakage": {"precision": entry(0.034)}})
    for name in ("loss", "c_acc", "lr"):
        table = pd.DataFrame({"step": range(30), name: np.geomspace(5, 1, 30)})
        (root / "plots" / "pretrain" / "plots").mkdir(parents=True, exist_ok=True)
        table.to_csv(root / "plots" / "pretrain" / "plots" / f"{name}.tsv", sep="\t", index=False)
    for name in ("cams/grid", "search/neighbours", "audit/leakage", "scores/curves", "errors/worst"):
        (root / "plots" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), "teal").save(root / "plots" / f"{name}.png")
    speed = {"device": "x86_64", "threads": 2, "precision": "32-true", "seconds": 90.0, "images_per_second": 231.4}
    write_json(root / "models" / "pretrain_run.json", speed)
    return root


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
    page.write(root, root / "report" / "index.html", params)
    return (root / "report" / "index.html").read_text(encoding="utf-8")


def changed(params: config.Params, block: str, **values: Any) -> config.Params:
    return params.model_copy(update={block: getattr(params, block).model_copy(update=values)})


def test_retrieval_is_shown(tmp_path: Path, params: config.Params) -> None:
    words = Page(write(world(tmp_path), params)).words
    for expected in ("Recall at 5", "encoder, with them (leaky)", "pixels, without", "chance25.0"):
        assert expected in words, expected
    assert "12 of the 150 queries have a copy" in words
    assert "add 3.4 percentage points" in words


def test_trust_is_shown(tmp_path: Path, params: config.Params) -> None:
    text = write(world(tmp_path), params)
    words = Page(text).words
    for expected in ("Fine-tuned – Supervised from scratch17.9", "0.0136.1", "Linear probe1.6311.0", "never reached"):
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
            assert value is None or value.startswith(("data:image/png;base64,", "#")), value
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
    assert targets <= {f"#{name}" for name in ids}


def test_names_from_the_data_are_escaped(tmp_path: Path, params: config.Params) -> None:
    text = write(world(tmp_path, classes=[HOSTILE, *CLASSES[1:]]), params)
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text


def test_a_run_with_nothing_says_so(tmp_path: Path, params: config.Params) -> None:
    words = Page(write(tmp_path, params)).words
    for expected in ("has no scores", "has no leakage audit", "has no heat-maps", "has no pretraining curves"):
        assert expected in words


def made_by(root: Path) -> list[Path]:
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())


def test_no_single_file_is_needed(tmp_path: Path, params: config.Params) -> None:
    for name in made_by(world(tmp_path / "whole")):
        shutil.copytree(tmp_path / "whole", tmp_path / "part")
        (tmp_path / "part" / name).unlink()
        assert "</html>" in write(tmp_path / "part", params), name
        shutil.rmtree(tmp_path / "part")


def test_without_masks_a_sentence_stands_for_the_table(tmp_path: Path, params: config.Params) -> None:
    root = world(tmp_path)
    unscored = {"scored_images": 0, "scored_correct": 0, "zero_maps": 0, "mask_kinds": {}}
    write_json(root / "metrics" / "explain.json", {"layer": "layer3", "grid": [4, 4], **unscored})
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


def test_what_leaks_is_red(tmp_path: Path, params: config.Params) -> None:
    honest = write(world(tmp_path / "grouped"), params)
    assert 'class="banner bad"' not in honest
    leaky = write(world(tmp_path / "random", protocol="random", copies=41), changed(params, "split", protocol="random"))
    assert "Leaky split" in leaky
    official = changed(params, "split", protocol="official")
    words = Page(write(world(tmp_path / "official", protocol="official", copies=58), official)).words
    assert "58 test images have a copy among the training images" in words
    seen = write(world(tmp_path / "seen"), changed(params, "pretrain", transductive=True))
    assert "Transductive pretraining" in seen


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
    drawn = figures.flow(
        {"images": 7100, "quarantined": 12, "sources": sources},
        {"units": 3000, "label_conflicts": 60, "bridging_folds": 40, "sides": sides},
    )
    for i, one in enumerate(drawn.boxes):
        assert one.x >= 0
        assert one.x + one.width <= drawn.width
        assert one.y + one.height <= drawn.height
        assert all(7 * len(line) < one.width for line in one.lines), one.lines
        for other in drawn.boxes[i + 1 :]:
            apart = one.x + one.width <= other.x or other.x + other.width <= one.x
            assert apart or one.y + one.height <= other.y or other.y + other.height <= one.y
