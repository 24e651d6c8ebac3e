"""Every page of results is what the script writes from its JSON, and what is quoted stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import trials
from benchmarks.record import keep
from PIL import Image

from tumorxai.errors import UserError
from tumorxai.tools import leak_figure, overview, papers, results, results_copies

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
NAMES = sorted(path.stem for path in RESULTS.glob("*.json"))
LIST = """
title: A list
preset: firildak
gpu: {images: 6000, epochs: 100, per_second: 2000, of: a card}
runs: {whole: {set: []}, small: {set: []}, broken: {set: []}, none: {set: []}}
"""
ROW = {"status": "done", "minutes": 3, "hardware": "a card", "date": "2026-11-28", "commit": "abc", "settings": []}
RUNS = {"whole": ROW, "small": ROW | {"settings": ["pretrain.epochs=4"]}, "broken": {"status": "failed"}}
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?![\w-])")


def test_every_page_has_its_json_and_nothing_else_lies_there() -> None:
    pages = [f"{name}.{suffix}" for name in NAMES for suffix in ("json", "md")]
    text = "\n".join((RESULTS / f"{name}.md").read_text() for name in NAMES)
    shown = re.findall(r"!\[[^]]+]\((\w+\.png)\)", text)
    assert sorted(path.name for path in RESULTS.iterdir()) == sorted([*pages, *shown, overview.NAME])


def test_the_page_of_what_was_run_has_every_row_of_every_list() -> None:
    text = (RESULTS / overview.NAME).read_text()
    assert text == overview.page(ROOT)
    lists = {path.stem: papers.describe(path.stem, ROOT / "papers") for path in (ROOT / "papers").glob("*.yaml")}
    assert f"Of {sum(len(described['runs']) for described in lists.values())} rows: " in text
    for name in lists:
        assert f"PAPER={name}" in text


def test_a_row_is_of_full_size_only_with_the_settings_of_its_list(tmp_path: Path) -> None:
    for folder, content in {"papers/a.yaml": LIST, "results/a.json": json.dumps({"runs": RUNS})}.items():
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        (tmp_path / folder).write_text(content)
    text = overview.page(tmp_path)
    assert "Of 4 rows: 1 failed, 1 full size, 1 not run, 1 reduced." in text
    assert "| whole | full size | 3.0 |  | a card, 2026-11-28, commit abc |" in text
    assert "| small | reduced | 3.0 | `pretrain.epochs=4` | a card, 2026-11-28, commit abc |" in text
    assert "| broken | failed |  |  |  |\n| none | not run |  |  |  |" in text
    assert "a, rows: 3; 3 x 5.0 = 15 minutes (a card)." in text
    assert 'make bundle OUT=build/a PAPER=a ARGS="--only small broken none"' in text


def marks(path: Path, colour: str) -> int:
    """Pixels of a colour, or nearly, below the legend of a picture."""
    pixels = np.asarray(Image.open(path).convert("RGB"))[120:].astype(int)
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((abs(pixels - wanted).max(axis=2) < 9).sum())


def test_the_picture_of_the_leak_has_a_mark_for_every_part(tmp_path: Path) -> None:
    part = {"accuracy": 0.5, "sd": 0.1}
    for name, parts in {"all": list(leak_figure.COLOURS), "one": ["random"]}.items():
        measured = {"a": {"parts": dict.fromkeys(parts, part)}, "b": {"parts": {"random": part | {"sd": None}}}}
        leak_figure.draw(measured, tmp_path / f"{name}.png")
    for name in set(leak_figure.COLOURS) - {"others_removed"}:  # grey, as the edges of letters are
        assert marks(tmp_path / "all.png", leak_figure.COLOURS[name]) > 20
        assert (marks(tmp_path / "one.png", leak_figure.COLOURS[name]) > 20) == (name == "random")


def test_cases_of_damage_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    counts = {"stage-file": {"accepted": 1, "accepted, same results": 2, "accepted, OTHER results": 4, "refused": 8}}
    trials.write("damage", trials.damage(counts | {"image": {"quarantined": 1, "HANG": 2, "CRASH": 4, "TRACEBACK": 8}}))
    page = results.page(tmp_path / "results/trials.json", ROOT / "papers")
    assert "| stage-file | 15 | 7 | 4 | 0 | 8 | 0 |\n| image | 15 | 0 | 0 | 1 | 0 | 14 |" in page
    assert "## Kills" not in page


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_what_the_script_writes(name: str) -> None:
    assert results.page(RESULTS / f"{name}.json", ROOT / "papers") == (RESULTS / f"{name}.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_where_its_figures_come_from(name: str) -> None:
    content = json.loads((RESULTS / f"{name}.json").read_text())
    if "tables" in content:
        assert set(results.RECORD) | {"recorded"} <= set(content["record"])
        records = [content["record"]]
    elif "archives" in content:
        counted = [content[key] for key in ("planted", "altered", "folds") if key in content]
        records = [part["record"] for part in (*counted, *content["archives"].values())]
    else:
        records = [row for row in content["runs"].values() if row["status"] == "done"]
    assert records
    for record in records:
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", record["date"])
        assert record["python"]
        assert record["versions"]


def figures(text: str) -> set[str]:
    """Numbers of a text, without signs and separators of thousands."""
    return {found.strip("-").replace(",", "") for found in NUMBER.findall(text)}


def rounded(shown: set[str], digits: int) -> set[str]:
    return {f"{float(one):.{digits}f}" for one in shown}


def unknown(paragraph: str, pages: str) -> set[str]:
    """Numbers of a paragraph that no page shows, rounded as they are; code and names in links do not count."""
    shown = figures(pages)
    said = figures(re.sub(r"`[^`]*`|\]\([^)]*\)", "", paragraph))
    return {one for one in said if one not in rounded(shown, len(one.partition(".")[2]))}


def test_every_figure_of_the_findings_stands_on_a_page_that_is_linked() -> None:
    checked = 0
    for paragraph in (ROOT / "docs/findings.md").read_text().split("\n\n")[2:-1]:
        linked = re.findall(r"\]\(\.\./results/(\w+)\.md\)", paragraph)
        assert linked, paragraph
        pages = "\n".join((RESULTS / f"{name}.md").read_text() for name in linked)
        assert not unknown(paragraph, pages), paragraph[:60]
        checked += len(figures(paragraph))
    assert checked > 100


def test_a_figure_that_stands_nowhere_is_noticed() -> None:
    page = "| a | 82.04 [77.1, 1,235.0] | -3.6 |"
    assert unknown("**82.0** [77.1, 1,235] and +3.6 `5 in code` [a](b7.md)", page) == set()
    assert unknown("82.1 of 12, the 44-class set", page) == {"82.1", "12"}


TABLES: dict[str, Any] = {
    "title": "A",
    "about": ["About."],
    "commands": ["make demo"],
    "tables": {
        "one": {
            "title": "One",
            "corner": "model",
            "columns": {"accuracy": "%", "images": 0, "ratio": "", "note": "%"},
            "rows": {
                "x": [{"value": 0.9, "low": 0.87, "high": 0.93}, 1235, 0.985, "left out"],
                "y": [0.5, 2, 1.4, None],
            },
        },
        "two": {
            "title": "Two",
            "text": "Text.",
            "columns": {"accuracy": "%"},
            "rows": {"x": [{"value": 0.8, "low": 0.76, "high": 0.84}], "z": [0.1]},
        },
        "change": {"title": "Change", "minus": ["one", "two"], "of": ["accuracy"]},
    },
    "remarks": ["Remark."],
    "record": {
        "recorded": "typed", "date": "2026-01-01", "commit": None, "hardware": "2 cores", "python": "3.11",
        "versions": {"torch": "2", "timm": "1"}, "took": "an hour",
    },
}  # fmt: skip


def test_a_page_of_tables() -> None:
    """The difference is computed, its interval that of Zou and Donner: half-widths of 3 and 4 points add to 5."""
    text = results.tables(TABLES)
    assert "| model | accuracy | images | ratio | note |\n|---|---|---|---|---|\n" in text
    assert "| x | 90.0 [87.0, 93.0] | 1,235 | 0.985 | left out |\n| y | 50.0 | 2 | 1.4 |  |\n" in text
    assert "## Change\n\n|  | accuracy |\n|---|---|\n| x | 10.0 [5.0, 15.0] |\n\n" in text
    assert "## Two\n\nText.\n\n" in text
    assert "```sh\nmake demo\n```" in text
    assert text.endswith(
        "- Remark.\n\nRecord: date 2026-01-01; commit not recorded; hardware 2 cores; Python 3.11; "
        "versions torch 2, timm 1; an hour. How it came here: typed.\n"
    )
    assert results.number(-0.0004, "%") == "0.0"


def test_a_row_that_does_not_fit_and_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 'x': got 1 cells; expected 2"):
        results.rows({"columns": {"a": 0, "b": 0}, "rows": {"x": [1]}})
    (tmp_path / "odd.json").write_text('{"title": "A"}')
    with pytest.raises(UserError, match="the keys title; expected runs, archives or tables"):
        results.page(tmp_path / "odd.json", tmp_path)


def test_the_page_of_copies_shows_the_parts_that_were_counted() -> None:
    record = {"date": "2026-01-01", "commit": "abc", "python": "3.11", "versions": {"numpy": "2"}}
    part = {
        "differs": ["a/b, all classes: 9 readable images, its publisher states 10"],
        "sources": {"a/b": {"images": 9, "distinct_pixels": 8, "quarantined": 1, "classes": {"x": 5, "y": 4}}},
        "plain": {"pairs": 3, "groups": 7, "largest_group": 2},
        "variants": {
            "as configured": {
                "near_pairs": 6, "turned": 5, "groups": 4, "largest_group": 3,
                "conflicting_groups": 2, "conflicting_images": 1,
            }
        },
        "overlap": {"a/b": {"a/b": 4}},
        "published_test": {"a/b": {"images": 4, "same_pixels": 2}},
        "record": record,
    }  # fmt: skip
    text = results_copies.page({"archives": {"a/b": part}})
    assert "- a/b, all classes: 9 readable images, its publisher states 10\n\n| source |" in text
    assert "| a/b | 9 | 1 | 8 | x 5, y 4 |" in text
    assert "4 test images of a/b, 2 have the same pixels" in text
    assert "| as configured | 6 | 5 | 4 | 3 | 2 | 1 |" in text
    assert "with a copy in" not in text  # one archive has no other to share with
    assert "planted" not in text.partition("## ")[2]
    assert "| as configured | 6 | 5 | 4 | 3 | 2 | 1 |\n\nCounted at commit abc.\n" in text
    assert text.endswith("Record: 2026-01-01, commit abc, Python 3.11, numpy 2.\n")
    both = {**part, "overlap": {"a/b": {"a/b": 4, "c/d": 3}, "c/d": {"a/b": 2, "c/d": 1}}}
    assert "| images of … with a copy in … | a/b | c/d |" in results_copies.page({"archives": {"a/b, c/d": both}})
    lines = results_copies.planted({"originals": 1000, "recall": {"flipped": [9, 10]}, "precision": [8, 8]})
    assert lines[0] == "1,000 originals, 10 planted copies."
    assert "| flipped | 10 | 90.00 [59.58, 98.21] |" in lines  # Wilson's interval of 9 of 10


def test_the_page_of_copies_says_how_thresholds_held_on_folds_left_out() -> None:
    held = {"accepted": 1000, "false": 9, "crossing": 20}
    ways = [
        {"chosen_on": [1, 2], "similarity": 0.6, "strict": 0.8, "there": held | {"false": 0}, "others": held},
        {"chosen_on": [1, 3], "similarity": 1.0, "strict": 1.0},
    ]
    part = {
        "persons": [{"class": "glioma", "fold 2": "5 to 9", "fold 3": "41 to 45"}],
        "slices": 10, "limit": 0.007, "ways": {"2": ways},
        "configured": {"similarity": 0.65, "strict": 0.84, "accepted": 100, "false": 0, "crossing": 4},
    }  # fmt: skip
    text = "\n".join(results_copies.folds(part))
    assert "| class | fold 2 | fold 3 |\n|---|---|---|\n| glioma | 5 to 9 | 41 to 45 |" in text
    assert "within 0.7 %" in text
    assert "| 1, 2 | 0.60 | 0.80 | 0 of 1000 | 9 of 1000 | 0.90 [0.47, 1.70] | 20 |" in text  # Wilson's of 9 of 1000
    assert "in 1 of 2 ways the pairs are too few" in text
    assert "9 of 1000 accepted pairs of the folds left out are false, at most 0.90 % in one way" in text
    assert "0.65 and 0.84, stricter than every one of these" in text
    part["configured"]["strict"] = 0.79
    assert "0.65 and 0.79, not stricter than every one of these" in results_copies.folds(part)[-1]


def test_the_page_of_copies_shows_what_other_tools_found_of_altered_slices() -> None:
    own = {"copies": 10, "found": 9, "crossing": 2, "false": 1}
    alone = results_copies.altered({"kinds": {"mirrored": {"ours": own}}})
    assert alone[-1] == "| mirrored | 10 | 90.00 [59.58, 98.21] | 2 | 1 |"
    both = results_copies.altered({"kinds": {"mirrored": {"ours": own, "another": own | {"found": 5, "false": 7}}}})
    assert both[0].endswith("| another: found, %, and false pairs |")
    assert both[-1].endswith("| 2 | 1 | 50.0, 7 |")
    assert all(line.count("|") == both[0].count("|") for line in both)


def test_a_benchmark_puts_its_rows_beside_those_of_other_runs(tmp_path: Path) -> None:
    page = {key: TABLES[key] for key in ("title", "about", "commands", "tables")}
    into = tmp_path / "one.json"
    keep(into, "two", {"x": [0.25]}, {"x": {"seeds": 3}}, page)
    keep(into, "two", {"y": [0.5]}, {"y": {"seeds": 4}}, page)
    keep(into, "two", {"x": [0.75]}, {"x": {"seeds": 5}})
    content = json.loads(into.read_text())
    assert list(content["tables"]) == ["two"]  # no table without rows
    assert content["tables"]["two"]["rows"] == {"x": [0.75], "y": [0.5]}
    assert content["measured"] == {"two": {"x": {"seeds": 5}, "y": {"seeds": 4}}}
    text = results.page(into, tmp_path)
    assert "## Two\n\nText.\n\n" in text
    assert "| x | 75.0 |\n| y | 50.0 |" in text
    assert "not recorded" not in text
