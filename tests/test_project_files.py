"""What stands around the code: one name and one version everywhere, and templates that GitHub can read."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import tumorxai

ROOT = Path(__file__).resolve().parents[1]
FORMS = [
    *(path for path in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")) if path.stem != "config"),
    *sorted((ROOT / ".github/DISCUSSION_TEMPLATE").glob("*.yml")),
]
KINDS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}
PAGES = [ROOT / name for name in ("SECURITY.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md")]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_package_citation_and_archive_say_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = load(ROOT / "CITATION.cff")
    zenodo = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    assert project["version"] == citation["version"] == zenodo["version"] == tumorxai.__version__
    assert project["license"] == citation["license"] == zenodo["license"]
    assert (
        citation["title"]
        == zenodo["title"]
        == f"TumorXAI: {project['description'][0].lower()}{project['description'][1:]}"
    )
    assert citation["type"] == zenodo["upload_type"]
    names = [author["name"] for author in project["authors"]]
    assert names == [one["name"] for one in citation["authors"]] == [one["name"] for one in zenodo["creators"]]
    assert project["keywords"] == zenodo["keywords"]


def test_the_changes_of_this_version_stand_under_its_day_and_there_is_room_for_the_next() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    released = load(ROOT / "CITATION.cff")["date-released"].isoformat()
    assert headings[:2] == ["Unreleased", f"{tumorxai.__version__} - {released}"]
    assert json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))["publication_date"] == released
    pages = re.findall(r"^## From (\S+) to (\S+)$", (ROOT / "docs/migration.md").read_text(), flags=re.MULTILINE)
    assert pages[0][1] == tumorxai.__version__


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_has_what_github_asks_for(path: Path) -> None:
    form = load(path)
    if path.parent.name == "ISSUE_TEMPLATE":
        assert form["name"]
        assert form["description"]
    asked = [one for one in form["body"] if one["type"] != "markdown"]
    assert asked
    ids = [one["id"] for one in asked]
    assert len(set(ids)) == len(ids)
    for one in form["body"]:
        assert one["type"] in KINDS
        assert one["attributes"]["value" if one["type"] == "markdown" else "label"]
        assert one["type"] != "dropdown" or one["attributes"]["options"]


def test_the_forms_of_every_purpose_are_there() -> None:
    assert {path.stem for path in FORMS} == {"bug", "feature", "dataset", "question", "q-a"}
    assert load(ROOT / ".github/ISSUE_TEMPLATE/config.yml")["blank_issues_enabled"] is False


@pytest.mark.parametrize("path", [*FORMS, *PAGES], ids=lambda path: path.stem)
def test_files_that_are_named_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"\w+:|#", link)]
    named = re.findall(r"\b(?:docs|src)/[\w./-]+\.(?:md|yaml|py)|\b[A-Z_]+\.md\b", text) if path in FORMS else []
    for name in [*links, *named]:
        assert (ROOT / name).exists(), name
